"""T-REX's Fig. 3 on a pretrained language model: trained on many data sets, then tested on BBH."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from ...evidence import counted
from ..asked import asked
from .claims import LORA_BASED
from .endpoints import left_out_told
from .scores import OUTSIDE
from .stored import Stored, pretrained_scores
from .tuned import SystemRates, TunedSystems, systems_of


@dataclass(frozen=True, eq=False)
class MultitaskRates(SystemRates):
    """The tuning of T-REX and its opponents on the pretrained model."""

    item = "trex_fig3_pretrained_rates"
    title = "Beyond T-REX: the grid of learning rates on a pretrained model"


@dataclass(frozen=True, eq=False)
class PretrainedSystems(TunedSystems):
    """T-REX's Fig. 3 on a model that knows its language before any adapter is trained.

    Fields as of `TunedSystems`.
    """

    item = "trex_fig3_pretrained"
    title = "T-REX Fig. 3 on a pretrained language model"
    question = "Is T-REX more accurate than other adapters made of LoRA on a pretrained model, and on BBH?"
    how_to_read = (
        "Above, one row per system: a dot is the mean accuracy above guessing over tasks and seeds, its line the 95 % "
        "interval over seeds, small marks are seeds; the black line is the model before training, gray is worse than "
        "guessing. In distribution are the data sets of training, out of distribution the tasks of BBH. Below, each task "
        "of BBH, and their accuracies around a radar: further out is better, and gray is guessing."
        + left_out_told(LORA_BASED)
    )
    how_to_explore = (
        "Above, one row per system: a dot is the mean over tasks and seeds, its line the 95 % interval over seeds, "
        "small marks are seeds, and the upright line is the model before training; the menu chooses accuracy above "
        "guessing or loss, and the part: the data sets of training, or BBH. Below, the tasks of BBH one by one and their "
        "accuracies around a radar, for the systems that the legend chooses: further out is better, and gray is guessing."
        + left_out_told(LORA_BASED)
    )
    judging = "claims_pretrained"
    grid = MultitaskRates

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {name: value for name, value in super().numbers.items() if name != "authors"}


@asked()
def measure_pretrained(
    table: str | Path | pd.DataFrame, measure: str = "accuracy", choose_by: str | None = None
) -> PretrainedSystems:
    """T-REX's Fig. 3 from the table of a campaign on a pretrained model.

    The systems are tested on the data sets that they were trained on and on tasks with choices that nobody trained on.
    Tasks without choices are left out there, as nearly no answer of a model of this size is right, and `sample` counts
    them. Tasks of training at floor or ceiling for the strongest of LoRA, LoRA-MoE and SiRA are left out.

    Args:
        table: as of `measure_table`.
        measure: "accuracy" or "accuracy_norm".
        choose_by: as of `measure_table`.

    Raises:
        ResultsError, ValueError: as `stored_scores`, for a table of runs on the compact backbone, and for one without a
            test on tasks that nobody trained on.

    Example:
        >>> found = measure_pretrained("smollm2_multitask")
        >>> found.rates.chosen["trials"].unique().tolist()
        [12]
    """
    found = with_choices_outside(pretrained_scores(table, measure, choose_by, "ma.studies.systems.measure_table"))
    if OUTSIDE not in set(found.scores["part"]):
        raise ValueError(
            f"{found.name} has no test on tasks with choices that nobody trained on; give the campaign's final runs "
            "transfer_suites: [bbh], or pass the table to measure_table"
        )
    return PretrainedSystems(**systems_of(found, LORA_BASED))


def with_choices_outside(found: Stored) -> Stored:
    """Without tasks that nobody trained on and that list no choices; named in `sample`."""
    levels = found.levels
    dropped = levels.loc[(levels["part"] == OUTSIDE) & (levels["chance"] == 0), "dataset"]
    if dropped.empty:
        return found
    kept = {
        name: frame[(frame["part"] != OUTSIDE) | ~frame["dataset"].isin(dropped)].reset_index(drop=True)
        for name, frame in (("scores", found.scores), ("levels", levels))
    }
    told = f"{counted(len(dropped), 'out-of-distribution task')} without choices left out"
    return replace(found, left_out=(*found.left_out, told), **kept)
