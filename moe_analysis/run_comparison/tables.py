"""Runs side by side: how their configurations differ, how they learned, and their results for each data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING
from typing import Any

import numpy as np
import pandas as pd

from ..evidence.intervals import mean_interval
from ..training.choices import adapter_defaults
from ..training.recorders.attached_run import AttachedRun
from ..training.run_folder import flat

MEASURES = ("loss", "accuracy")
FINAL_STEPS = 10  # training steps whose mean is the final training loss: a single batch says little
ABSENT = None


def config_differences(runs: Sequence[Any]) -> pd.DataFrame:
    """Fields of the configurations that are not the same in all runs: columns field, then one per run, in the order
    given. None marks a field that a run's configuration does not have, and the value None."""
    check(runs)
    configs = [flat(run.config.to_dict()) for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    rows = [[name, *(config.get(name, ABSENT) for config in configs)] for name in names]
    differing = [row for row in rows if any(value != row[1] for value in row[2:])]
    return pd.DataFrame(differing, columns=["field", *(run.id for run in runs)], dtype=object)


def untouched(differences: pd.DataFrame, runs: Sequence[Any]) -> pd.Series:
    """For each row of `config_differences` whether it is a field that only some of the adapters have and that stands
    at its default in all of these: between two kinds of adapter, most fields are."""
    defaults = [adapter_defaults(run.config.adapter) for run in runs]

    def unset(row: pd.Series) -> bool:
        pairs = [(row[run.id], known.get(row["field"], MISSING)) for run, known in zip(runs, defaults)]
        return any(default is MISSING for _, default in pairs) and all(
            value is ABSENT if default is MISSING else value == default for value, default in pairs
        )

    return differences.apply(unset, axis=1).astype(bool) if len(differences) else pd.Series(dtype=bool)


def final_results(runs: Sequence[Any]) -> pd.DataFrame:
    """One row per run: run, state, step, seconds, train_loss (mean of the last ten steps, without the balance loss, nats
    per answer token), test_loss, test_accuracy; NaN for a run without a history."""
    rows = []
    for run in runs:
        status = run.status
        row = {
            "run": run.id,
            "state": status.get("state", "not started"),
            "step": status.get("step"),
            "seconds": status.get("seconds"),
        }
        if run.finished:
            tests = run.history[run.history["split"] == "test"]
            row |= {
                "train_loss": float(task_loss(run).tail(FINAL_STEPS).mean()),
                **{f"test_{name}": float(tests[name].iloc[-1]) for name in MEASURES},
            }
        rows.append(row)
    columns = ["run", "state", "step", "seconds", "train_loss", *(f"test_{name}" for name in MEASURES)]
    return pd.DataFrame(rows, columns=columns)


def task_loss(run: Any) -> pd.Series:
    """Training loss without the balance loss that only some systems add, indexed by step."""
    history = run.history[run.history["split"] == "train"].set_index("step").sort_index()
    return history["loss"] - history["balance_loss"].fillna(0.0)


def loss_windows(runs: Sequence[Any], windows: int = 6) -> pd.DataFrame:
    """Training loss along the way: columns run, first, last, loss (mean over the steps first to last, without the
    balance loss). The windows share the steps of the longest run evenly; a run without a step in one has no row there.
    Runs without a history are left out. Raises ValueError for windows below 1."""
    if windows < 1:
        raise ValueError(f"windows = {windows} must be at least 1")
    curves = {run.id: task_loss(run) for run in runs if run.finished}
    curves = {name: curve for name, curve in curves.items() if len(curve)}
    rows = []
    if curves:
        longest = max(int(curve.index[-1]) for curve in curves.values())
        edges = np.unique(np.linspace(0, longest, min(windows, longest) + 1).round().astype(int))
        for name, curve in curves.items():
            for before, last in zip(edges[:-1].tolist(), edges[1:].tolist()):
                if len(inside := curve[(curve.index > before) & (curve.index <= last)]):
                    rows.append((name, before + 1, last, float(inside.mean())))
    return pd.DataFrame(rows, columns=["run", "first", "last", "loss"])


def dataset_scores(runs: Sequence[Any]) -> pd.DataFrame:
    """One row per run and data set: run, dataset, group, kind, rows, loss, accuracy, loss_difference and
    accuracy_difference, which are against the first run and NaN if it was not tested on as many rows. Runs that are
    not finished have no rows, and without a finished first run there are no differences."""
    tables = [run.evaluation.assign(run=run.id) for run in runs if run.finished]
    columns = ["run", "dataset", "group", "kind", "rows", *MEASURES]
    if not tables:
        return pd.DataFrame(columns=[*columns, *(f"{name}_difference" for name in MEASURES)])
    frame = pd.concat(tables, ignore_index=True)[columns]
    first = frame[frame["run"] == runs[0].id].set_index("dataset")
    against = first.reindex(frame["dataset"]).reset_index(drop=True)
    comparable = (against["rows"] == frame["rows"]) & (frame["run"] != runs[0].id)
    for name in MEASURES:
        frame[f"{name}_difference"] = (frame[name] - against[name]).where(comparable)
    return frame


def mean_differences(scores: pd.DataFrame) -> pd.DataFrame:
    """Of `dataset_scores`, one row per measure and run: measure, run, difference, low, high, datasets. The mean over the
    data sets of the differences from the first run, with the 95 % t interval of that mean: it covers other data sets
    like these, not other seeds. low and high are NaN for fewer than two data sets."""
    rows = []
    for measure in MEASURES:
        for run, values in scores.groupby("run", sort=False)[f"{measure}_difference"]:
            if count := int(values.notna().sum()):
                rows.append((measure, run, *mean_interval(values.to_numpy()), count))
    return pd.DataFrame(rows, columns=["measure", "run", "difference", "low", "high", "datasets"])


def check(runs: Sequence[Any]) -> None:
    """Raise ValueError for fewer than two runs, for a run that is given twice, and for a loop that `ma.attach` recorded."""
    if loops := [run for run in runs if isinstance(run, AttachedRun)]:
        raise ValueError(
            f"runs holds {loops[0]!r}, a loop that ma.attach recorded, which has no settings and no test scores to "
            "compare; pass runs of ma.train"
        )
    ids = [run.id for run in runs]
    if len(set(ids)) < 2:
        has = f"{len(set(ids))} run{'' if len(set(ids)) == 1 else 's'}"
        raise ValueError(
            f"runs = {ids} has {has}; pass at least two, or to `runs compare` a pattern that matches several"
        )
    if len(set(ids)) < len(ids):
        raise ValueError(f"runs = {ids} has one run twice; remove the repeated one")
