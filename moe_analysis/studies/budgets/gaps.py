"""Differences at equal budgets, and at each method's own best size, over tasks and seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...evidence import Effect
from ..systems.endpoints import effect_of, gap, kept_scores, within_guessing
from .differences import equal_budgets
from .measure import AtBudgets
from .points import best_within_budget


def precondition(found: AtBudgets, part: str, method: str, other: str) -> str:
    """Why a comparison is impossible; empty if it is possible."""
    if missing := [name for name in (method, other) if name not in set(found.scores["method"])]:
        return f"no run of {' or '.join(missing)}"
    return within_guessing(found.tasks, found.guessing, part)


def subtracted(measure: str, better: str, other: str) -> tuple[str, str]:
    """Who is subtracted from whom, so that a difference above zero says that `better` is: a loss is better lower."""
    return (other, better) if measure == "loss" else (better, other)


def at_equal_budgets(found: AtBudgets, part: str, method: str, other: str, measure: str = "accuracy") -> Effect | str:
    """method minus other, as the mean over all budgets at which they have the same size.

    Over tasks and seeds, or over seeds alone where the part has one data set.
    """
    if reason := precondition(found, part, method, other):
        return reason
    budgets = equal_budgets(found.results, method, other).index
    gaps = []
    for budget in budgets:
        own = gap(found.scores[found.scores["budget"] == budget], found.tasks, part, method, other, measure)
        if isinstance(own, str):
            return own
        gaps.append(own)
    if not gaps:
        return "no equal budget"
    seeds = gaps[0].columns
    for own in gaps[1:]:
        seeds = seeds.intersection(own.columns)
    if seeds.empty:
        return "no common seed"
    mean = pd.DataFrame(np.mean([own[seeds].to_numpy() for own in gaps], axis=0))
    return effect_of(mean, found.tasks, part)


def at_best_size(found: AtBudgets, part: str, method: str, other: str) -> Effect | str:
    """method minus other, each seed with the size that is best for the other seeds of its method; as `at_equal_budgets`.

    Only seeds that have all sizes of their method count: a size that is not trained yet would be one that it cannot choose.
    """
    if reason := precondition(found, part, method, other):
        return reason
    sizes = found.scores.groupby("method")["budget"].nunique()
    if single := [name for name in (method, other) if sizes[name] < 2]:
        return f"only one size of {' and '.join(single)} was trained, so there is no choice"
    if few := [name for name in (method, other) if len(whole_seeds(found.results, part, name)) < 2]:
        return f"fewer than two seeds of {' and '.join(few)} have all of their sizes, so no seed can choose for another"
    tables = [best_scores(found, part, name) for name in (method, other)]
    seeds = tables[0].columns.intersection(tables[1].columns)
    if seeds.empty:
        return f"{method} and {other} share no seed that has all of their sizes"
    return effect_of(tables[0][seeds] - tables[1][seeds], found.tasks, part)


def best_scores(found: AtBudgets, part: str, method: str) -> pd.DataFrame:
    """(tasks, seeds) of one method, each seed at the budget that the others choose."""
    own = found.results[(found.results["method"] == method) & (found.results["part"] == part)]
    best = best_within_budget(own[own["seed"].isin(whole_seeds(found.results, part, method))])
    best = best[(best["measure"] == "accuracy") & (best["budget"] == best["budget"].max())].dropna(subset=["chosen"])
    rows = kept_scores(found.scores, found.tasks, part)
    rows = rows[rows["method"] == method].merge(
        best[["seed", "chosen"]].rename(columns={"chosen": "budget"}), on=["seed", "budget"]
    )
    return rows.pivot(index="dataset", columns="seed", values="accuracy")


def whole_seeds(results: pd.DataFrame, part: str, method: str) -> list[int]:
    """The seeds at which a method was tested at all of its sizes."""
    own = results[(results["method"] == method) & (results["part"] == part)]
    sizes = own.groupby("seed")["budget"].nunique()
    return sizes.index[sizes == own["budget"].nunique()].tolist()
