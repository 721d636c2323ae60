"""How interactive figures are arranged: the same on light and dark pages, with margins that plotly computes itself."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import BASE, text_on

if TYPE_CHECKING:
    import plotly.graph_objects as go

PHONE = 360  # CSS pixels
PANEL_TITLE, MENU, TITLE, NOTE = 30, 44, 40, 20  # pixels that each of them takes above a drawing
NOTE_WIDTH = 36  # characters per line of a note that fit on a phone next to the names at an axis
BESIDE_BAR = 1.16  # of the drawing's width: where a legend next to a color bar starts


def arranged(fig: go.Figure, note: str = "", **layout: Any) -> go.Figure:
    """The same figure, arranged: the last step of every function that makes an interactive figure.

    Margins grow with the labels of the axes, the title takes the first row, menus the row above the drawing, and the
    legend is at the right. The height does not change. A second call changes nothing.

    Args:
        fig: The drawn figure.
        note: Under the title: the number of seeds and the meaning of bars.
        layout: Other arguments of `update_layout`: title, height in pixels, updatemenus.
    """
    fig.update_layout(template="plotly_white", **layout)
    if note:
        lines = "<br>".join(wrap(note, NOTE_WIDTH))
        fig.update_layout(title={"subtitle": {"text": lines, "font": {"size": 12}}})
    fig.update_layout(template=template("light"), title={"x": 0, "xref": "paper", "xanchor": "left"})
    fig.update_xaxes(automargin="height+right")  # the last of several slanted names may overhang
    fig.update_yaxes(automargin="width")
    write_numbers(fig)
    for trace in fig.select_traces(selector=labeled):
        trace.textfont.color = [text_on(color) for color in trace.marker.color]
    top = PANEL_TITLE
    for number, menu in enumerate(fig.layout.updatemenus):
        place = number / len(fig.layout.updatemenus)
        menu.update(x=place, xanchor="left", y=1, yanchor="bottom", pad={"b": PANEL_TITLE})
        top = PANEL_TITLE + MENU
    under = fig.layout.title.subtitle.text
    told = NOTE * (1 + under.count("<br>")) if under else 0
    fig.update_layout(margin={"l": 16, "r": 24, "t": top + TITLE + told, "b": 16})
    if any("colorbar" in trace and trace.type == "heatmap" and trace.showscale is not False for trace in fig.data):
        fig.update_layout(legend_x=BESIDE_BAR)
    return fig


def write_numbers(fig: go.Figure) -> None:
    """Axes without plotly's prefixes of small values: not 100µ, but 10⁻⁴ on a logarithmic axis and 0.0001 on another.

    Logarithmic axes are meant whose values are all at most 1, such as learning rates, or begin below 1e-3, where the
    prefixes begin; others whose values are below 1000. Thousands and millions keep theirs.
    """
    for letter in "xy":
        flat = [trace for trace in fig.data if f"{letter}axis" in trace and trace[letter] is not None]  # no scenes
        for axis in getattr(fig, f"select_{letter}axes")():
            name = axis.plotly_name.replace("axis", "")
            write_axis(axis, [trace[letter] for trace in flat if (trace[f"{letter}axis"] or letter) == name])
    for scene in fig.select_scenes():
        own = [trace for trace in fig.data if "scene" in trace and (trace.scene or "scene") == scene.plotly_name]
        for letter in "xyz":
            write_axis(scene[f"{letter}axis"], [trace[letter] for trace in own if trace[letter] is not None])


def write_axis(axis: Any, drawn: Sequence[Any]) -> None:
    """drawn: the values of every trace on it."""
    try:
        values = np.abs(np.concatenate([np.empty(0), *(np.asarray(one, float) for one in drawn)]))
    except (TypeError, ValueError):  # names or dates
        return
    values = values[np.isfinite(values) & (values > 0)]
    if axis.exponentformat is not None or not values.size:
        return
    if axis.type == "log" and (values.max() <= 1 or values.min() < 1e-3):
        axis.exponentformat = "power"
    elif axis.type != "log" and values.max() < 1e3:
        axis.exponentformat = "none"


def labeled(trace: Any) -> bool:
    """Whether a trace's texts are on marks of several colors and have no color of their own."""
    if trace.type != "scatter" or "text" not in (trace.mode or "") or trace.textfont.color is not None:
        return False
    colors = trace.marker.color
    return trace.textposition in (None, "middle center") and isinstance(colors, tuple) and isinstance(colors[0], str)


def width_for(pixels: float) -> dict[str, int]:
    """`layout.meta` of a figure that needs this many pixels, so that its page scrolls; {} if it fits on a phone."""
    return {"least_width": round(pixels)} if pixels > PHONE else {}


def least_width(fig: go.Figure) -> int:
    """The width in pixels below which a figure's page scrolls sideways; 0 for a figure that fits on a phone."""
    return int((fig.layout.meta or {}).get("least_width", 0))


def template(theme: str) -> dict[str, Any]:
    """plotly's template of the "light" or the "dark" page: the same layout in different colors."""
    ink, quiet, ground, grid = COLORS[theme]
    axis = {
        "gridcolor": grid,
        "zerolinecolor": grid,
        "linecolor": quiet,
        "tickcolor": quiet,
        "title": {"standoff": 8},
    }
    space = {"backgroundcolor": ground, "gridcolor": grid, "zerolinecolor": grid, "linecolor": quiet}
    layout = {
        "colorway": list(BASE),
        "colorscale": {"sequential": "Viridis"},
        "font": {"color": ink, "size": 13, "family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"},
        "title": {"font": {"size": 17}},
        "paper_bgcolor": ground,
        "plot_bgcolor": ground,
        "hoverlabel": {"align": "left"},
        "annotationdefaults": {"font": {"color": ink}, "arrowcolor": quiet},
        "shapedefaults": {"line": {"color": quiet}},
        "updatemenudefaults": {"bgcolor": ground, "bordercolor": quiet, "font": {"color": ink}},
        "xaxis": axis,
        "yaxis": axis,
        "scene": dict.fromkeys(("xaxis", "yaxis", "zaxis"), space),
        "polar": {
            "bgcolor": ground,
            "angularaxis": {"gridcolor": grid, "linecolor": quiet},
            "radialaxis": {"gridcolor": grid, "linecolor": quiet},
        },
    }
    bars = [{"colorbar": {"outlinewidth": 0, "thickness": 14, "title": {"side": "right"}}}]
    return {"layout": layout, "data": {"heatmap": bars}}


# ink, quiet lines, ground, grid: those of the pages
COLORS = {
    "light": ("#1d2129", "#59616e", "#ffffff", "#e4e4e0"),
    "dark": ("#e8e9ec", "#a7aeba", "#1c2027", "#3a404b"),
}
