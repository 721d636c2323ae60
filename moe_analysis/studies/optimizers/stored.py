"""Optimizers from a campaign's table of results: the tuning as losses by rate, the final runs as curves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...campaigns.campaign import FINAL, TUNE
from ...campaigns.chosen import chosen_finals
from ...campaigns.results import result_runs, results
from ...evidence import counted
from .curves import FORMS, check_alike, methods_of

CURVE_COLUMNS = ["method", "seed", "step", "measure", "value"]
POINTS = 9  # points of a stored curve in the centered mean of a drawn one


@dataclass(frozen=True, eq=False)
class Stored:
    """A table's results of the eight optimizers.

    Args:
        tuning: one row per run of the tuning, columns of `curves.outcomes`; loss and accuracy are for rows held out of
            train.
        finals: the same for the final runs at each method's chosen rate; loss and accuracy are for test rows.
        curves: of the final runs, columns of `curves.progress_curves`; a table has only the test outcomes at the end.
        tests: method, seed, dataset, loss of the final runs.
        sample: what was measured, in words, and which final runs were left out.
        backbone: its name; empty where the configurations do not say it.
    """

    tuning: pd.DataFrame
    finals: pd.DataFrame
    curves: pd.DataFrame
    tests: pd.DataFrame
    sample: str
    backbone: str


def stored_optimizers(table: str | Path) -> Stored:
    """Read a campaign's table, complete or not; its rates have the lowest loss on rows held out of train.

    Args:
        table: path of the .parquet file, or a study's name.

    Raises:
        ResultsError: for a missing or damaged table.
        ValueError: for a table with no run of the eight, two runs of one method, seed and rate, and runs of different
            lengths within a stage.
    """
    known = {method for form in FORMS for method in methods_of(form)}
    runs = result_runs(table)
    runs, told = chosen_finals(runs[runs["system"].isin(known)], "loss")
    tune, final = (runs[runs["stage"] == stage] for stage in (TUNE, FINAL))
    if tune.empty and final.empty:
        raise ValueError(f"{table} has no run of {', '.join(sorted(known))}; pass the table of the campaign optimizers")
    for stage, own in ((TUNE, tune), (FINAL, final)):
        keys = [(row["system"], row["seed"], float(row["config"]["lr"])) for row in records(own)]
        check_alike(keys, lengths_of(own), f"stage {stage} of {table}")
    return Stored(
        tuning=outcomes_of(tune),
        finals=outcomes_of(final),
        curves=curves_of(final),
        tests=tests_of(table, final),
        sample="; ".join([*sampled(tune, final), *told]),
        backbone=next((str(config["backbone"]) for config in runs["config"] if "backbone" in config), ""),
    )


def records(runs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    return iter(runs.to_dict("records"))


def lengths_of(runs: pd.DataFrame) -> list[int]:
    """The configured numbers of steps; a run that diverged may have fewer."""
    return sorted({int(config["steps"]) for config in runs["config"]})


def outcomes_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Columns of `curves.outcomes`; a run whose loss became NaN or infinite has infinite losses and no accuracy."""
    rows = []
    for row in records(runs):
        curve = np.asarray(row["curve_loss"], float)
        values = [curve.mean(), curve[-POINTS:].mean(), row["loss"]] if len(curve) else [np.inf] * 3
        finite = [float(value) if np.isfinite(value) else np.inf for value in values]
        accuracy = row["accuracy"] if np.isfinite(finite).all() else np.nan
        rows.append((row["system"], row["seed"], float(row["config"]["lr"]), *finite, accuracy))
    columns = ["method", "seed", "lr", "mean_loss", "final_loss", "loss", "accuracy"]
    return pd.DataFrame(rows, columns=columns).astype({"lr": float})


def curves_of(runs: pd.DataFrame) -> pd.DataFrame:
    frames = [curve_of(row) for row in records(runs)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=CURVE_COLUMNS)


def curve_of(row: dict[str, Any]) -> pd.DataFrame:
    """A run's training loss, as centered means over `POINTS` stored points, and its results on test rows."""
    smoothed = pd.Series(row["curve_loss"], dtype=float).rolling(POINTS, center=True, min_periods=1).mean()
    trained = {"step": row["curve_steps"], "measure": "train loss", "value": smoothed.to_numpy()}
    names = ["eval loss", "eval accuracy"]
    tested = {"step": row["steps"], "measure": names, "value": [row["loss"], row["accuracy"]]}
    frame = pd.concat([pd.DataFrame(trained), pd.DataFrame(tested)], ignore_index=True)
    return frame.assign(method=row["system"], seed=row["seed"])[CURVE_COLUMNS]


def tests_of(table: str | Path, final: pd.DataFrame) -> pd.DataFrame:
    """method, seed, dataset, loss for the rows of the final runs' own suite."""
    lines = results(table)
    suites = dict(zip(final["run"], (config["suite"] for config in final["config"])))
    own = lines[lines["run"].isin(list(suites)) & (lines["suite"] == lines["run"].map(suites))]
    return own.rename(columns={"system": "method"})[["method", "seed", "dataset", "loss"]].reset_index(drop=True)


def sampled(*stages: pd.DataFrame) -> Iterator[str]:
    """ "40 tuning runs of 1 seed, 200 steps", for each stage that has runs."""
    for runs in stages:
        if len(runs):
            stage = {TUNE: "tuning", FINAL: "final"}[runs["stage"].iloc[0]]
            seeds = counted(runs["seed"].nunique(), "seed")
            yield f"{counted(len(runs), f'{stage} run')} of {seeds}, {lengths_of(runs)[0]} steps"
