"""Results of long studies as frames: read from small tables, which stay when machines and runs are gone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from ..tasks.suite import DATA_FOLDER
from .row import unpacked
from .table import CURVES, PER_DATASET, ResultsError, Row, read_rows

RESULTS_FOLDER = DATA_FOLDER / "results"
MEASURES = {"accuracy": "correct", "accuracy_norm": "correct_norm"}  # name -> the outcomes that it is the mean of
RUN = ["study", "stage", "system", "seed", "configuration", "run"]


def results(study: str | Path, folder: str | Path | None = None) -> pd.DataFrame:
    """One row per run and data set of a study's table.

    Args:
        study: name of a study in `folder`, or the path of a table (ending in .parquet).
        folder: folder of the tables; None is data/results of the project.

    Returns:
        study, stage ("tune": on rows held out of train, or "final": on test rows), system, seed, configuration (digest
        without the seed), run, suite, dataset, kind, rows, rows_digest (outcomes with the same digest are for the same
        rows in the same order), accuracy and accuracy_norm (choices ranked by likelihood per character) in [0, 1], loss
        (nats per answer token), role, chance and majority (accuracy of guessing and of always giving one answer; in a
        table of schema 1 these are "" and NaN), correct and correct_norm (bytes for `unpack_correct`).

    Raises:
        ResultsError: there is no such table, or it is damaged or of another schema; names the file and the remedy.

    >>> frame = ma.results(results_file)
    >>> frame[["stage", "system", "dataset", "rows"]].head(2)
      stage system             dataset  rows
    0  final  T-REX           add_small     2
    1  final  T-REX  add_small_one_over     2
    """
    lines = [line for row in known_rows(study, folder) for line in per_dataset(row)]
    told = ["role", "chance", "majority"]
    columns = [*RUN, "suite", "dataset", "kind", "rows", "rows_digest", *MEASURES, "loss", *told, *MEASURES.values()]
    return pd.DataFrame(lines, columns=columns)


def per_dataset(row: Row) -> list[Row]:
    shared = {name: row[name] for name in RUN}
    return [
        {
            **shared,
            "suite": suite,
            "dataset": dataset,
            "kind": kind,
            "rows": count,
            "rows_digest": digest,
            "loss": loss,
            "correct": correct,
            "correct_norm": norm,
            "accuracy": unpacked(correct, count).mean(),
            "accuracy_norm": unpacked(norm, count).mean(),
            "role": role,
            "chance": chance,
            "majority": majority,
        }
        for suite, dataset, kind, count, digest, loss, correct, norm, role, chance, majority in zip(
            *(row[name] for name in PER_DATASET)
        )
    ]


def result_runs(study: str | Path, folder: str | Path | None = None) -> pd.DataFrame:
    """One row per run of a study's table; arguments and errors as for `results`.

    Returns study, stage, system, seed, configuration, run, accuracy, accuracy_norm and loss (means over the data sets
    of the run's own suite), steps, seconds, machine, version (of this package), config (every field, as a dictionary),
    curve_steps, curve_loss and curve_norm
    (as `row.row_of` has them, arrays of at most 200).

    >>> runs = result_runs(results_file)
    >>> runs[["system", "seed", "steps"]].values.tolist(), runs.loc[0, "config"]["suite"]
    ([['T-REX', 0, 4]], 'embedded')
    """
    frame = pd.DataFrame(
        known_rows(study, folder),
        columns=[*RUN, "steps", "seconds", "machine", "versions", "config", *CURVES],
    )
    frame["config"] = frame["config"].map(json.loads)
    frame["version"] = frame.pop("versions").map(lambda text: json.loads(text).get("moe_analysis", "unknown"))
    for name, kind in ((name, np.int32 if name == "curve_steps" else np.float32) for name in CURVES):
        frame[name] = [np.array(values, dtype=kind) for values in frame[name]]
    means = own_means(results(study, folder), dict(zip(frame["run"], frame["config"].map(lambda one: one["suite"]))))
    return frame.merge(means, on="run", how="left")


def own_means(frame: pd.DataFrame, suites: dict[str, str]) -> pd.DataFrame:
    """run, accuracy, accuracy_norm, loss: means over the data sets of each run's own suite."""
    own = frame[frame["suite"] == frame["run"].map(suites)]
    means = own.groupby("run", sort=False)[[*MEASURES, "loss"]]
    return means.agg(lambda values: values.mean(skipna=False)).reset_index()


def unpack_correct(frame: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Which test rows were answered right: a line per run, data set and row of the frames of `results`.

    Args:
        frame: of `results`, or some of its rows.
        measure: "accuracy" (choices ranked by the summed likelihood) or "accuracy_norm" (by that of a character).

    Returns:
        stage, system, seed, run, suite, dataset, row (its place among the evaluated rows of the data set), correct.

    Raises:
        ValueError: measure is another.

    >>> unpack_correct(ma.results(results_file)).groupby("dataset", sort=False)["correct"].size().tolist()
    [2, 2, 2, 2]
    """
    if measure not in MEASURES:
        raise ValueError(f"measure = {measure!r} is unknown; choose one of {', '.join(MEASURES)}")
    names = ["stage", "system", "seed", "run", "suite", "dataset"]
    unpacked_rows = [unpacked(*pair) for pair in zip(frame[MEASURES[measure]], frame["rows"])]
    lines = frame[names].assign(correct=unpacked_rows, row=[np.arange(len(one)) for one in unpacked_rows])
    lines = lines.explode(["row", "correct"], ignore_index=True)
    return lines.astype({"row": int, "correct": bool})[[*names, "row", "correct"]]


def known_rows(study: str | Path, folder: str | Path | None = None) -> list[Row]:
    path = table_path(study, folder)
    if not path.exists():
        there = ", ".join(sorted(found.stem for found in path.parent.glob("*.parquet"))) or "no table"
        raise ResultsError(f"study = {str(study)!r} has no table {path}; {path.parent} holds {there}")
    return read_rows(path)


def table_path(study: str | Path, folder: str | Path | None = None) -> Path:
    """Where the table of a study lies; a path that ends in .parquet is one itself."""
    if str(study).endswith(".parquet"):
        return Path(study)
    return Path(folder or RESULTS_FOLDER) / f"{study}.parquet"


def listed(folder: str | Path) -> pd.DataFrame:
    """One row per table and stage of a folder: study, stage, systems, seeds, runs, hours (of one process each)."""
    frames = [result_runs(path) for path in sorted(Path(folder).glob("*.parquet")) if not path.name.startswith(".")]
    every = pd.concat(frames) if frames else pd.DataFrame(columns=[*RUN, "seconds"])
    grouped = every.groupby(["study", "stage"], sort=False)
    counts = grouped.agg(
        systems=("system", "nunique"),
        seeds=("seed", "nunique"),
        runs=("run", "size"),
        hours=("seconds", lambda values: values.sum() / 3600),
    )
    return counts.reset_index()
