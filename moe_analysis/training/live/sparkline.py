"""Curves in a line: of blocks for a terminal, of an SVG for a notebook."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

BLOCKS = "▁▂▃▄▅▆▇█"
LEAST_SPAN = 0.02  # of the largest value: what moves by less is drawn flat
WIDTH, HEIGHT = 100, 24  # units of an SVG, which is stretched to the room there is


def binned(values: Sequence[float], most: int) -> list[float]:
    """At most so many values: means of neighbors, without those that are not finite; NaN where none is.

    >>> binned([1.0, 3.0, 5.0, float("nan")], 2)
    [2.0, 5.0]
    """
    if len(values) <= most:
        return list(values)
    edges = [len(values) * place // most for place in range(most + 1)]
    parts = ([one for one in values[a:b] if math.isfinite(one)] for a, b in zip(edges, edges[1:]))
    return [sum(part) / len(part) if part else math.nan for part in parts]


def heights(values: Sequence[float], from_zero: bool = False) -> list[float | None]:
    """Every value between 0 and 1 of the range that the values have; None for what is not finite.

    Args:
        values: What is drawn.
        from_zero: Whether the range begins at zero, as for amounts.
    """
    finite = [one for one in values if math.isfinite(one)]
    if not finite:
        return [None] * len(values)
    low, high = (min(0.0, *finite) if from_zero else min(finite)), max(finite)
    if high - low <= LEAST_SPAN * max(abs(high), abs(low)):
        flat = 0.5 if high else 0.0
        return [flat if math.isfinite(one) else None for one in values]
    return [(one - low) / (high - low) if math.isfinite(one) else None for one in values]


def blocks(values: Sequence[float], most: int, from_zero: bool = False) -> str:
    """A curve of at most so many characters; a gap where there is no number.

    >>> blocks([4.0, 3.0, float("nan"), 1.0], 10)
    '█▆ ▁'
    """
    places = heights(binned(values, most), from_zero)
    return "".join(" " if one is None else BLOCKS[round(one * (len(BLOCKS) - 1))] for one in places)


def svg_curve(values: Sequence[float], told: str) -> str:
    """A curve as an SVG that takes the width there is; told: what it shows, for who cannot see it."""
    at = heights(values)
    x = WIDTH / max(1, len(values) - 1)
    parts, line = [], list[str]()
    for place, one in enumerate([*at, None]):
        if one is not None:
            line.append(f"{place * x:.1f},{HEIGHT - 2 - (HEIGHT - 4) * one:.1f}")
            continue
        if len(line) == 1:  # a line of no length, which its round ends make a dot
            line.append(line[0])
        if line:
            parts.append(f'<polyline points="{" ".join(line)}"/>')
        line = []
    return svg("curve", "".join(parts), told)


def svg_bars(values: Sequence[float], told: str) -> str:
    """Amounts as bars that share the width there is."""
    width = WIDTH / max(1, len(values))
    bars = (
        f'<rect x="{place * width:.2f}" y="{HEIGHT * (1 - one):.1f}" width="{0.8 * width:.2f}" '
        f'height="{HEIGHT * one:.1f}"/>'
        for place, one in enumerate(heights(values, from_zero=True))
        if one is not None
    )
    return svg("bars", "".join(bars), told)


def svg(kind: str, content: str, told: str) -> str:
    words = escape(told)
    return (
        f'<svg class="{kind}" role="img" aria-label="{words}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none"><title>{words}</title>{content}</svg>'
    )
