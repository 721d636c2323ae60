"""The verdicts on S'MoRE's Fig. 4 and Table 5, by the rule of `efficiency_comparison`.

Every function returns rows with the columns source, claim, paper, measured, spread, verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .efficiency_comparison import (
    ALL,
    EQUAL,
    area_differences,
    equal_budget_differences,
    equal_budgets,
    joint_verdict,
)

OTHERS = ("LoRA", "MixLoRA", "HydraLoRA")
FIGURE, TABLE = "S'MoRE Fig. 4", "S'MoRE Table 5"
FIGURE_PAPER = "better for every gate type at equal budget, on seven benchmarks (drawn)"
TABLE_PAPER = "more layers help (direction only: the table's numbers are not known to us)"
NOT_STATED = "not stated"


def budget_claims(
    results: pd.DataFrame, part: str, method: str = "S'MoRE", others: Sequence[str] = OTHERS, tolerance: float = EQUAL
) -> pd.DataFrame:
    """Fig. 4 on one part of the tests, from a table of results (see `budget_curves`).

    Accuracy at equal budget, the mean over all budgets at which trainable parameters differ by at most `tolerance`: a
    row an opponent, and one for all of them. Then what the paper does not say: the loss; the best accuracy within each
    budget; the mean accuracy over the logarithm of trainable, and of active, parameters on the common range. For
    gate types see `gate_claims`. Raises ValueError for an unknown part or method.

    >>> budget_claims(results, "originals")[["claim", "verdict"]].iloc[0].tolist()
    ["originals: S'MoRE is more accurate than LoRA at equal budget", 'reproduced']
    """
    rows = rows_of(results, part)
    at, best = (equal_budget_differences(rows, method, others, tolerance, best=best) for best in (False, True))
    at, best = at[at["budget"] == ALL], best[best["budget"] == ALL]
    accuracy = at[at["measure"] == "accuracy"]
    budgets = f"; {shared_budgets(rows, method, others, tolerance)}"
    found = [
        claim(
            FIGURE,
            f"{part}: {method} is more accurate than {other} at equal budget",
            FIGURE_PAPER,
            accuracy[accuracy["against"] == other],
        )
        for other in others
    ]
    every = f"{', '.join(others[:-1])} and {others[-1]}" if len(others) > 1 else others[0]
    found.append(
        claim(
            FIGURE,
            f"{part}: {method} is more accurate than each of {every} at equal budget",
            FIGURE_PAPER,
            accuracy,
            budgets,
        )
    )
    beyond = {
        "has a lower loss at equal budget": at[at["measure"] == "loss"],
        "is more accurate when each may stay below the budget": best[best["measure"] == "accuracy"],
    }
    for size in ("trainable", "active"):
        areas = area_differences(rows, method, others, size)
        text = f"is more accurate on average over the logarithm of {size} parameters, common range"
        beyond[text] = areas[areas["measure"] == "accuracy"]
    found += [
        claim(f"beyond {FIGURE}", f"{part}: {method} {text} (against {every})", NOT_STATED, compared)
        for text, compared in beyond.items()
    ]
    return pd.DataFrame(found)


def gate_claims(results: pd.DataFrame, part: str, gates: Sequence[str], tolerance: float = EQUAL) -> pd.DataFrame:
    """Fig. 4 gate by gate on one part of the tests: S'MoRE against MixLoRA with the same gate, LoRA and HydraLoRA.

    gates: names as in the methods "S'MoRE (dense)" and "MixLoRA (dense)" of the results. A row a gate on the accuracy,
    the mean over the budgets at which sizes are equal, and one on the loss, which the paper does not show. Raises
    ValueError for an unknown part or gate.

    >>> gate_claims(gated, "originals", ["dense"])["claim"].iloc[0]
    "originals: S'MoRE (dense) is more accurate than each of LoRA, MixLoRA (dense) and HydraLoRA at equal budget"
    """
    rows, found = rows_of(results, part), []
    for gate in gates:
        method, others = f"S'MoRE ({gate})", ["LoRA", f"MixLoRA ({gate})", "HydraLoRA"]
        at = equal_budget_differences(rows, method, others, tolerance)
        at = at[at["budget"] == ALL]
        every = f"each of {', '.join(others[:-1])} and {others[-1]}"
        found += [
            claim(
                FIGURE,
                f"{part}: {method} is more accurate than {every} at equal budget",
                FIGURE_PAPER,
                at[at["measure"] == "accuracy"],
            ),
            claim(
                f"beyond {FIGURE}",
                f"{part}: {method} has a lower loss than {every} at equal budget",
                NOT_STATED,
                at[at["measure"] == "loss"],
            ),
        ]
    return pd.DataFrame(found)


def rows_of(results: pd.DataFrame, part: str) -> pd.DataFrame:
    rows = results[results["part"] == part]
    if rows.empty:
        known = ", ".join(map(repr, dict.fromkeys(results["part"])))
        raise ValueError(f"part = {part!r} has no rows; the results have {known or 'none'}")
    return rows


def shared_budgets(results: pd.DataFrame, method: str, others: Sequence[str], tolerance: float) -> str:
    """How many budgets are equal against each opponent, and how far the sizes differ at them."""
    counted = []
    for other in others:
        ratio = equal_budgets(results, method, other, tolerance)
        span = f" (sizes {ratio.min():.2f} to {ratio.max():.2f} times its)" if len(ratio) else ""
        counted.append(f"{len(ratio)} against {other}{span}")
    return f"equal budgets: {', '.join(counted)}"


def layers_claims(table: pd.DataFrame, part: str) -> pd.DataFrame:
    """Table 5 on one part of the tests, from `layers_table`: each number of layers against the fewest.

    The accuracy is the paper's claim, the loss ours; both are means over the equal budgets. Raises ValueError for a
    part without rows.

    >>> layers_claims(layer_table, "originals")["claim"].iloc[0]
    "originals: S'MoRE of 2 layers is more accurate than of 1 at equal budget"
    """
    rows = table[(table["part"] == part) & (table["budget"] == ALL)]
    if rows.empty:
        known = ", ".join(map(repr, dict.fromkeys(table["part"])))
        raise ValueError(f"part = {part!r} has no rows; the table has {known or 'none'}")
    found = []
    for measure, text in (("accuracy", "more accurate"), ("loss", "lower in loss")):
        chosen = rows[rows["measure"] == measure]
        for layers in chosen["layers"].unique():
            compared = chosen[chosen["layers"] == layers]
            words = f"{part}: S'MoRE of {layers} layers is {text} than of {table['fewest'].iloc[0]} at equal budget"
            papers = (TABLE, TABLE_PAPER) if measure == "accuracy" else (f"beyond {TABLE}", NOT_STATED)
            found.append(claim(papers[0], words, papers[1], compared))
    return pd.DataFrame(found)


def claim(source: str, text: str, paper: str, found: pd.DataFrame, note: str = "") -> dict[str, str]:
    """One row from rows of `differences`, one an opponent: it holds when it holds against all of them."""
    measured, spread = [], []
    for row in found.to_dict("records"):
        method, other = row["method"], row["against"]
        if not row["seeds"] and not row["invalid"]:
            measured.append(f"{method} and {other}: no equal budget")
            continue
        measured.append(f"{method} {row['mean']:.3f}, {other} {row['mean_against']:.3f}")
        spread.append(
            f"against {other} {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}] over "
            f"{row['seeds']} paired seeds" + (f" ({row['invalid']} more without a number)" if row["invalid"] else "")
        )
    intervals = f"difference and 95 % interval: {'; '.join(spread)}" if spread else "none: nothing to compare"
    return {
        "source": source,
        "claim": text,
        "paper": paper,
        "measured": "; ".join(measured) + note,
        "spread": intervals,
        "verdict": joint_verdict(found["verdict"]),
    }
