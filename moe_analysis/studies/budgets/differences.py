"""Systems compared at equal budgets, and more layers of S'MoRE at equal budget: differences paired by seed.

Source: S'MoRE, Fig. 4 and Table 5. Intervals here are over seeds, of means over tasks, for the figures; claims are
judged over tasks and seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...evidence.intervals import mean_interval
from .points import check_results, long_results

EQUAL = 0.1  # trainable parameters that differ by at most this share are one budget
ALL = "all"  # in the column budget: the mean over all budgets
DIFFERENCES = (
    "part",
    "measure",
    "budget",
    "method",
    "against",
    "mean",
    "mean_against",
    "difference",
    "low",
    "high",
    "seeds",
    "invalid",
)


def check_methods(known: Iterable[str], wanted: Iterable[str]) -> None:
    names = list(dict.fromkeys(known))
    if missing := [name for name in wanted if name not in names]:
        raise ValueError(
            f"no row of {', '.join(map(repr, missing))}; there are {', '.join(map(repr, names)) or 'none'}"
        )


def differences(values: pd.DataFrame, method: str, others: Sequence[str]) -> pd.DataFrame:
    """Paired differences of a frame part, measure, budget, method, seed, value: at every budget and over all of them.

    Columns part, measure, budget, method, against, mean, mean_against, difference (method minus against, in the
    measure's unit), low, high (95 % t interval), seeds, invalid (pairs in which a value is not finite). The
    budget "all" is each seed's mean over the budgets that both methods have; a seed without one of them is left out.
    Raises ValueError for a missing method.
    """
    check_methods(values["method"], (method, *others))
    finite = np.isfinite(values["value"])
    values = values.assign(value=values["value"].where(finite, np.inf))  # then a NaN of the pivot is a missing row
    rows = []
    for (part, measure), group in values.groupby(["part", "measure"], sort=False):
        table = group.pivot(index="seed", columns=["method", "budget"], values="value")
        for other in others:
            ours, theirs = (pd.DataFrame(table.get(name, {}), table.index) for name in (method, other))
            budgets = ours.columns.intersection(theirs.columns)
            pairs = [(ALL, ours[budgets].mean(axis=1, skipna=False), theirs[budgets].mean(axis=1, skipna=False))]
            pairs += [(budget, ours[budget], theirs[budget]) for budget in budgets]
            rows += [(part, measure, budget, method, other, *paired(first, second)) for budget, first, second in pairs]
    return pd.DataFrame(rows, columns=list(DIFFERENCES))


def paired(ours: pd.Series, theirs: pd.Series) -> tuple[Any, ...]:
    """(mean, mean of the other, difference, low, high, seeds, invalid) of two series of the same seeds."""
    both = np.stack([ours.to_numpy(float), theirs.to_numpy(float)])  # (2, seeds): rows of one pivot
    both = both[:, ~np.isnan(both).any(axis=0)]
    valid = both[:, np.isfinite(both).all(axis=0)]
    seeds, invalid = valid.shape[1], both.shape[1] - valid.shape[1]
    means = [float(side.mean()) if seeds else float("nan") for side in valid]
    return (*means, *mean_interval(valid[0] - valid[1]), seeds, invalid)


def equal_budgets(results: pd.DataFrame, method: str, other: str) -> pd.Series:
    """Trainable parameters of `method` / those of `other`, indexed by the budgets at which they are equal.

    Equal means that neither has more than 1 + `EQUAL` times as many as the other.
    """
    check_methods(results["method"], (method, other))
    sizes = results.drop_duplicates(["method", "budget"]).pivot(index="budget", columns="method", values="trainable")
    ratio = (sizes[method] / sizes[other]).dropna()
    return ratio[np.maximum(ratio, 1 / ratio) <= 1 + EQUAL]


def equal_budget_differences(results: pd.DataFrame, method: str, others: Sequence[str]) -> pd.DataFrame:
    """`differences` of a table of results (see `points`) at budgets at which both methods have the same size.

    These are the budgets of `equal_budgets`; if there is none, the row of "all" has no numbers.
    """
    check_results(results)
    check_methods(results["method"], (method, *others))
    values = long_results(results)
    frames = []
    for other in others:
        budgets = equal_budgets(results, method, other).index
        both = values[values["method"].isin([method, other]) & values["budget"].isin(budgets)]
        frames.append(differences(both, method, [other]) if len(budgets) else without_numbers(values, method, other))
    return pd.concat(frames, ignore_index=True)


def gaps_by_budget(results: pd.DataFrame, method: str, others: Sequence[str]) -> pd.DataFrame:
    """`equal_budget_differences` at each budget, without their mean and without untrained sizes.

    Args:
        results: a table of results (see `points`).
        method, others: methods that are not in the table are skipped.

    Example:
        >>> gaps = gaps_by_budget(results, "S'MoRE", ["LoRA", "DoRA"])
        >>> gaps[["against", "budget"]].drop_duplicates().values.tolist()
        [['LoRA', 20000], ['LoRA', 80000]]
    """
    known = set(results["method"])
    present = [name for name in others if name in known and name != method]
    if method not in known or not present:
        return pd.DataFrame(columns=list(DIFFERENCES))
    table = equal_budget_differences(results, method, present)
    single = table[(table["budget"] != ALL) & (table["seeds"] > 0)].reset_index(drop=True)
    return single.assign(budget=single["budget"].astype(int))


def drawn_budgets(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `differences` or `layers_table` to draw: for a single budget without the mean.

    The mean over one budget equals that budget.
    """
    alone = table.loc[table["budget"] != ALL, "budget"].nunique() == 1
    return table[table["budget"] != ALL] if alone else table


def without_numbers(values: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Rows of `differences` without numbers, for two methods that have no equal budget."""
    nothing = (ALL, method, other, *[float("nan")] * 5, 0, 0)
    keys = values[["part", "measure"]].drop_duplicates().itertuples(index=False)
    return pd.DataFrame([(*key, *nothing) for key in keys], columns=list(DIFFERENCES))


def layers_table(results: pd.DataFrame) -> pd.DataFrame:
    """Table 5: the effect of more layers of S'MoRE at equal budget, compared with the fewest layers.

    results: a table of results with an additional column layers, one method per number of layers. Out: the rows of
    `equal_budget_differences` (mean is that of `layers`, mean_against that of the fewest) with the columns layers and
    fewest. Raises ValueError for fewer than two numbers of layers, or two methods with the same number.

    >>> table = layers_table(layered)
    >>> table.query("measure == 'accuracy'")[["budget", "layers", "fewest", "difference"]].round(2)
      budget  layers  fewest  difference
    0    all       2       1         0.1
    1  20000       2       1         0.1
    2  80000       2       1         0.1
    """
    if "layers" not in results:
        raise ValueError("results needs a column layers, the number of layers of each method")
    known = results[["layers", "method"]].drop_duplicates().sort_values("layers")
    layers = dict(zip(known["method"], known["layers"].astype(int)))
    if len(layers) < 2 or len(known) != len(layers) or not known["layers"].is_unique:
        raise ValueError(
            "results needs one method per number of layers, and at least two numbers; it has "
            f"{known.to_numpy().tolist()}"
        )
    first, *more = layers
    table = pd.concat([equal_budget_differences(results, name, [first]) for name in more], ignore_index=True)
    return table.assign(layers=table["method"].map(layers), fewest=layers[first])
