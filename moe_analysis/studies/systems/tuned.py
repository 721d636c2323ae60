"""Systems out of a campaign's table: each tuned on the same grid, and trained with fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...comparison import meta_backbone
from ...evidence import counted
from ...theory.method_table import method_table
from ..asked import asked
from ..result import Result
from .endpoints import CEILING, FLOOR, REFERENCES, task_table
from .measure import Systems, authors_sizes
from .scores import against_level, comparisons, part_summary
from .stored import Stored, stored_scores


@dataclass(frozen=True, eq=False)
class SystemRates(Result):
    """How every system was tuned: the whole grid, and what was chosen.

    Args:
        tuning: one row per run, as `stored.Stored.tuning`.
        choose_by: what chose, one of `campaigns.campaign.MEASURES`; both drawings show it.
    """

    item = "systems_rates"
    title = "Beyond the papers: every system over its grid of learning rates"
    question = "Does any system look worse only because its learning rate was not right?"
    how_to_read = (
        "One panel per system: the mean accuracy or loss, whichever the choice is by, on rows held out of train by the "
        "learning rate, for each rate of its router; the ring is the choice that the final runs were trained with, the "
        "thin line the best that any system reached. The grid is the same for all."
    )
    how_to_explore = (
        "All systems in one drawing: the mean accuracy or loss, whichever the choice is by, on rows held out of train "
        "by the learning rate, a dash for each rate of the router. A ring is the choice that the final runs were trained "
        "with. The grid is the same for all; the legend chooses systems."
    )
    drawing = "draw_rates"
    judging = "claims_rates"

    tuning: pd.DataFrame
    choose_by: str = "accuracy"

    @property
    def chosen(self) -> pd.DataFrame:
        """method, lr, router_multiplier, accuracy, loss, trials, end ("least", "most" or "": whether the rate is an end
        of the grid)."""
        best = self.tuning[self.tuning["chosen"]].drop_duplicates("method").set_index("method")
        tried = self.tuning.groupby("method", sort=False)["lr"].agg(["min", "max", "size"]).loc[best.index]
        ends = np.select([best["lr"] <= tried["min"], best["lr"] >= tried["max"]], ["least", "most"], "")
        columns = ["lr", "router_multiplier", "accuracy", "loss"]
        return best[columns].assign(trials=tried["size"], end=ends).reset_index()

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {"chosen": self.chosen, "tuning": self.tuning}

    def system_of(self, method: str) -> str:
        """The system whose color a label has."""
        return method


@dataclass(frozen=True, eq=False)
class BudgetRates(SystemRates):
    """The tuning of every system at every size on a pretrained model."""

    item = "smore_fig4_pretrained_rates"
    title = "Beyond S'MoRE Fig. 4: the grid of learning rates at every size"
    question = "Does any system look worse at any size only because its learning rate was not right?"
    how_to_explore = (
        "All sizes of all systems in one drawing: the mean accuracy or loss, whichever the choice is by, on rows held out of "
        "train by the learning rate; a color for each system, a mark for each of its sizes, a dash for each rate of the "
        "router. A ring is the choice that the final runs were trained with. The grid is the same for all; the legend chooses."
    )

    def system_of(self, method: str) -> str:
        """
        >>> BudgetRates.system_of(None, "S'MoRE, L = 3, 6.7 M")
        "S'MoRE"
        """
        return method.partition(",")[0]


class Tuned:
    """What a result has of a campaign that tuned every system alike."""

    grid = SystemRates  # the figure of the tuning
    tuning: pd.DataFrame
    choose_by: str
    stored: str

    @property
    def rates(self) -> SystemRates:
        """The tuning as a figure of its own.

        Raises:
            ValueError: for a table without tuning.
        """
        if self.tuning.empty:
            raise ValueError(
                f"{self.stored} has no tuning with configurations; pass the table of a campaign that tunes"
            )
        seeds = counted(self.tuning["seed"].nunique(), "seed")
        steps = ", ".join(map(str, sorted(self.tuning["steps"].unique())))
        sample = f"{counted(len(self.tuning), 'run')} of {seeds}, {steps} steps each, by rows held out of train"
        return self.grid(self.tuning, self.choose_by, sample=sample, stored=self.stored)


@dataclass(frozen=True, eq=False)
class TunedSystems(Tuned, Systems):
    """The same by a campaign that tuned every system alike.

    Args:
        tuning: one row per run of the tuning, as `stored.Stored.tuning`.
        choose_by: what chose the cells of the final runs.
    """

    tuning: pd.DataFrame
    choose_by: str = "accuracy"


@asked()
def measure_table(
    table: str | Path | pd.DataFrame,
    measure: str = "accuracy",
    references: str | Sequence[str] = REFERENCES,
    floor: float = FLOOR,
    ceiling: float = CEILING,
    choose_by: str | None = None,
) -> TunedSystems:
    """T-REX's Fig. 3 from a campaign's table of results, when machines and runs are gone.

    Args:
        table: path of the .parquet file or a study's name, its frame, or the frame of its `results`.
        measure: "accuracy" or "accuracy_norm".
        references: which tasks count, with `floor` and `ceiling`, see `task_table`; judged on the rows held out of train.
        floor: see `references`.
        ceiling: see `references`.
        choose_by: what the campaign chose its cells by: "accuracy", "accuracy_norm" or "loss"; None for what the file of
            the shipped campaign says, accuracy where the study has none. Final runs of other cells are left out and
            named in `sample`.

    Raises:
        ResultsError, ValueError: as `stored_scores`.

    Example:
        >>> found = measure_table("compact")
        >>> found.rates.chosen.set_index("method").loc[["LoRA", "T-REX"], "lr"].tolist()
        [0.003, 0.02]
    """
    return TunedSystems(**systems_of(stored_scores(table, measure, choose_by), references, floor, ceiling))


def systems_of(
    found: Stored, references: str | Sequence[str] = REFERENCES, floor: float = FLOOR, ceiling: float = CEILING
) -> dict[str, Any]:
    """The fields of `TunedSystems`."""
    return compared(found, references, floor, ceiling) | {
        "gains": against_level(found.scores, found.levels, "untrained"),
        "losses": comparisons(found.scores, measure="loss"),
        "authors": authors_sizes(found.backbone or "compact"),
    }


def compared(
    found: Stored, references: str | Sequence[str] = REFERENCES, floor: float = FLOOR, ceiling: float = CEILING
) -> dict[str, Any]:
    """The fields of `Compared`, and the tuning."""
    frame = found.scores
    shell = meta_backbone(found.backbone) if found.adapters else None
    return {
        "scores": frame,
        "tuning": found.tuning,
        "choose_by": found.choose_by,
        "levels": found.levels,
        "summary": part_summary(frame),
        "guessing": against_level(frame, found.levels, "guess"),
        "tasks": task_table(frame, found.levels, references, floor, ceiling, found.held_out),
        "pairs": comparisons(frame),
        "costs": pd.DataFrame({"method": [], "trainable": []})
        if shell is None
        else method_table(found.adapters, shell),
        "sample": found.sample,
        "stored": found.name,
    }
