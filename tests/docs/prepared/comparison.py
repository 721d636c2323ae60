"""What notebooks 07 and 08 hand from cell to cell. The scores are made up: comparing nine systems takes minutes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from moe_analysis import comparison
from moe_analysis.studies.budgets import points as curves
from moe_analysis.studies.systems import scores as measured

from .registry import prepared

INSIDE, OUTSIDE = ("add_small", "where_is", "add_small_one_over", "where_is_one_step_late"), ("sum_of_three", "swaps")
GAINS = {"T-REX": 0.1, "S'MoRE": -0.1}


def evaluation(names: tuple[str, ...], accuracy: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": list(names),
            "group": "made up",
            "kind": "choices",
            "rows": 50,
            "loss": 1 - accuracy,
            "accuracy": accuracy,
        }
    )


@prepared
def made_up() -> tuple[list[Any], list[pd.DataFrame]]:
    """Stand-ins for runs of the nine systems at three seeds, and their results on two other tasks: accuracies near
    0.5, those of T-REX a tenth above and those of S'MoRE a tenth below."""
    random, found, outside = np.random.default_rng(0), [], []
    for method in comparison.LABELS:
        for seed in range(3):
            accuracy = 0.5 + GAINS.get(method, 0.0) + 0.01 * random.standard_normal(6)
            config = SimpleNamespace(name=method, seed=seed, suite="embedded", system="made up")
            found.append(SimpleNamespace(config=config, evaluation=evaluation(INSIDE, accuracy[:4])))
            outside.append(evaluation(OUTSIDE, accuracy[4:]))
    return found, outside


@prepared
def scored() -> pd.DataFrame:
    """`scores` of `made_up`: one row per system, seed and data set."""
    return measured.scores(*made_up())


def levels_of(names: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": list(names),
            "kind": "choices",
            "rows": 50,
            "chance": 0.25,
            "majority": 0.3,
            "untrained": 0.4,
            "untrained_loss": 2.0,
        }
    )


@prepared
def level_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Made-up tables as `levels_on` returns them, of the tasks inside and outside: guessing gets 0.3."""
    return levels_of(INSIDE), levels_of(OUTSIDE)


@prepared
def to_beat() -> pd.DataFrame:
    """`levels` of `level_tables`."""
    return measured.levels(*level_tables())


@prepared
def summary() -> pd.DataFrame:
    """`part_summary` of `scored`."""
    return measured.part_summary(scored())


@prepared
def results() -> pd.DataFrame:
    """Made-up results of four systems at two budgets and three seeds, as `budget_results` returns them: S'MoRE has the
    highest accuracy, LoRA the lowest."""
    random, rows = np.random.default_rng(0), []
    for method, height in {"LoRA": 0.40, "HydraLoRA": 0.45, "MixLoRA": 0.45, "S'MoRE": 0.50}.items():
        for budget in (20_000, 80_000):
            for seed in range(3):
                accuracy = height + 0.02 * (budget > 20_000) + 0.002 * random.standard_normal()
                active = budget if method == "LoRA" else budget // 3
                rows.append((method, seed, budget, budget, active, 2 * active, "originals", accuracy, 2 - accuracy))
    return pd.DataFrame(rows, columns=list(curves.COLUMNS))


@prepared
def layered() -> pd.DataFrame:
    """Made-up results of S'MoRE with one and two layers at two budgets, with a column layers; two are better."""
    numbers = {"LoRA": 1, "S'MoRE": 2}
    found = results()[results()["method"].isin(list(numbers))]
    names = {"LoRA": "S'MoRE, L = 1", "S'MoRE": "S'MoRE, L = 2"}
    sizes = {"active": found["budget"] // 3, "operations": 2 * found["budget"]}
    return found.assign(layers=found["method"].map(numbers), method=found["method"].map(names), **sizes)
