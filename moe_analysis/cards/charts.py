"""Small drawings of a card as SVG: curves with and without axes, bars, and a value compared with guessing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

WIDE, HIGH = 460, 150  # pixels of a curve's picture
LEFT, RIGHT, TOP, FOOT = 44, 12, 10, 26  # of them around the drawing
MOST_POINTS = 200  # of a curve; more are means of neighbors
BAR, GAP, TALL = 12, 3, 44  # pixels of a bar
FEW = 12  # bars; of more each is half as wide
SPARK_WIDE, SPARK_HIGH = 100, 24  # units of a drawing that is stretched to the room there is
SPARK = f'viewBox="0 0 {SPARK_WIDE} {SPARK_HIGH}" preserveAspectRatio="none"'
LEAST_SPAN = 0.02  # of the largest value: what moves by less is drawn flat


@dataclass(frozen=True)
class Curve:
    """steps and values of equal length; kind: "line", or "points" for a few values on their own."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    kind: str = "line"


def curves(drawn: Sequence[Curve], what: str, colors: Sequence[str] = ()) -> Markup:
    """Curves over steps on one axis; empty if no value is finite.

    Args:
        drawn: Values that are not finite are left out.
        what: What the values are, for a screen reader.
        colors: As "#0072B2", one for each curve; without them the first two differ.
    """
    from markupsafe import Markup

    points = [thinned(curve) for curve in drawn]
    every = [point for some in points for point in some]
    if not every:
        return Markup("")
    steps, values = zip(*every)
    (first, last), (low, high) = span(steps), span(values)

    def at(step: float, value: float) -> tuple[float, float]:
        across = LEFT + (WIDE - LEFT - RIGHT) * (step - first) / (last - first)
        return round(across, 1), round(HIGH - FOOT - (HIGH - TOP - FOOT) * (value - low) / (high - low), 1)

    parts = [
        f'<line class="axis" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{HIGH - FOOT}" y2="{HIGH - FOOT}"/>',
        f'<line class="axis" x1="{LEFT}" x2="{LEFT}" y1="{TOP}" y2="{HIGH - FOOT}"/>',
        f'<text x="{LEFT - 5}" y="{TOP + 8}" text-anchor="end">{short(high)}</text>',
        f'<text x="{LEFT - 5}" y="{HIGH - FOOT}" text-anchor="end">{short(low)}</text>',
        f'<text x="{LEFT}" y="{HIGH - 8}">step {short(min(steps))}</text>',
        f'<text x="{WIDE - RIGHT}" y="{HIGH - 8}" text-anchor="end">{short(max(steps))}</text>',
    ]
    told = []
    for place, curve in enumerate(drawn):
        if not (some := points[place]):
            continue
        told.append(f"{curve.name} from {short(some[0][1])} to {short(some[-1][1])}")
        spots = [at(*point) for point in some]
        line, fill = (f' style="{kind}: {colors[place]}"' if colors else "" for kind in ("stroke", "fill"))
        if curve.kind == "line" and len(spots) > 1:
            way = " ".join(f"{x},{y}" for x, y in spots)
            parts.append(f'<polyline class="curve c{place}"{line} points="{way}"/>')
        else:
            parts += [f'<circle class="spot c{place}"{fill} cx="{x}" cy="{y}" r="4"/>' for x, y in spots]
    return svg("chart", parts, f"{what}: {'; '.join(told)}.", f'viewBox="0 0 {WIDE} {HIGH}"')


def thinned(curve: Curve) -> list[tuple[float, float]]:
    """The finite points of a curve, of many the means of neighbors."""
    points = [(float(step), float(value)) for step, value in zip(curve.steps, curve.values) if math.isfinite(value)]
    size = -(-len(points) // MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def span(values: Sequence[float]) -> tuple[float, float]:
    """The smallest and the largest of some values, apart by more than nothing."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def short(value: float) -> str:
    """
    >>> short(300.0), short(0.123456)
    ('300', '0.123')
    """
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def bars(shares: Sequence[float], even: float, what: str) -> Markup:
    """A bar for each share, and a line at what each would have if all were equal.

    Args:
        shares: Not negative; a share that is not finite has no bar.
        even: Where the line is.
        what: What the bars are, for a screen reader.
    """
    top = max([even, *(share for share in shares if math.isfinite(share))]) or 1.0
    bar = BAR if len(shares) <= FEW else BAR // 2
    wide = len(shares) * (bar + GAP) + GAP
    parts = []
    for place, share in enumerate(shares):
        if math.isfinite(share):
            tall, x = round(TALL * share / top, 1), GAP + place * (bar + GAP)
            title = f"<title>{place}: {share:.3g}</title>"
            parts.append(f'<rect class="c0" x="{x}" y="{TALL - tall:.1f}" width="{bar}" height="{tall}">{title}</rect>')
    y = round(TALL - TALL * even / top, 1)
    parts.append(f'<line class="even" x1="0" x2="{wide}" y1="{y}" y2="{y}"/>')
    told = f"{what}: {', '.join(f'{share:.3g}' for share in shares)}; equal shares are {even:.3g}."
    return svg("bars", parts, told, f'width="{wide}" height="{TALL}" viewBox="0 0 {wide} {TALL}"')


def beside(value: float, reference: float) -> Markup:
    """A share of 1 as a bar, and a mark at what it has to beat; no bar or mark for values that are not finite."""
    from markupsafe import Markup

    parts = ['<rect class="ground" x="0" y="3" width="100%" height="8"/>']
    if math.isfinite(value):
        parts.append(f'<rect class="c0" x="0" y="3" width="{100 * min(max(value, 0), 1):.1f}%" height="8"/>')
    if math.isfinite(reference):
        at = f"{100 * min(max(reference, 0), 1):.1f}%"
        parts.append(f'<line class="guess" x1="{at}" x2="{at}" y1="0" y2="14"/>')
    return Markup(f'<svg class="beside" aria-hidden="true" width="100%" height="14">{"".join(parts)}</svg>')


def heights(values: Sequence[float], from_zero: bool = False) -> list[float | None]:
    """Each value as a share of the range that the values have; None for values that are not finite.

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


def spark_curve(values: Sequence[float], told: str) -> Markup:
    """A curve without axes that takes the width there is, with a gap where a value is not finite.

    Args:
        values: At equal distances.
        told: What the curve shows, for a screen reader.
    """
    at = heights(values)
    x = SPARK_WIDE / max(1, len(values) - 1)
    parts, line = [], list[str]()
    for place, one in enumerate([*at, None]):
        if one is not None:
            line.append(f"{place * x:.1f},{SPARK_HIGH - 2 - (SPARK_HIGH - 4) * one:.1f}")
            continue
        if len(line) == 1:  # a line of no length, which its round ends make a dot
            line.append(line[0])
        if line:
            parts.append(f'<polyline points="{" ".join(line)}"/>')
        line = []
    return svg("curve", parts, told, SPARK)


def spark_bars(values: Sequence[float], told: str) -> Markup:
    """Amounts as bars that share the width there is; `told` as for `spark_curve`."""
    width = SPARK_WIDE / max(1, len(values))
    parts = [
        f'<rect x="{place * width:.2f}" y="{SPARK_HIGH * (1 - one):.1f}" width="{0.8 * width:.2f}" '
        f'height="{SPARK_HIGH * one:.1f}"/>'
        for place, one in enumerate(heights(values, from_zero=True))
        if one is not None
    ]
    return svg("bars", parts, told, SPARK)


def svg(kind: str, parts: Sequence[str], told: str, size: str) -> Markup:
    """A drawing with its description.

    Args:
        kind: Its class in the style of the cards.
        parts: What is drawn, as elements of SVG.
        told: What it shows, for a screen reader; escaped here.
        size: Attributes such as a viewBox.
    """
    from markupsafe import Markup

    words = escape(told)
    content = f"<title>{words}</title>{''.join(parts)}"
    return Markup(f'<svg class="{kind}" role="img" aria-label="{words}" {size}>{content}</svg>')
