"""S'MoRE's Fig. 4 and Table 5 on a pretrained language model, from a campaign's table: every size tuned alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ...tasks.rows import shorten
from ..asked import asked
from ..systems.scores import INSIDE
from ..systems.stored import Stored, pretrained_scores
from ..systems.tuned import BudgetRates, Tuned
from .measure import AT, FOUR, LAYERS, BudgetCurves, MoreLayers, counting, of_four, of_layers, of_table

DATASET = "commonsense_qa"  # on which S'MoRE's Table 2 gives the effects


@dataclass(frozen=True, eq=False)
class PretrainedBudgets(Tuned, BudgetCurves):
    """S'MoRE's Fig. 4 on a model that knows its language before any adapter is trained.

    Args:
        tuning: one row per run of the tuning, as `stored.Stored.tuning`.
        choose_by: what chose the cells of the final runs.
    """

    item = "smore_fig4_pretrained"
    title = "S'MoRE Fig. 4 on a pretrained language model"
    question = "Is S'MoRE more accurate than LoRA and MixLoRA of the same size on a pretrained model?"
    how_to_read = (
        "Left: accuracy on CommonsenseQA with 95 % intervals over seeds; higher and further left is better, gray steps are "
        "the Pareto front, and the dotted line is the model before training. Right: S'MoRE minus each other system at equal "
        "budget, paired by seed; above the dashed line, S'MoRE is better."
    )
    how_to_explore = (
        "“means”: accuracy or loss on CommonsenseQA with 95 % intervals over seeds; further left is smaller. “S'MoRE minus "
        "each other system”: at equal budget, paired by seed. S'MoRE is better if an accuracy is above the dashed line, or "
        "a loss below it."
    )
    judging = "claims_pretrained"
    grid = BudgetRates

    tuning: pd.DataFrame
    choose_by: str = "accuracy"


@dataclass(frozen=True, eq=False)
class PretrainedLayers(MoreLayers):
    """S'MoRE's Table 5 on a pretrained model; fields as of `MoreLayers`."""

    item = "smore_table5_pretrained"
    title = "S'MoRE Table 5 on a pretrained language model"


@asked()
def measure_pretrained(
    table: str | Path | pd.DataFrame, measure: str = "accuracy", choose_by: str | None = None
) -> PretrainedBudgets:
    """S'MoRE's Fig. 4 from the table of a campaign on a pretrained model; arguments and errors as for `measure_table`.

    The table may be incomplete: a claim says which runs are missing.

    Raises:
        ResultsError, ValueError: as `measure_table`, for a table of runs on the compact backbone, and for one of other
            data sets than CommonsenseQA or without the systems of the figure.
    """
    found = pretrained_scores(table, measure, choose_by, "ma.studies.budgets.measure_table")
    check_table(found)
    tuning = found.tuning.sort_values("method", key=lambda labels: labels.map(budget_of), kind="stable")
    tuning = tuning.assign(method=tuning["method"].map(size_named))
    fields = counting(found, of_four(of_table(found)), FOUR)
    return PretrainedBudgets(**fields, tuning=tuning, choose_by=found.choose_by)


@asked()
def measure_pretrained_layers(
    table: str | Path | pd.DataFrame, measure: str = "accuracy", choose_by: str | None = None
) -> PretrainedLayers:
    """S'MoRE's Table 5 from the table of a campaign on a pretrained model; arguments and errors as for `measure_table`.

    Raises:
        ResultsError, ValueError: as `measure_table`, for a table of runs on the compact backbone, and for one whose
            final runs have no two numbers of layers at one budget.
    """
    found = pretrained_scores(table, measure, choose_by, "ma.studies.budgets.measure_table")
    return PretrainedLayers(**counting(found, of_layers(of_table(found), LAYERS), LAYERS))


def check_table(found: Stored) -> None:
    """Raise ValueError for a table that Fig. 4 on a pretrained model is not about."""
    trained = found.scores.loc[found.scores["part"] == INSIDE, "dataset"].unique()
    if list(trained) != [DATASET]:
        raise ValueError(
            f"{found.name} holds runs on {shorten(', '.join(trained), 80)}, and the effects that this figure is judged by "
            f"are the paper's on {DATASET}; pass the table to ma.studies.budgets.measure_table, or one of {DATASET} alone"
        )
    systems = found.scores["method"].unique()
    if not {label.partition(AT)[0] for label in systems} & set(FOUR):
        raise ValueError(
            f"{found.name} holds runs of {', '.join(systems)}, and this figure is about {', '.join(FOUR)}; pass a table "
            "of these"
        )


def size_named(label: Any) -> str:
    """A label with its budget in millions of parameters.

    >>> size_named("S'MoRE, L = 3 @ 6700000"), size_named("LoRA")
    ("S'MoRE, L = 3, 6.7 M", 'LoRA')
    """
    method, budget = str(label).partition(AT)[0], budget_of(label)
    return f"{method}, {budget / 1e6:g} M" if budget else method


def budget_of(label: Any) -> int:
    """The budget that a label ends in; 0 without one."""
    return int(str(label).partition(AT)[2] or 0)
