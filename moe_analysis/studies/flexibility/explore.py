"""s, f and L in the flexibility plot: closed forms at once, and all routings of a real module computed while you wait."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import pandas as pd

from ...drawing.explorer import Explorer, View, slider
from ...drawing.style import HALF_WIDTH, figure, use_style
from ...theory.flexibility import flexibility_table, smore_flexibility
from .draw import draw_outputs, exact
from .measure import SYSTEMS, Flexibility, enumerated_outputs

MOST_EXPERTS, MOST_CHILDREN, MOST_LAYERS = 8, 4, 6  # of the sliders; a larger first value raises them
LIVE_TREES = 10_000  # that are computed when a slider moves


def widget(
    found: Flexibility, num_experts: int | None = None, fanout: int | None = None, layers: int | None = None
) -> Explorer:
    """Sliders for the pool size s, the fanout f and the layers L, and Fig. 2 for them.

    They start at the measured values or at the given ones. For other sizes than the measured one, depths with up to
    10 000 trees are computed at once; deeper ones show only their closed forms, and the note says so. A fanout above
    the pool size is refused. Raises ValueError for sizes that no layer can have.
    """

    @lru_cache(maxsize=256)
    def walked(s: int, f: int, depth: int) -> pd.DataFrame:
        known = found.points[found.points["layers"] == depth]
        return known if (s, f) == (found.num_experts, found.fanout) and len(known) else live_outputs(s, f, [depth])

    def draw(num_experts: int, fanout: int, layers: int) -> View:
        table = flexibility_table(num_experts, fanout, range(1, layers + 1), SYSTEMS)
        points = pd.concat([walked(num_experts, fanout, depth) for depth in range(1, layers + 1)], ignore_index=True)
        alt = (
            f"Distinct outputs of MoMOR, S'MoRE* and S'MoRE, logarithmic, against 1 to {layers} layers of "
            f"{num_experts} experts with fanout {fanout}; lines: closed forms, marks: enumerated."
        )
        with use_style():
            drawing = figure(HALF_WIDTH + 0.7, 3.0)
            panel: Any = drawing.subplots()
            draw_outputs(panel, Flexibility(num_experts, fanout, table, points))
        panel.yaxis.get_major_locator().set_params(integer=True)  # whole powers of ten even if Γ is small
        low, high = panel.get_ylim()
        panel.set_ylim(min(low, -0.1), max(high, 1.1))
        return View(drawing, alt, flexibility_note(table, points))

    s = found.num_experts if num_experts is None else num_experts
    f = found.fanout if fanout is None else fanout
    depth = int(found.table["layers"].max()) if layers is None else layers
    controls = {
        "num_experts": slider("num_experts", "Experts s", s, 1, max(MOST_EXPERTS, s), "Experts in every pool"),
        "fanout": slider("fanout", "Fanout f", f, 1, max(MOST_CHILDREN, f), "Children of every node of the tree"),
        "layers": slider("layers", "Layers L", depth, 1, max(MOST_LAYERS, depth), "Pools above one another"),
    }
    return Explorer(controls, draw)


def live_outputs(num_experts: int, fanout: int, layers: Iterable[int]) -> pd.DataFrame:
    """`enumerated_outputs` of the depths that have at most LIVE_TREES trees; columns system, layers, outputs."""
    light = [depth for depth in layers if smore_flexibility([num_experts] * depth, [fanout] * depth) <= LIVE_TREES]
    return enumerated_outputs(num_experts, fanout, light)


def flexibility_note(table: pd.DataFrame, found: pd.DataFrame) -> str:
    """Γ of every system at the largest depth, what enumeration found there, and which depths were not computed."""
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
