"""The statements of S'MoRE's Figs. 2 and 3, compared with counts on real modules. Both are exact."""

from __future__ import annotations

import pandas as pd

from ...evidence import Claim
from .measure import FIGURE3_OUTPUTS, Flexibility, ThreeTrees

STATEMENTS = {"MoMOR": "Theorem 3.3", "S'MoRE": "Theorem 3.4", "S'MoRE*": "Corollary 3.5"}
NAMES = {"MoMOR": "momor", "S'MoRE": "smore", "S'MoRE*": "smore_star"}


def claims(found: Flexibility | ThreeTrees) -> list[Claim]:
    """The claims of either figure."""
    return [trees_claim(found)] if isinstance(found, ThreeTrees) else counting_claims(found.table, found.points)


def counting_claims(table: pd.DataFrame, points: pd.DataFrame) -> list[Claim]:
    """Fig. 2: enumerated outputs against the closed forms; S'MoRE and S'MoRE* reach Γ, MoMOR at most its bound.

    Args:
        table: system, layers, flexibility.
        points: system, layers, outputs.

    Example:
        >>> [(claim.measured, claim.verdict) for claim in counting_claims(closed_forms, outputs)]
        [([3, 18], 'holds'), ([3, 27], 'holds'), ([3, 12], 'holds')]
    """
    found = []
    for system in dict.fromkeys(points["system"]):
        merged = points[points["system"] == system].merge(table, on=["system", "layers"])
        measured, expected = list(merged["outputs"]), [int(value) for value in merged["flexibility"]]
        at_most = system == "MoMOR"
        gaps = [max(0, one - most) if at_most else abs(one - most) for one, most in zip(measured, expected)]
        deepest = f"L = 1 to {merged['layers'].max()}" if len(merged) > 1 else f"L = {merged['layers'].max()}"
        found.append(
            Claim(
                f"smore_fig2_{NAMES[system]}",
                f"S'MoRE {STATEMENTS[system]}",
                f"{system} has {'at most ' if at_most else ''}Γ distinct outputs, {deepest}",
                measured,
                expected,
                float(max(gaps, default=float("nan"))),
                bool(gaps) and max(gaps) == 0,
            )
        )
    return found


def trees_claim(found: ThreeTrees) -> Claim:
    """Fig. 3: the numbers of distinct outputs of the three trees, in the order of the systems."""
    expected = [FIGURE3_OUTPUTS[system] for system in found.distinct]
    measured = list(found.distinct.values())
    return Claim(
        "smore_fig3_three_trees",
        "S'MoRE Fig. 3",
        f"{', '.join(found.distinct)} give this many different outputs for the three trees",
        measured,
        expected,
        float(max(abs(one - other) for one, other in zip(measured, expected))),
        measured == expected,
    )
