"""How fast and how steadily runs converge: loss curves, steps to a loss, area under the curve, final accuracy by role.

Losses are those of the task, in nats per answer token, without the balance loss that only some methods add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .records import check_runs, check_whole, named, run_key, seed_bands

MEASURES = ("mean_loss", "final_loss", "steps_to_target", "roughness")
WINDOW = 15


def loss_curves(runs: Sequence[Any], window: int = WINDOW) -> pd.DataFrame:
    """Training loss of every step: columns method, seed, step, loss, smoothed (centered mean of `window` steps).

    Raises ValueError for a window below 1 and for a run without a training step.

    >>> curves = loss_curves(runs, window=3)
    >>> curves.columns.tolist(), len(curves)
    (['method', 'seed', 'step', 'loss', 'smoothed'], 24)
    """
    check_runs(runs)
    if window < 1:
        raise ValueError(f"window = {window} must be at least 1 step")
    frames = []
    for run in runs:
        history = run.history[run.history["split"] == "train"].sort_values("step")
        if history.empty:
            raise ValueError(f"the run of {named(run)}, has no training step in its history; train it first")
        loss = history["loss"] - history["balance_loss"].fillna(0.0)
        smoothed = loss.rolling(window, center=True, min_periods=1).mean()
        frames.append(
            pd.DataFrame(
                {
                    **run_key(run),
                    "step": history["step"].to_numpy(),
                    "loss": loss.to_numpy(),
                    "smoothed": smoothed.to_numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def loss_bands(curves: pd.DataFrame) -> pd.DataFrame:
    """Columns method, step, mean, low, high, seeds of the smoothed loss; low and high are the lowest and highest seed.

    >>> bands = loss_bands(curves)
    >>> bands.groupby("method", sort=False)["seeds"].max().to_dict()
    {'LoRA-MoE': 2, 'mix-and-match': 2, 'T-REX': 2}
    """
    return seed_bands(curves, ["method", "step"], "smoothed")


def common_target(curves: pd.DataFrame) -> float:
    """The lowest loss that every run reaches: the worst of the runs' best smoothed losses."""
    return float(curves.groupby(["method", "seed"])["smoothed"].min().max())


def convergence(curves: pd.DataFrame, target: float | None = None) -> pd.DataFrame:
    """One row per (method, seed) of `loss_curves`.

    mean_loss: area under the loss curve (trapezoids) over its span in steps; final_loss: the last smoothed value;
    target and steps_to_target: the first step whose smoothed loss is at most the target (`common_target` by default),
    NaN if there is none; roughness: root mean square of loss minus smoothed loss.

    >>> table = convergence(curves, target=10.0)
    >>> table[["method", "seed", "target", "steps_to_target"]].head(2)
         method  seed  target  steps_to_target
    0  LoRA-MoE     0    10.0              1.0
    1  LoRA-MoE     1    10.0              1.0
    """
    target = common_target(curves) if target is None else float(target)
    rows = []
    for (method, seed), curve in curves.groupby(["method", "seed"], sort=False):
        step, loss, smoothed = (curve[name].to_numpy(dtype=float) for name in ("step", "loss", "smoothed"))
        area = np.trapezoid(loss, step) / (step[-1] - step[0]) if len(step) > 1 else loss[0]
        reached = np.flatnonzero(smoothed <= target)
        first = step[reached[0]] if reached.size else np.nan
        rows.append((method, seed, area, smoothed[-1], target, first, np.sqrt(np.mean((loss - smoothed) ** 2))))
    columns = ["method", "seed", "mean_loss", "final_loss", "target", "steps_to_target", "roughness"]
    return pd.DataFrame(rows, columns=columns)


def accuracy_by_role(runs: Sequence[Any], roles: Mapping[str, str]) -> pd.DataFrame:
    """Final test results, data sets weighted equally: columns method, seed, role, datasets, accuracy, loss.

    roles: data set -> "original", "variant", …, as `tasks.task_roles` returns it; the row "all" has every data set.
    Raises ValueError when a run was tested on a data set that roles does not name.

    >>> roles = ma.tasks.task_roles("embedded", runs[0].evaluation)
    >>> table = accuracy_by_role(runs, roles)
    >>> table.groupby("role", sort=False)["datasets"].first().to_dict()
    {'original': 2, 'variant': 2, 'all': 4}
    """
    check_runs(runs)
    check_whole(runs)
    frames = []
    for run in runs:
        tested = run.evaluation
        if unknown := sorted(set(tested["dataset"]) - set(roles.keys())):
            raise ValueError(
                f"roles has no entry for {', '.join(unknown)}; pass task_roles of the suite that was trained on"
            )
        labeled = tested.assign(role=tested["dataset"].map(dict(roles)))
        both = pd.concat([labeled, tested.assign(role="all")])
        means = both.groupby("role", sort=False).agg(
            datasets=("dataset", "size"), accuracy=("accuracy", "mean"), loss=("loss", "mean")
        )
        frames.append(means.reset_index().assign(**run_key(run)))
    columns = ["method", "seed", "role", "datasets", "accuracy", "loss"]
    return pd.concat(frames, ignore_index=True)[columns]


def accuracy_by_dataset(runs: Sequence[Any], guessing: pd.DataFrame) -> pd.DataFrame:
    """Final test accuracy next to guessing: index dataset, columns chance, majority, then each method's seed mean.

    guessing: chance and majority by data set, as `tasks.baselines` returns it. The last row, "mean", is the mean over
    data sets; for chance over those that have choices. Raises ValueError if guessing lacks a tested data set.

    >>> guessing = ma.tasks.baselines(ma.load_suite("embedded"))
    >>> table = accuracy_by_dataset(runs, guessing)
    >>> table.columns.tolist(), table.index[-1]
    (['chance', 'majority', 'LoRA-MoE', 'mix-and-match', 'T-REX'], 'mean')
    """
    check_runs(runs)
    check_whole(runs)
    tested = pd.concat([run.evaluation.assign(**run_key(run)) for run in runs], ignore_index=True)
    if unknown := sorted(set(tested["dataset"]) - set(guessing.index)):
        raise ValueError(
            f"guessing has no row for {', '.join(unknown)}; pass baselines of the suite that was trained on"
        )
    methods = tested.pivot_table(index="dataset", columns="method", values="accuracy", aggfunc="mean", sort=False)
    table = guessing.loc[methods.index, ["chance", "majority"]].join(methods)
    table.loc["mean"] = table.mean()
    return table
