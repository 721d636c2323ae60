"""Titles, menus, panels and legends of a plotly figure put where there is room for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .panels import BREAK, Panel, categories, decades, has_bar, traces_of, wrapped
from .rooms import (
    BUTTON,
    EDGE,
    LYING_BAR,
    PHONE,
    SLANT,
    Screen,
    fits,
    left_of,
    legend_height,
    menu_width,
    over,
    right_of,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

FOREVER = 10_000  # pixels, which no legend reaches: plotly would fold a long one into a box that scrolls


def place_top(fig: go.Figure, found: list[Panel], screen: Screen, menu_rows: int) -> float:
    """The title in the upper left corner; returns the room over the drawing for it, for menus and panels' titles."""
    phone = screen is PHONE
    text, height = fig.layout.title.text, EDGE
    if text:
        text = wrapped(text.replace(BREAK, " "), screen.width - 2 * EDGE, screen.title)
        height += int(1.35 * screen.title) * (1 + text.count(BREAK)) + 4
        lift = 0.7 * screen.title if BREAK in text else 0  # plotly sets the first of several lines on y, not under it
        fig.update_layout(
            title={
                "text": text,
                "font": {"size": screen.title},
                "x": 0,
                "xref": "container",
                "xanchor": "left",
                "y": 1,
                "yref": "container",
                "yanchor": "top",
                "pad": {"l": EDGE, "t": EDGE + lift},
            }
        )
    for one in found:
        if one.title is not None:
            fig.layout.annotations[one.title].font.size = screen.panel_title
    highest = found[:1] if phone else [one for one in found if one.top == found[0].top]
    first = max((over(fig, one, bars=phone) for one in highest), default=0)
    for row, menu in enumerate(reversed(fig.layout.updatemenus)):
        menu.update(
            y=1,
            yanchor="bottom",
            font={"size": screen.text},
            pad={"b": first + 2 + BUTTON * (row if menu_rows > 1 else 0), "t": 0, "l": 0, "r": 0},
        )
    return height + first + (BUTTON * menu_rows if fig.layout.updatemenus else 0)


def menus_in_a_row(fig: go.Figure, screen: Screen, width: float) -> None:
    """Menus beside one another from the left end of a drawing of that width."""
    place = 0.0
    for menu in fig.layout.updatemenus:
        menu.update(x=place / width, xanchor="left")
        place += menu_width(menu, screen) + EDGE


def menus_in_a_column(fig: go.Figure, screen: Screen, left: float, width: float) -> None:
    """Menus from the left edge of the page; a row of buttons that is wider than a page becomes a list that opens."""
    for menu in fig.layout.updatemenus:
        menu.update(x=(EDGE - left) / width, xanchor="left")
        if menu.type == "buttons" and menu_width(menu, screen) > screen.width - 2 * EDGE:
            menu.update(type="dropdown", direction="down")


def place_legend(fig: go.Figure, screen: Screen, width: float) -> float:
    """The legend along the lower edge of the page; returns its height."""
    fig.update_layout(
        legend={
            "orientation": "h",
            "x": 0.015,
            "xref": "container",
            "xanchor": "left",
            "y": 0,
            "yref": "container",
            "yanchor": "bottom",
            "traceorder": "normal",
            "maxheight": FOREVER,
            "font": {"size": screen.text},
            "title": {"side": "top"},
        }
    )
    return legend_height(fig, screen, width)


def tidy_logarithms(fig: go.Figure, found: list[Panel]) -> None:
    """Plotly names 2 to 9 between powers of ten, too many for small panels: 1, 2, 5, or from 1.5 decades on 1 only."""
    for one in found:
        for letter, key in (("x", one.x), ("y", one.y)):
            axis = fig.layout[key] if key and one.y else None
            if axis is not None and axis.type == "log" and axis.dtick is None and axis.tickvals is None:
                reach = decades(fig, one, letter)
                if 1 < reach < 6:
                    axis.dtick = 1 if reach > 1.5 else "D2"


def slant_names(fig: go.Figure, one: Panel, screen: Screen, width: float) -> None:
    """Names under a panel of that width stand at a slope where they have no room beside one another."""
    names = categories(fig, one, "x")
    if one.y is None or not names:
        return
    axis = fig.layout[one.x]
    if axis.tickangle is None and not fits(names, axis.tickfont.size or screen.tick, width):
        axis.tickangle = -SLANT


def spread(fig: go.Figure, found: list[Panel], screen: Screen) -> None:
    """Panels of one row moved apart, so that each has room for the names and the title of its own axis.

    The panels keep their widths relative to one another.
    """
    room = 1.12 * screen.width - left_of(fig, found[0], screen) - right_of(fig, found[-1], screen) - EDGE
    gaps = [
        0.0,
        *(right_of(fig, before, screen) + left_of(fig, after, screen) for before, after in zip(found, found[1:])),
    ]
    widths = [one.right - one.left for one in found]
    share = (1 - sum(gaps) / room) / sum(widths)
    end = 0.0
    for one, gap, width in zip(found, gaps, widths, strict=True):
        start = end + gap / room
        end = start + share * width
        move(fig, one._replace(left=start, right=min(end, 1.0)))


def move(fig: go.Figure, to: Panel) -> None:
    """A panel, its title and the standing bar of its colours go where `to` says."""
    if to.title is not None:
        fig.layout.annotations[to.title].update(x=(to.left + to.right) / 2, y=to.top)
    if to.y is None:
        fig.layout[to.x].domain = {"x": [to.left, to.right], "y": [to.bottom, to.top]}
    else:
        fig.layout[to.x].domain, fig.layout[to.y].domain = [to.left, to.right], [to.bottom, to.top]
    for trace in filter(has_bar, traces_of(fig, to)):
        trace.colorbar.update(x=to.right + 0.01, y=(to.bottom + to.top) / 2, len=to.top - to.bottom)


def lay_bars(fig: go.Figure, one: Panel, pixel: float) -> None:
    """The bars of a panel's colours over it, lying; pixel: the height of one as a share of the drawing."""
    bars = list(filter(has_bar, traces_of(fig, one)))
    for trace in bars:
        trace.colorbar.update(
            orientation="h",
            x=(one.left + one.right) / 2,
            xanchor="center",
            yanchor="middle",
            y=one.top + LYING_BAR / 2 * pixel,
            len=one.right - one.left,
            thickness=8,
            ypad=0,
            xpad=0,
            title={"side": "top", "font": {"size": 11}},
            tickfont={"size": 9},
            nticks=5,
        )
    if bars and one.title is not None:
        fig.layout.annotations[one.title].y = one.top + LYING_BAR * pixel
