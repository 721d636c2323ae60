"""What stands in a plotly figure: its panels from left to right, their titles, and the room that texts take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go

CHARACTER = 0.58  # mean width of a character over the size of its font, wide rather than narrow
BREAK = "<br>"


class Panel(NamedTuple):
    """One plot of a figure: the layout's keys of its axes ("xaxis2", "yaxis2"; "scene" and "polar" have no `y`), and
    the shares of the drawing between the margins that it takes. title: which of the layout's annotations names it."""

    x: str
    y: str | None
    left: float
    right: float
    bottom: float
    top: float
    title: int | None = None


def panels(fig: go.Figure) -> list[Panel]:
    """Every panel that has a trace, row by row from the top and from left to right."""
    found = dict.fromkeys(panel_keys(trace) for trace in fig.data)
    return sorted((panel(fig, *keys) for keys in found if keys), key=lambda one: (-round(one.top, 2), one.left))


def panel_keys(trace: Any) -> tuple[str, str | None] | None:
    """The layout's keys of the axes, the scene or the polar plot that a trace is drawn in; None in none of them."""
    if "xaxis" in trace and "yaxis" in trace:
        return (trace.xaxis or "x").replace("x", "xaxis"), (trace.yaxis or "y").replace("y", "yaxis")
    for field, default in (("scene", "scene"), ("subplot", "polar")):
        if field in trace:
            return trace[field] or default, None
    return None


def panel(fig: go.Figure, x: str, y: str | None) -> Panel:
    if y is None:
        domain = fig.layout[x].domain
        across, up = domain.x or (0.0, 1.0), domain.y or (0.0, 1.0)
    else:
        across, up = fig.layout[x].domain or (0.0, 1.0), fig.layout[y].domain or (0.0, 1.0)
    one = Panel(x, y, *across, *up)
    return one._replace(title=title_of(fig, one))


def traces_of(fig: go.Figure, one: Panel) -> list[Any]:
    return [trace for trace in fig.data if panel_keys(trace) == (one.x, one.y)]


def title_of(fig: go.Figure, one: Panel) -> int | None:
    """Which annotation is a panel's title, as `make_subplots(subplot_titles=…)` places it: over its upper edge."""
    for number, note in enumerate(fig.layout.annotations):
        placed = note.xref == note.yref == "paper" and note.showarrow is False and note.yanchor == "bottom"
        if placed and one.left <= note.x <= one.right and abs(note.y - one.top) < 0.01:
            return number
    return None


def has_bar(trace: Any) -> bool:
    """Whether a trace shows a bar of its colours."""
    return trace.type == "heatmap" and trace.showscale is not False


def categories(fig: go.Figure, one: Panel, letter: str) -> list[str]:
    """The texts at the ticks of a panel's x or y axis, whatever menus show; [] where there are numbers, or no axes."""
    if one.y is None:
        return []
    values = [np.ravel(trace[letter]) for trace in traces_of(fig, one) if trace[letter] is not None]
    texts = [str(value) for part in values for value in part if isinstance(value, str)]
    return list(dict.fromkeys(texts))


def decades(fig: go.Figure, one: Panel, letter: str) -> float:
    """How many powers of ten the visible positive numbers of a panel's axis reach over."""
    values = [
        np.ravel(trace[letter]).astype(float)
        for trace in traces_of(fig, one)
        if trace.visible is not False and trace[letter] is not None
    ]
    numbers = np.concatenate([np.zeros(0), *values])
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    return float(np.log10(numbers.max() / numbers.min())) if len(numbers) else 0.0


def legends(fig: go.Figure) -> Iterator[list[str]]:
    """The names in the legend at first, and after each choice from a menu that shows and hides traces."""
    shown = [trace.visible is not False for trace in fig.data]
    choices = [
        button.args[0]["visible"]
        for menu in fig.layout.updatemenus
        for button in menu.buttons
        if button.args and "visible" in button.args[0]
    ]
    for visible in [shown, *choices]:
        yield [
            str(trace.name)
            for trace, seen in zip(fig.data, visible, strict=False)
            if seen is not False and trace.name and in_legend(trace, len(fig.data))
        ]


def in_legend(trace: Any, count: int) -> bool:
    """Whether plotly lists a trace: not where it says no, not the only one of its figure, and no map of colours."""
    return trace.type != "heatmap" and (bool(trace.showlegend) if trace.showlegend is not None else count > 1)


def text_width(text: str, size: float) -> float:
    """About how wide the longest line of a text is, pixels, without its markup; size: of the font, pixels."""
    lines = re.sub(r"</?(b|i|sup|sub|span)\b[^>]*>", "", text).split(BREAK)
    return max(map(len, lines)) * CHARACTER * size


def widest(texts: Iterable[str], size: float) -> float:
    return max((text_width(text, size) for text in texts), default=0.0)


def wrapped(text: str, room: float, size: float) -> str:
    """A text in lines of at most `room` pixels, broken at spaces and underscores; a longer word stays whole."""
    lines = [""]
    for piece in re.findall(r"<br>|[^ _<]*[ _<]?", text):
        if piece == BREAK:
            lines.append("")
        elif lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > room:
            lines.append(piece)
        else:
            lines[-1] += piece
    return BREAK.join(line.rstrip() for line in lines)
