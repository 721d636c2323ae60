"""S'MoRE Fig. 2: how many outputs routing can produce, against the number of layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...drawing.layout import arranged
from ...drawing.style import HALF_WIDTH, SYSTEM_COLORS, figure, method_marks, note_below, use_style
from .measure import Flexibility

COLORS = {
    "MoMOR": SYSTEM_COLORS["MoMOR"],
    "S'MoRE*": "#0072B2",
    "S'MoRE": SYSTEM_COLORS["S'MoRE"],
    "S'MoRE#": "#E69F00",
    "S'MoRE, σ = id": "#009E73",
}


def plot(found: Flexibility, ax: Axes | None = None) -> Figure | Axes:
    """Γ against the number of layers, logarithmic."""
    if ax is not None:
        return draw_outputs(ax, found)
    with use_style():
        fig = figure(HALF_WIDTH + 0.7, 3.0)
        draw_outputs(fig.subplots(), found)
        note_below(fig, found.note("Lines are formulas, marks are outputs counted on modules."))
    return fig


def draw_outputs(panel: Any, found: Flexibility) -> Axes:
    """The closed forms as lines, the outputs that enumeration found as marks."""
    table, points = found.table, found.points
    # if systems agree, their marks are inside one another
    shapes = method_marks(table["system"])
    for number, (system, color) in enumerate(colors_of(table).items()):
        curve = table[table["system"] == system].sort_values("layers")
        panel.plot(
            curve["layers"],
            curve["log10"],
            color=color,
            linestyle="--" if system == "MoMOR" else "-",
            label=f"{system}, {'bound' if system == 'MoMOR' else 'closed form'}",
        )
        marks = points[points["system"] == system].sort_values("layers")
        panel.plot(
            marks["layers"],
            log10(marks["outputs"]),
            shapes[system].marker,
            color=color,
            markerfacecolor="none",
            markersize=max(3.0, 9.0 - 2.5 * number),
            label=f"{system}, enumerated",
        )
    panel.set(xlabel="layers L", ylabel="distinct outputs Γ", title=f"structural flexibility, {found.sizes}")
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:g}}}$")
    panel.grid(axis="y")
    panel.legend(loc="upper left", handlelength=2.2)
    return panel


def colors_of(table: pd.DataFrame) -> dict[str, str]:
    """Colors of the systems in the table's order; raises ValueError for a system that has none."""
    systems = list(dict.fromkeys(table["system"]))
    if unknown := [system for system in systems if system not in COLORS]:
        raise ValueError(f"table has the unknown systems {', '.join(unknown)}; known are {', '.join(COLORS)}")
    return {system: COLORS[system] for system in systems}


def log10(values: Sequence[int] | pd.Series) -> np.ndarray:
    """Logarithms of exact integers of any size."""
    return np.array([math.log10(int(value)) for value in values])


def interactive(found: Flexibility) -> go.Figure:
    """The same; hover gives the exact numbers."""
    table, points = found.table, found.points
    fig = go.Figure()
    shapes = method_marks(table["system"])
    for system, color in colors_of(table).items():
        curve = table[table["system"] == system].sort_values("layers")
        fig.add_scatter(
            x=curve["layers"],
            y=curve["log10"],
            mode="lines",
            name=system,
            legendgroup=system,
            line={"color": color, "dash": "dash" if system == "MoMOR" else "solid"},
            customdata=[exact(value) for value in curve["flexibility"]],
            hovertemplate=f"{system}, L = %{{x}}<br>Γ = %{{customdata}}<extra></extra>",
        )
        marks = points[points["system"] == system].sort_values("layers")
        fig.add_scatter(
            x=marks["layers"],
            y=log10(marks["outputs"]),
            mode="markers",
            name=f"{system}, enumerated",
            legendgroup=system,
            customdata=[exact(value) for value in marks["outputs"]],
            marker={
                "color": "white",
                "size": 11,
                "symbol": shapes[system].symbol,
                "line": {"color": color, "width": 2},
            },
            hovertemplate=f"{system}, L = %{{x}}<br>%{{customdata}} distinct outputs found<extra></extra>",
        )
    fig.update_yaxes(title_text="distinct outputs Γ", tickprefix="10<sup>", ticksuffix="</sup>")
    fig.update_xaxes(title_text="layers L", dtick=1)
    return arranged(fig, title={"text": f"Structural flexibility, {found.sizes}"}, height=480)


def exact(value: Any) -> str:
    """An integer with commas between thousands; for a long one, the first digits and the power of ten."""
    value = int(value)
    return f"{value:,}" if value < 10**15 else f"{str(value)[0]}.{str(value)[1:4]}… × 10^{len(str(value)) - 1}"
