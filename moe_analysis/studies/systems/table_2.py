"""S'MoRE's Table 2 beside ours: what the paper prints, and what the stored runs of the same names give.

Source: S'MoRE, Table 2, Llama-3.2-1B, as the authors' poster prints it; gates of MixLoRA and S'MoRE are switch gates.
Every cell of the paper is the best of that method's own sweep of sizes, trained on that data set alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...evidence.intervals import mean_interval
from ..asked import asked
from .endpoints import BASE
from .measure import Compared
from .scores import INSIDE
from .stored import stored_scores
from .tuned import SystemRates, Tuned, compared

DATASETS = ("ARC-Challenge", "ARC-Easy", "commonsense_qa", "openbookqa", "winogrande")
AVERAGE = "average"
COLUMNS = ["method", "dataset", "paper", "ours", "low", "high", "seeds", "paper_gain", "gain", "gain_low", "gain_high"]
# accuracy in percent, in the order of DATASETS
PAPER = {
    BASE: (32.54, 66.31, 23.67, 43.80, 50.75),
    "LoRA": (36.27, 74.78, 63.80, 71.20, 50.59),
    "HydraLoRA (4)": (35.93, 73.54, 66.34, 71.60, 50.75),
    "HydraLoRA (8)": (35.93, 72.31, 62.08, 71.60, 50.99),
    "MixLoRA (4)": (38.98, 73.37, 66.42, 72.00, 51.22),
    "MixLoRA (8)": (39.32, 73.72, 65.85, 71.80, 51.30),
    "S'MoRE (2-2)": (39.66, 74.78, 66.75, 71.40, 52.25),
    "S'MoRE (4-4)": (40.34, 74.78, 67.16, 72.40, 52.09),
}


@dataclass(frozen=True, eq=False)
class PretrainedRates(SystemRates):
    """The tuning of the systems on the pretrained model."""

    item = "smore_table2_rates"
    title = "Beyond S'MoRE: the grid of learning rates on a pretrained model"


@dataclass(frozen=True, eq=False)
class Table2(Tuned, Compared):
    """S'MoRE's Table 2 on a pretrained model that learns several data sets together, beside the paper's numbers.

    Args:
        tuning: one row per run of the tuning, as `stored.Stored.tuning`.
        choose_by: what chose the cells of the final runs.
    """

    item = "smore_table2"
    title = "S'MoRE Table 2: adapters on a pretrained language model"
    question = "Is S'MoRE more accurate than LoRA, HydraLoRA and MixLoRA on a pretrained model?"
    how_to_read = (
        "Filled dots are ours: a mean over seeds with its 95 % interval. Open diamonds are the paper's numbers, on a larger "
        "model. On the left the accuracy, where the dotted line is our model before training; "
        "on the right what each method gains over LoRA."
    )
    how_to_explore = (
        "Filled dots are ours: a mean over seeds with its 95 % interval. Open diamonds are the paper's numbers, on a larger "
        "model. “accuracy (%)”: the dotted line is our model before training. “points over LoRA”: what each method gains."
    )
    drawing = "draw_table_2"
    judging = "claims_table_2"
    grid = PretrainedRates
    source = "S'MoRE Table 2"  # of its claims

    tuning: pd.DataFrame
    choose_by: str = "accuracy"

    @cached_property
    def beside_paper(self) -> pd.DataFrame:
        """The paper's numbers and ours, as `side_by_side` returns them."""
        return side_by_side(self.scores, self.levels)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {"Table 2 side by side": self.beside_paper, **super().tables, "learning": self.learning}

    @property
    def numbers(self) -> Mapping[str, Any]:
        names = ("costs", "levels", "summary", "guessing", "pairs", "tasks", "learned")
        return {"table_2": self.beside_paper} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True, eq=False)
class AloneRates(PretrainedRates):
    """The tuning of the systems on the pretrained model and one data set."""

    item = "smore_table2_alone_rates"
    title = "Beyond S'MoRE: the grid of learning rates on one data set alone"


@dataclass(frozen=True, eq=False)
class Table2Alone(Table2):
    """One column of S'MoRE's Table 2: a pretrained model learns one data set alone, as in the paper."""

    item = "smore_table2_alone"
    title = "S'MoRE Table 2, one data set alone: adapters on a pretrained language model"
    question = "Is S'MoRE more accurate than LoRA, HydraLoRA and MixLoRA if a pretrained model learns one data set?"
    grid = AloneRates
    source = "S'MoRE Table 2, one data set alone"


@asked()
def measure_table_2(
    table: str | Path | pd.DataFrame, measure: str = "accuracy", choose_by: str | None = None
) -> Table2:
    """S'MoRE's Table 2 from a campaign's table of results; arguments as for `measure_table`.

    Returns:
        A `Table2`, or a `Table2Alone` if the runs are on one data set.

    Raises:
        ResultsError, ValueError: as `stored_scores`, and for a table of other data sets or systems than those of Table 2.
    """
    found = stored_scores(table, measure, choose_by)
    trained = found.scores.loc[found.scores["part"] == INSIDE, "dataset"]
    if not len(trained) or set(trained) - set(DATASETS):
        raise ValueError(
            f"{found.name} holds runs on {', '.join(dict.fromkeys(found.scores['dataset']))}, and S'MoRE's Table 2 is "
            f"about {', '.join(DATASETS)}; pass it to measure_table, or a table of the suite smore_table2"
        )
    systems = list(dict.fromkeys(found.scores["method"]))
    if not set(systems) & set(PAPER):
        raise ValueError(
            f"{found.name} holds runs of {', '.join(sorted(systems))}, and S'MoRE's Table 2 is about "
            f"{', '.join(name for name in PAPER if name != BASE)}; pass it to measure_table, or a table of these"
        )
    found = replace(found, scores=in_order(found.scores), tuning=in_order(found.tuning))
    return (Table2 if trained.nunique() > 1 else Table2Alone)(**compared(found))


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the methods in the paper's order, and after them others by their names."""
    added = sorted(set(frame["method"]) - set(PAPER), key=str.casefold)
    place = {method: at for at, method in enumerate([*PAPER, *added])}
    return frame.sort_values("method", key=lambda names: names.map(place), kind="stable").reset_index(drop=True)


def side_by_side(frame: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The paper's numbers and ours, in percent.

    Args:
        frame: of `scores`, on data sets of Table 2.
        levels: of `scores.levels`; its column untrained is the base model.

    Returns:
        method, dataset (followed by "average"), paper, ours, low, high (95 % t interval over seeds), seeds, and in
        points over LoRA paper_gain, gain, gain_low, gain_high (over the seeds that both have); NaN where one of both has
        no such number. The base model has no seeds.
    """
    frame = frame[frame["part"] == INSIDE]
    found = [name for name in DATASETS if name in set(frame["dataset"])]
    places = {name: [name] for name in found} | ({AVERAGE: found} if len(found) > 1 else {})
    base = levels.set_index("dataset")["untrained"]
    by_seed = {
        method: 100 * own.pivot(index="seed", columns="dataset", values="accuracy")[found]
        for method, own in frame.groupby("method", sort=False)
    }
    rows = []
    for method in (BASE, *by_seed):
        for dataset, names in places.items():
            ours = 100 * base[names].mean(skipna=False) if method == BASE else means(by_seed[method], names)
            over = ours - means(by_seed["LoRA"], names) if "LoRA" in by_seed else np.nan
            paper, less = printed(method, names), printed("LoRA", names)
            count = 0 if method == BASE else len(by_seed[method])
            intervals = [mean_interval(np.atleast_1d(values)) for values in (ours, over)]
            rows.append((method, dataset, paper, *intervals[0], count, paper - less, *intervals[1]))
    return pd.DataFrame(rows, columns=COLUMNS).round(2)


def means(by_seed: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    """By seed, over data sets."""
    return by_seed[list(names)].mean(axis=1, skipna=False)


def printed(method: str, names: Sequence[str]) -> float:
    """The paper's mean over data sets, in percent; NaN where it has none."""
    return float(np.mean([PAPER[method][DATASETS.index(name)] for name in names])) if method in PAPER else np.nan


def paper_gain(method: str, other: str, datasets: Iterable[str]) -> float:
    """The paper's gain over an opponent, mean over data sets; NaN where it has no such number."""
    which = [DATASETS.index(name) for name in datasets]
    if not which or method not in PAPER or other not in PAPER:
        return float("nan")
    return float(np.subtract(PAPER[method], PAPER[other])[which].mean() / 100)
