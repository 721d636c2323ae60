"""gR Figs. 2 and 3 from a campaign's table: each optimizer tuned on its own grid, and trained with fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..asked import asked
from ..systems.stored import COMPACT
from .curves import best_rates
from .measure import PLAIN, RESCALED, Optimizers, Rescaling
from .stored import Stored, stored_optimizers


@dataclass(frozen=True, eq=False)
class TunedOptimizers(Optimizers):
    """The eight optimizers, each at the best of its own grid of rates, from a table of results that may be incomplete.

    Args:
        outcomes: one row per run of the tuning, for rows held out of train.
        rates: the best learning rate of each method, as `best_rates` returns it.
        curves: over training, of the final runs.
        finals: one row per final run, for test rows.
        tests: method, seed, dataset, loss of the final runs.
    """

    question = (
        "Do preconditioning (R) and gate rescaling (g) train better, for SGD and for AdamW, if each optimizer has its own "
        "best learning rate?"
    )
    how_to_read = (
        "Above: the loss on rows held out of train, by the learning rate of the experts, for each optimizer on its own "
        "grid. A ring marks the chosen rate, a cross at the top a rate at which training diverged. Below: the training "
        "loss of runs with other seeds at the chosen rates; lines are means over seeds, shades reach from the lowest "
        "seed to the highest. Forms of AdamW are dashed."
    )
    how_to_explore = (
        "The loss on rows held out of train, by the learning rate of the experts, for each optimizer on its own grid, "
        "with a large mark at the chosen rate; then the training loss of runs with other seeds at the chosen rates, one "
        "line per seed. Forms of AdamW are dashed."
    )
    drawing = "draw_tuned"
    judging = "claims_tuned"

    finals: pd.DataFrame
    tests: pd.DataFrame

    @cached_property
    def chosen(self) -> pd.DataFrame:
        """method, lr, loss, trials, end ("least", "most" or "": whether the chosen rate is an end of its grid), seeds
        (of final runs)."""
        seeds = self.finals.groupby("method")["seed"].nunique()
        rows = []
        for row in self.rates.to_dict("records"):
            tried = row["tried"]
            end = "least" if row["lr"] == tried[0] else "most" if row["lr"] == tried[-1] else ""
            count = int(seeds.get(row["method"], 0))
            rows.append((row["method"], row["lr"], row["loss"], len(tried), end, count))
        return pd.DataFrame(rows, columns=["method", "lr", "loss", "trials", "end", "seeds"])

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {"chosen": self.chosen, "tuning": self.outcomes, "finals": self.finals}

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {**self.tables, "rates": self.rates, "bands": self.bands}

    @property
    def rescaling(self) -> Rescaling:
        """Fig. 2: the final runs of RSGD and gRSGD.

        Raises:
            ValueError: if one of them has no final run yet.
        """
        pair = (PLAIN, RESCALED)
        if missing := [name for name in pair if name not in set(self.finals["method"])]:
            raise ValueError(f"{self.stored} has no final run of {' and '.join(missing)} yet; let the campaign finish")
        finals, curves = (frame[frame["method"].isin(pair)] for frame in (self.finals, self.curves))
        return Rescaling(outcomes=finals, curves=curves, sample=self.sample, stored=self.stored)


@dataclass(frozen=True, eq=False)
class PretrainedOptimizers(TunedOptimizers):
    """Optimizers on a model that knows its language before its experts are trained; fields as of `TunedOptimizers`."""

    item = "gr_fig3_pretrained"
    title = "gR Fig. 3 on a pretrained language model"
    question = (
        "Do gate rescaling and preconditioning train a pretrained model better, if each optimizer has its own best "
        "learning rate?"
    )
    judging = "claims_pretrained"


@asked()
def measure_table(table: str | Path) -> TunedOptimizers:
    """Compare the paper's optimizers from a campaign's table of results, without its runs.

    The table may be incomplete: the tried rates are drawn, and a claim says which runs are missing.

    Args:
        table: path of the .parquet file, or a study's name.

    Raises:
        ResultsError: for a missing or damaged table.
        ValueError: as `stored_optimizers`.

    Example:
        >>> found = measure_table("optimizers")
        >>> found.chosen.set_index("method").loc[["SGD", "RSGD", "AdamW"], "lr"].tolist()
        [2.0, 0.2, 0.001]
    """
    return TunedOptimizers(**tuned_of(stored_optimizers(table), table))


@asked()
def measure_pretrained(table: str | Path) -> PretrainedOptimizers:
    """gR Fig. 3 from the table of a campaign on a pretrained model; the rest is as for `measure_table`.

    Args:
        table: path of the .parquet file, or a study's name.

    Raises:
        ResultsError, ValueError: as `measure_table`, and for a table of runs on the compact backbone.
    """
    found = stored_optimizers(table)
    if found.backbone == COMPACT:
        raise ValueError(
            f"{Path(table).name} holds runs on the backbone {COMPACT!r}, which is no pretrained language model; for it use "
            "ma.studies.optimizers.measure_table"
        )
    return PretrainedOptimizers(**tuned_of(found, table))


def tuned_of(found: Stored, table: str | Path) -> dict[str, Any]:
    """The fields of `TunedOptimizers`."""
    tried = found.tuning if len(found.tuning) else found.finals
    return {
        "outcomes": tried,
        "rates": best_rates(tried),
        "curves": found.curves,
        "finals": found.finals,
        "tests": found.tests,
        "sample": found.sample,
        "stored": Path(table).name,
    }
