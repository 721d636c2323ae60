"""How an interactive page stands on a screen: title, menus, panels and legend in rows that do not meet.

Plotly places menus, titles and panels without looking at each other. Here each gets its row, in pixels: on a wide
screen panels side by side, on a phone below one another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .panels import BREAK, Panel, categories, panels, traces_of, wrapped
from .placing import (
    lay_bars,
    menus_in_a_column,
    menus_in_a_row,
    move,
    place_legend,
    place_top,
    slant_names,
    spread,
    tidy_logarithms,
)
from .rooms import DESK, EDGE, PHONE, ROUND, below, left_of, over

if TYPE_CHECKING:
    import plotly.graph_objects as go

NAMES = 130  # pixels, the most that names at a vertical axis take of a phone's width
MOST_LEFT = 210  # pixels to the left of a phone's panels, also where one word is longer
ROW, ROW_LINE = 20, 13.5  # the height of a row with a name, and of each line of a name that takes several
EYE = 1.6  # of a scene in space, from where its corners fit into a square; plotly's own is 1.25
TALL = 280  # the height of a panel with numbers on a phone


def arranged(fig: go.Figure) -> go.Figure:
    """The figure itself, arranged for a wide screen: panels in a row, menus over them and under the title.

    The legend stands below several panels, and at the right of a single one. The height stays. The last step of every
    function that makes an interactive figure; once more, it changes nothing.
    """
    found = panels(fig)
    tidy_logarithms(fig, found)
    row = len(found) > 1 and len({one.top for one in found}) == 1
    if row:
        spread(fig, found, DESK)
        found = panels(fig)
    top = place_top(fig, found, DESK, menu_rows=1)
    left = max((left_of(fig, one, DESK) for one in found if one.left == 0), default=0)
    menus_in_a_row(fig, DESK, 1.12 * DESK.width - left)
    margin: dict[str, Any] = {"t": top, "l": EDGE + left, "r": 2 * EDGE}
    if row or fig.layout.legend.orientation == "h":
        width = DESK.width - 3 * EDGE - left  # plotly keeps a legend as narrow as the drawing
        for one in found:
            slant_names(fig, one, DESK, (one.right - one.left) * width)
        margin["b"] = max(below(fig, one, DESK, (one.right - one.left) * width) for one in found)
        margin["b"] += place_legend(fig, DESK, width)
    fig.update_layout(margin=margin)
    return fig


def narrow(fig: go.Figure) -> go.Figure:
    """A copy arranged for a phone: panels below one another, bars of colours over theirs, the legend last.

    Its height follows from what it holds. A figure with a `least_width` in `layout.meta` keeps its panels side by side,
    and its page scrolls.
    """
    import plotly.graph_objects as go

    fig = go.Figure(fig)
    found, rows = panels(fig), len(fig.layout.updatemenus)
    if least_width(fig):
        fig.update_layout(margin_t=place_top(fig, found, PHONE, menu_rows=rows))
        return fig
    fig.update_layout(font={"size": PHONE.text})
    for one in found:
        fold(fig, one)
    left = min(max((left_of(fig, one, PHONE) for one in found), default=EDGE), MOST_LEFT)
    room = PHONE.width - left - EDGE
    top = place_top(fig, found, PHONE, menu_rows=rows)
    menus_in_a_column(fig, PHONE, left, room)
    for one in found:
        slant_names(fig, one, PHONE, room)
    under = [below(fig, one, PHONE, room) for one in found]
    whole = stack(fig, found, [height_of(fig, one, room) for one in found], under, room)
    bottom = (under[-1] if found else 0) + place_legend(fig, PHONE, room)
    fig.update_layout(
        height=round(top + whole + bottom), margin={"l": left, "r": EDGE, "t": top, "b": bottom, "autoexpand": False}
    )
    return fig


def least_width(fig: go.Figure) -> int:
    """The width in pixels below which a figure's page scrolls sideways; 0 for one that becomes as narrow as a phone."""
    return int((fig.layout.meta or {}).get("least_width", 0))


def width_for(pixels: float) -> dict[str, int]:
    """`layout.meta` of a figure that needs so many pixels; {} where a phone has as many."""
    return {"least_width": round(pixels)} if pixels > PHONE.width else {}


def fold(fig: go.Figure, one: Panel) -> None:
    """Names and titles of a panel in lines that a phone has room for, and few enough numbers at its axes."""
    if one.title is not None:
        note = fig.layout.annotations[one.title]
        note.text = wrapped(note.text, PHONE.width - 4 * EDGE, PHONE.panel_title)
    if one.y is None:
        fold_round(fig, one)
        return
    across, up = fig.layout[one.x], fig.layout[one.y]
    names = categories(fig, one, "y")
    up.update(title={"font": {"size": 11}}, tickfont={"size": PHONE.tick})
    across.update(title={"font": {"size": 11}})
    if up.showticklabels is False and up.matches:
        up.showticklabels = True  # it was told by the panel to the left
    if names:
        up.update(tickvals=names, ticktext=[wrapped(name.replace(BREAK, " "), NAMES, PHONE.tick) for name in names])
    if across.title.text:
        across.title.text = wrapped(across.title.text, PHONE.width - 6 * EDGE, 11)
    if not categories(fig, one, "x"):
        across.update(tickangle=0, nticks=6, tickfont={"size": PHONE.tick})


def fold_round(fig: go.Figure, one: Panel) -> None:
    """The names around a polar plot in short lines; a scene in space seen from farther away."""
    if one.x.startswith("scene"):
        if fig.layout[one.x].camera.eye.x is None:
            fig.layout[one.x].camera.eye = {"x": EYE, "y": EYE, "z": EYE}
        return
    names = list(dict.fromkeys(str(name) for trace in traces_of(fig, one) for name in trace.theta))
    lines = [wrapped(name, ROUND - 8, 9) for name in names]
    fig.layout[one.x].angularaxis.update(tickmode="array", tickvals=names, ticktext=lines, tickfont={"size": 9})


def height_of(fig: go.Figure, one: Panel, room: float) -> float:
    """The height of a panel on a phone: square in the round or in space, a row a name, else `TALL`."""
    if one.y is None:
        return room - ROUND if one.x.startswith("polar") else room
    if not categories(fig, one, "y"):
        return TALL
    names = fig.layout[one.y].ticktext
    lines = max(text.count(BREAK) + 1 for text in names)
    maps = [trace for trace in traces_of(fig, one) if trace.type == "heatmap"]  # of which menus show one at a time
    rows = max(len(trace.y) for trace in maps) if maps else len(names)
    return max(160, rows * max(ROW, ROW_LINE * lines))


def stack(fig: go.Figure, found: list[Panel], heights: list[float], under: list[float], room: float) -> float:
    """Panels one below the other, with their titles over them; returns the height of the drawing between margins."""
    head = [0.0, *(over(fig, one, bars=True) for one in found[1:])]  # the first one's is in the upper margin
    foot = [*under[:-1], 0.0]
    whole = sum(heights) + sum(head) + sum(foot)
    end = whole
    for one, height, above, beneath in zip(found, heights, head, foot, strict=True):
        end -= above
        beside = ROUND if one.x.startswith("polar") else 0
        place = one._replace(
            left=0.0, right=1 - beside / room, bottom=max(0.0, (end - height) / whole), top=min(1.0, end / whole)
        )
        move(fig, place)
        lay_bars(fig, place, 1 / whole)
        end -= height + beneath
    return whole
