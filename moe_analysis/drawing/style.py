"""Colors, marker shapes and print sizes that every figure shares.

The eight base colors are those of Okabe & Ito (2008), readable with any color vision, with gray instead of black and a
darker yellow that is visible on white. No set of 20 colors is, so beyond eight categories the marker differs too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from math import isfinite
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BASE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5A5A", "#B8A800")
DARK = ("#003F63", "#7D3700", "#005540", "#8A3D68", "#8F6200", "#1C78AD", "#1A1A1A", "#6B6200")
LIGHT = ("#7FBDE3", "#F5A26B", "#7ED0B5", "#E8BBD3", "#F7CF7A", "#A9DCF5", "#9C7BE0", "#B3A93C")
PALETTE = BASE + DARK + LIGHT

# matplotlib's shapes with plotly's names of them
SHAPES = {
    "o": "circle",
    "^": "triangle-up",
    "s": "square",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "<": "triangle-left",
    ">": "triangle-right",
    "d": "diamond-tall",
    "*": "star",
    "p": "pentagon",
    "h": "hexagon",
}
MARKERS, SYMBOLS = tuple(SHAPES)[:6], tuple(SHAPES.values())[:6]  # the most different ones

# the methods that are drawn together: within a comparison, no two have the same color
SYSTEM_COLORS = {
    "LoRA": "#5A5A5A",
    "LoRA-MoE": "#0072B2",
    "mix-and-match": "#E69F00",
    "T-REX": "#009E73",
    "SiRA": "#CC79A7",
    "HydraLoRA": "#8C6D31",
    "MixLoRA": "#56B4E9",
    "MoMOR": "#7F4FC9",
    "S'MoRE": "#D55E00",
}
# sizes and parts of one system that are drawn with it and the others: similar to its color, different from all others
VERSION_COLORS = {
    "HydraLoRA (4)": "#8C6D31",
    "HydraLoRA (8)": "#C9A86A",
    "MixLoRA (4)": "#56B4E9",
    "MixLoRA (8)": "#4292C6",
    "S'MoRE (2-2)": "#F28C8C",
    "S'MoRE (4-4)": "#D55E00",
    "S'MoRE, width 16": "#E98A7A",
    "S'MoRE, width 32": "#8F2D0C",
    "T-REX, smaller": "#5CBF3A",
    "T-REX, router alone": "#0B5D45",  # the same runs, routed without their intuition
    "rank-1 diagonal": "#A3365F",  # of the pairs of T-REX's vectors, those that make a mixture of rank-1 experts
}
# plain, preconditioned, rescaled, both: one color for the forms of both optimizers; `method_dash` distinguishes them
FORM_COLORS = {"{}": "#5A5A5A", "R{}": "#0072B2", "g{}": "#E69F00", "gR{}": "#D55E00"}
METHOD_COLORS = (
    SYSTEM_COLORS
    | VERSION_COLORS
    | {form.format(name): color for name in ("SGD", "AdamW") for form, color in FORM_COLORS.items()}
)
METHOD_MARKERS = {
    "LoRA": "o",
    "LoRA-MoE": "v",
    "mix-and-match": "<",
    "T-REX": "P",
    "SiRA": "X",
    "HydraLoRA": "^",
    "MixLoRA": "s",
    "MoMOR": ">",
    "S'MoRE": "D",
    "S'MoRE*": "*",
} | {form.format(name): marker for name in ("SGD", "AdamW") for form, marker in zip(FORM_COLORS, "o^sD")}

FULL_WIDTH, HALF_WIDTH = 7.2, 3.5  # inches: two columns of a paper, one column

RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.titlesize": 10,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.35,
    "pdf.fonttype": 42,
    "svg.hashsalt": "moe_analysis",
}

# for figures that are projected on a wall: texts must be readable from the back of a room
LARGE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "figure.titlesize": 11,
    "axes.linewidth": 0.9,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
}
# plotly's names of dashes, matplotlib's patterns
DASHES: dict[str, Any] = {"solid": "-", "dash": (0, (4, 1.6)), "dot": (0, (1, 1.4))}
NOTE = "#4A4A4A"  # color of the note below a figure
NOTE_SIZE = 0.85  # of the other letters
BANDS = "Lines are means over seeds; shades reach from the lowest seed to the highest."


class Mark(NamedTuple):
    """How one category is drawn: `color`, matplotlib's `marker`, plotly's `symbol`."""

    color: str
    marker: str
    symbol: str


@contextmanager
def use_style(large: bool = False) -> Iterator[None]:
    """Print style for the matplotlib figures made inside: `with use_style(): fig = figure(7, 4)`.

    The caller's settings are restored when the block ends.
    """
    import matplotlib

    with matplotlib.rc_context(RC | LARGE if large else RC):
        yield


def figure(width: float = FULL_WIDTH, height: float = 4.0) -> Figure:
    """An empty matplotlib figure, in inches, with constrained layout; pyplot does not keep it.

    Call it inside `use_style()`, and add axes with `fig.subplots(...)` or `fig.subplot_mosaic(...)`.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def note_below(fig: Figure, text: str) -> None:
    """A line or two below all panels: the number of seeds, and the meaning of bars and bands. Lines wrap as needed.

    For figures made by `figure` without a legend below the panels; call it inside `use_style`, after everything else is
    drawn.
    """
    from matplotlib import rcParams

    size = NOTE_SIZE * rcParams["font.size"]
    letters = int(fig.get_figwidth() * 129 / size)  # on average, to the width
    fig.supxlabel(fill(text, letters), x=0.006, ha="left", fontsize=size, color=NOTE, linespacing=1.15)


def category_marks(names: Iterable[str]) -> dict[str, Mark]:
    """One `Mark` for each distinct name, in the given order; all different for up to 48 names.

    The same names in the same order always look the same. Raises ValueError for more than 48.
    """
    distinct = list(dict.fromkeys(names))
    most = len(BASE) * len(MARKERS)
    if len(distinct) > most:
        raise ValueError(f"names has {len(distinct)} categories, but only {most} look different; group them")
    return {
        name: Mark(PALETTE[index % len(PALETTE)], MARKERS[index // len(BASE)], SYMBOLS[index // len(BASE)])
        for index, name in enumerate(distinct)
    }


def method_color(name: str) -> str:
    """The color of a method's label; a label that is not in METHOD_COLORS gets one of the remaining colors.

    "T-REX without intuition" always gets the same color, which no method in METHOD_COLORS has.
    """
    if name in METHOD_COLORS:
        return METHOD_COLORS[name]
    rest = [color for color in PALETTE if color not in METHOD_COLORS.values()]
    return rest[sum(name.encode()) % len(rest)]


def method_marks(methods: Iterable[str]) -> dict[str, Mark]:
    """One mark per method, in its own color and shape, which are the same in every figure.

    Methods that have none, and those whose color another one of them has, get colors and shapes that are still free;
    shapes repeat from the 14th method on.

    >>> [mark.marker for mark in method_marks(["S'MoRE", "T-REX", "your method"]).values()]
    ['D', 'P', 'd']
    """
    names = list(dict.fromkeys(methods))
    kept = {METHOD_MARKERS[name] for name in names if name in METHOD_MARKERS}
    order = sorted(SHAPES, key=lambda marker: marker in METHOD_MARKERS.values())  # first those that no method has
    shapes = cycle([marker for marker in order if marker not in kept] or SHAPES)
    marks: dict[str, Mark] = {}
    for name in names:
        taken = [mark.color for mark in marks.values()]
        free = [color for color in PALETTE if color not in taken and color not in map(method_color, names)]
        color = free[0] if method_color(name) in taken and free else method_color(name)
        marker = METHOD_MARKERS.get(name) or next(shapes)
        marks[name] = Mark(color, marker, SHAPES[marker])
    return marks


def method_dash(name: str) -> str:
    """plotly's dash of a method's line: the forms of AdamW are dashed, since they have the same colors as those of SGD.

    >>> method_dash("gRSGD"), method_dash("gRAdamW")
    ('solid', 'dash')
    """
    return "dash" if name.endswith("AdamW") else "solid"


def luminance(color: str) -> float:
    """Relative luminance of "#0072B2", 0 for black and 1 for white (WCAG 2.2)."""
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ink_on(image: Any, value: float) -> str:
    """`text_on` the color that an image of `imshow` gives a value; one that is not finite leaves its cell white."""
    from matplotlib.colors import to_hex

    return text_on(to_hex(image.to_rgba(value)) if isfinite(value) else "#FFFFFF")


def text_on(color: str) -> str:
    """Black or white, whichever has more contrast with a background of that color: a contrast of at least 4.5.

    >>> text_on("#0072B2"), text_on("#E69F00")
    ('#FFFFFF', '#000000')
    """
    ground = luminance(color)
    return "#000000" if (ground + 0.05) / 0.05 > 1.05 / (ground + 0.05) else "#FFFFFF"
