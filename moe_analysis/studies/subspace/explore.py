"""I down and J up vectors in the rank plot: the dimensions that their experts span, and their parameters (Lemma 4.1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...drawing.explorer import Explorer, View, choice, slider
from ...drawing.style import FULL_WIDTH, figure, use_style
from ...evidence import counted
from .draw_span import draw_heat, draw_kinds
from .measure import Span
from .parameters import PAPER_DOWN, PAPER_UP

RING = {
    "marker": "o",
    "markersize": 15,
    "markerfacecolor": "none",
    "markeredgecolor": "#D55E00",
    "markeredgewidth": 2,
    "linestyle": "",
    "zorder": 5,
}


def widget(found: Span, num_down: int | None = None, num_up: int | None = None, kind: str = "independent") -> Explorer:
    """Sliders for I and J, a list of kinds of vectors, and the two rank plots with a ring around the chosen size.

    num_down, num_up: the first size (None: 4 and 8, the authors' size, or the largest that was measured).
    Raises ValueError for sizes and kinds that were not measured.
    """
    ranks = found.ranks
    most = {name: int(ranks[name].max()) for name in ("I", "J")}
    num_down = min(PAPER_DOWN, most["I"]) if num_down is None else num_down
    num_up = min(PAPER_UP, most["J"]) if num_up is None else num_up

    def draw(num_down: int, num_up: int, kind: str) -> View:
        own = ranks[ranks["kind"] == kind]
        one = own[(own["I"] == num_down) & (own["J"] == num_up)].iloc[0]
        alt = (
            f"Left, the measured span of every I and J with {kind} vectors, {one['measured']} at I = {num_down}, "
            f"J = {num_up}. Right, the span against the number of experts for all kinds of vectors."
        )
        return View(rank_figure(ranks, one), alt, rank_note(one, found.sizes))

    controls = {
        "num_down": slider("num_down", "Down vectors I", num_down, 1, most["I"], "Vectors that read the input"),
        "num_up": slider("num_up", "Up vectors J", num_up, 1, most["J"], "Vectors that write the output"),
        "kind": choice(
            "kind",
            "Vectors",
            kind,
            list(dict.fromkeys(ranks["kind"])),
            "Independent vectors, or degenerate ones: dependent, repeated, partly zero, too many",
        ),
    }
    return Explorer(controls, draw)


def rank_figure(ranks: pd.DataFrame, one: pd.Series) -> Figure:
    """The heat map of one kind and the spans of all kinds, with a ring around the row `one` of the frame."""
    own = ranks[ranks["kind"] == one["kind"]]
    with use_style():
        drawing = figure(FULL_WIDTH, 3.1)
        left, right = np.ravel(drawing.subplots(1, 2))
        draw_heat(left, own)
        left.set_title(f"(a) measured span, vectors: {one['kind']}")
        draw_kinds(right, ranks)
        place: Any = (sorted(own["I"].unique()).index(one["I"]), sorted(own["J"].unique()).index(one["J"]))
        left.plot(*place, **RING)
        right.plot(one["experts"], one["measured"], **RING)
    return drawing


def rank_note(one: pd.Series, sizes: pd.DataFrame) -> str:
    """The lemma's numbers for one size, its parameters, and the largest LoRA-MoE with as many factor parameters."""
    at = sizes[(sizes["system"] == "T-REX") & (sizes["I"] == one["I"]) & (sizes["J"] == one["J"])].iloc[0]
    lines = [
        f"{one['I']} + {one['J']} vectors make {one['experts']} experts; rank(A) = {one['rank_a']}, rank(B) = "
        f"{one['rank_b']}: predicted span {one['predicted']}, measured {one['measured']}.",
        f"Parameters: {at['factor_parameters']:,} in the factors, {at['parameters']:,} with the router.",
    ]
    mixtures = sizes[(sizes["system"] == "LoRA-MoE") & (sizes["factor_parameters"] <= at["factor_parameters"])]
    if len(mixtures):
        other = mixtures.loc[mixtures["experts"].idxmax()]
        lines.append(
            f"LoRA-MoE with at most as many in its factors: {counted(other['experts'], 'rank-1 expert')}, "
            f"span {other['span']}, {other['parameters']:,} parameters with the router."
        )
    return "\n".join(lines)
