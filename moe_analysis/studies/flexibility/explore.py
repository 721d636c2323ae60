"""s, f and L in the flexibility plot: closed forms at once, and all routings of a real module computed while you wait."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from ...drawing.explorer import Explorer, View, slider
from ...theory.flexibility import flexibility_table, smore_flexibility
from .measure import SYSTEMS, enumerated_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .measure import Flexibility

MOST_EXPERTS, MOST_CHILDREN, MOST_LAYERS = 8, 4, 6  # of the sliders; a larger first value raises them
LIVE_TREES = 10_000  # that are computed when a slider moves


def widget(
    found: Flexibility, num_experts: int | None = None, fanout: int | None = None, layers: int | None = None
) -> Explorer:
    """Pool size, fanout and layers; they start at the measured values or at the given ones."""
    size = (found.num_experts, found.fanout)
    first = tuple(size[at] if one is None else one for at, one in enumerate((num_experts, fanout)))
    deepest = int(found.table["layers"].max()) if layers is None else layers
    return flexibility_widget(found.points if first == size else found.points.iloc[:0], first[0], first[1], deepest)


def flexibility_widget(points: pd.DataFrame, num_experts: int = 4, fanout: int = 2, layers: int = 5) -> Explorer:
    """Sliders for the pool size s, the fanout f and the layers L, and Fig. 2 for them.

    points: what `enumerated_outputs(num_experts, fanout)` returned, the marks that are shown first. For other sizes,
    depths with up to 10 000 trees are computed at once; deeper ones show only their closed forms, and the note says so.
    A fanout above the pool size is refused. Raises ValueError for sizes that no layer can have.
    """

    @lru_cache(maxsize=256)
    def walked(s: int, f: int, depth: int) -> pd.DataFrame:
        known = points[points["layers"] == depth]
        if (s, f) == (num_experts, fanout) and len(known):
            return known
        return live_outputs(s, f, [depth])

    def draw(num_experts: int, fanout: int, layers: int) -> View:
        from .draw import flexibility_figure

        table = flexibility_table(num_experts, fanout, range(1, layers + 1), SYSTEMS)
        found = pd.concat([walked(num_experts, fanout, depth) for depth in range(1, layers + 1)], ignore_index=True)
        alt = (
            f"Distinct outputs of MoMOR, S'MoRE* and S'MoRE, logarithmic, against 1 to {layers} layers of "
            f"{num_experts} experts with fanout {fanout}; lines: closed forms, marks: enumerated."
        )
        figure = flexibility_figure(table, found, f"s = {num_experts}, f = {fanout}")
        panel: Any = figure.axes[0]
        panel.yaxis.get_major_locator().set_params(integer=True)  # whole powers of ten even if Γ is small
        low, high = panel.get_ylim()
        panel.set_ylim(min(low, -0.1), max(high, 1.1))
        return View(figure, alt, flexibility_note(table, found))

    controls = {
        "num_experts": slider(
            "num_experts", "Experts s", num_experts, 1, max(MOST_EXPERTS, num_experts), "Experts in every pool"
        ),
        "fanout": slider(
            "fanout", "Fanout f", fanout, 1, max(MOST_CHILDREN, fanout), "Children of every node of the tree"
        ),
        "layers": slider("layers", "Layers L", layers, 1, max(MOST_LAYERS, layers), "Pools above one another"),
    }
    return Explorer(controls, draw)


def live_outputs(num_experts: int, fanout: int, layers: Iterable[int]) -> pd.DataFrame:
    """`enumerated_outputs` of the depths that have at most LIVE_TREES trees; columns system, layers, outputs."""
    light = [depth for depth in layers if smore_flexibility([num_experts] * depth, [fanout] * depth) <= LIVE_TREES]
    return enumerated_outputs(num_experts, fanout, light)


def flexibility_note(table: pd.DataFrame, found: pd.DataFrame) -> str:
    """Γ of every system at the largest depth, what enumeration found there, and which depths were not computed."""
    from .draw import exact

    last = table["layers"].max()
    marks = found[found["layers"] == last].set_index("system")["outputs"]
    lines = []
    for row in table[table["layers"] == last].itertuples():
        form = "at most" if row.system == "MoMOR" else "Γ ="
        seen = f"; {exact(marks[row.system])} found by computing all routings" if row.system in marks else ""
        lines.append(f"{row.system}, L = {last}: {form} {exact(row.flexibility)}{seen}")
    if left := sorted(set(table["layers"]) - set(found["layers"])):
        trees = table[(table["system"] == "S'MoRE") & (table["layers"] == left[0])]["flexibility"].iloc[0]
        lines.append(
            f"Not computed: L = {', '.join(map(str, left))}. L = {left[0]} already has {exact(trees)} trees; "
            f"at most {LIVE_TREES:,} are computed while you wait."
        )
    return "\n".join(lines)
