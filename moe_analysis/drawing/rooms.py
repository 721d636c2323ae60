"""How much room the texts of an interactive page take, in pixels, judged before anything is drawn."""

from __future__ import annotations

from math import ceil, radians, sin
from typing import TYPE_CHECKING, Any, NamedTuple

from .panels import BREAK, Panel, categories, has_bar, legends, text_width, traces_of, widest

if TYPE_CHECKING:
    import plotly.graph_objects as go

EDGE, BUTTON = 12, 40  # around the page; the height of a row of menus
NUMBERS, TICKS = 50, 26  # the width of numbers at a vertical axis, the height of those under a horizontal one
TITLE = 22  # of an axis
ROUND = 64  # what stands around a polar plot
SWATCH, LINE = 52, 20  # width of what a legend draws around a name; height of a line of it
BAR, LYING_BAR = 90, 44  # width of a standing bar of colours with its numbers, height of a lying one with its title
SLANT = 60  # degrees at which long names under an axis stand


class Screen(NamedTuple):
    """The narrowest page of a kind, pixels, and the sizes of its letters."""

    width: int
    text: int
    title: int
    panel_title: int
    tick: int


DESK = Screen(width=800, text=12, title=17, panel_title=14, tick=12)
PHONE = Screen(width=360, text=11, title=14, panel_title=13, tick=10)


def left_of(fig: go.Figure, one: Panel, screen: Screen) -> float:
    """Room to the left of a panel for names or numbers, and for the title of its axis."""
    if one.y is None:
        return ROUND if one.x.startswith("polar") else EDGE
    axis = fig.layout[one.y]
    if axis.visible is False:
        return EDGE
    names = list(axis.ticktext or ()) or categories(fig, one, "y")
    ticks = EDGE if axis.showticklabels is False else 10 + widest(names, screen.tick) if names else NUMBERS
    return ticks + (TITLE if axis.title.text else 0)


def right_of(fig: go.Figure, one: Panel, screen: Screen) -> float:
    """Room to the right of a panel: for the bar of its colours, or for half of the last number."""
    if one.y is None and one.x.startswith("polar"):
        return ROUND
    return BAR if any(map(has_bar, traces_of(fig, one))) else EDGE


def below(fig: go.Figure, one: Panel, screen: Screen, width: float) -> float:
    """Room under a panel of that width for its ticks and the title of its axis."""
    if one.y is None:
        return ROUND / 2 if one.x.startswith("polar") else 0
    axis = fig.layout[one.x]
    if axis.visible is False:
        return EDGE
    names = list(axis.ticktext or ()) or categories(fig, one, "x")
    title = TITLE * (1 + axis.title.text.count(BREAK)) if axis.title.text else 0
    if axis.showticklabels is False:
        return EDGE + title
    size = axis.tickfont.size or screen.tick
    slanted = sin(radians(abs(axis.tickangle or SLANT))) * widest(names, size) + 14
    return title + (slanted if names and (axis.tickangle or not fits(names, size, width)) else TICKS)


def fits(names: list[str], size: float, width: float) -> bool:
    """Whether names in letters of that size have room beside one another."""
    return (widest(names, size) + 8) * len(names) <= width


def over(fig: go.Figure, one: Panel, bars: bool) -> float:
    """Room over a panel for its title, and for the lying bar of its colours where there are such bars."""
    notes = fig.layout.annotations
    lines = 0 if one.title is None else 1 + notes[one.title].text.count(BREAK)
    keys = sum(note.yref == f"{one.y} domain".replace("axis", "") and note.y == 1 for note in notes)
    around = ROUND / 2 if one.x.startswith("polar") else 0
    return 6 + around + 20 * lines + 16 * keys + (LYING_BAR if bars and any(map(has_bar, traces_of(fig, one))) else 0)


def legend_height(fig: go.Figure, screen: Screen, width: float) -> float:
    """Height of the legend under a drawing in which names stand in as many columns as that width has room for."""
    title = LINE if fig.layout.legend.title.text else 0
    heights = [
        title + LINE * ceil(len(names) / columns(names, screen, width)) + EDGE
        for names in map(distinct, legends(fig))
        if names
    ]
    return max(heights, default=0) if fig.layout.showlegend is not False else 0


def distinct(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


def columns(names: list[str], screen: Screen, width: float) -> int:
    """Names in a line of the legend: all of them, or as many of the widest as there is room for."""
    if sum(SWATCH + text_width(name, screen.text) for name in names) <= width:
        return len(names)
    return max(1, int(width // (SWATCH + widest(names, screen.text))))


def menu_width(menu: Any, screen: Screen) -> float:
    """Width of a menu that opens, or of a row of buttons."""
    labels = [button.label for button in menu.buttons]
    if menu.type == "buttons":
        return sum(text_width(label, screen.text) + 26 for label in labels)
    return widest(labels, screen.text) + 44
