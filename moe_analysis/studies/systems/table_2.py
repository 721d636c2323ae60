"""S'MoRE's Table 2 beside ours: what the paper prints, and what the stored runs of the same names give.

Source: S'MoRE, Table 2, Llama-3.2-1B, as the authors' poster prints it; gates of MixLoRA and S'MoRE are switch gates.
Every cell of the paper is the best of that method's own sweep of sizes, trained on that data set alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ...evidence.intervals import mean_interval
from .scores import INSIDE

BASE = "base model"
DATASETS = ("ARC-Challenge", "ARC-Easy", "commonsense_qa", "openbookqa", "winogrande")
AVERAGE = "average"
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


def is_table_2(frame: pd.DataFrame) -> bool:
    """Whether scores are of the data sets of Table 2."""
    inside = frame.loc[frame["part"] == INSIDE, "dataset"]
    return len(inside) > 0 and set(inside) <= set(DATASETS)


def side_by_side(frame: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """The paper's numbers and ours, in percent.

    Args:
        frame: of `scores`.
        levels: of `scores.levels`; its column untrained is the base model.

    Returns:
        method, dataset (followed by "average"), paper, ours, low, high (95 % t interval over seeds), seeds; NaN where
        one of both has no such number. The base model has no seeds. Empty for other data sets.
    """
    columns = ["method", "dataset", "paper", "ours", "low", "high", "seeds"]
    if not is_table_2(frame):
        return pd.DataFrame(columns=columns)
    found = [name for name in DATASETS if name in set(frame["dataset"])]
    places = {name: np.array([DATASETS.index(name)]) for name in found}
    if len(found) > 1:
        places[AVERAGE] = np.array([DATASETS.index(name) for name in found])
    base = levels.set_index("dataset")["untrained"]
    rows = []
    for method in dict.fromkeys([BASE, *frame["method"]]):
        own = frame[frame["method"] == method].pivot(index="seed", columns="dataset", values="accuracy")
        for dataset, which in places.items():
            names = [DATASETS[place] for place in which]
            paper = np.mean(np.array(PAPER[method])[which]) if method in PAPER else np.nan
            values = 100 * (base[names] if method == BASE else own[names].T).mean(axis=0, skipna=False)
            ours = mean_interval(np.atleast_1d(values))
            rows.append((method, dataset, paper, *ours, 0 if method == BASE else len(own)))
    return pd.DataFrame(rows, columns=columns).round(2)


def paper_gain(method: str, other: str, datasets: Iterable[str]) -> float:
    """The paper's gain over an opponent, mean over data sets; NaN where it has no such number."""
    which = [DATASETS.index(name) for name in datasets]
    if not which or method not in PAPER or other not in PAPER:
        return float("nan")
    return float(np.subtract(PAPER[method], PAPER[other])[which].mean() / 100)
