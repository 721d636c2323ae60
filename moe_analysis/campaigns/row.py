"""A finished run as one row of a table of results, and how two rows of the same run differ."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..tasks.baselines import baselines
from ..tasks.suite import load_suite, task_roles

if TYPE_CHECKING:  # reading a table does not need torch
    from ..training.config import TrainConfig
    from ..training.run import Run

BASE = "base"  # the stage of a model that was not trained
MOST_POINTS = 200  # of a curve
LEAST = 1e-6  # a loss that moves by less, as a share of itself, was rounded otherwise
# fields of a TrainConfig that move what an untrained model answers
OF_AN_EVALUATION = (
    "backbone",
    "suite",
    "datasets",
    "eval_rows",
    "transfer_suites",
    "max_length",
    "prompt_form",
    "precision",
)


def configuration_digest(config: TrainConfig) -> str:
    """Digest of all that makes a run but its seed and its name."""
    return replace(config, seed=0, name=None).digest


def row_of(run: Run, study: str, stage: str) -> dict[str, Any]:
    """The row of a finished run, every column of `table.COLUMNS`; raises RunError for a damaged folder.

    Outcomes are packed to bits, a byte for eight test rows of a data set; losses are in nats per answer token. The curves
    are of the training batches, means over at most MOST_POINTS stretches of equal length: the task's loss without any
    balance loss, so that systems compare, and the gradient's norm before clipping.
    """
    config, status = run.config, run.status
    history = run.history[run.history["split"] == "train"]
    curve = stretches(history.assign(loss=history["loss"] - history["balance_loss"])[["step", "loss", "grad_norm"]])
    return {
        **identity(config, study, stage),
        "run": run.id,
        **answered(run.outcomes),
        "curve_steps": curve.index.tolist(),
        "curve_loss": curve["loss"].astype("float32").tolist(),
        "curve_norm": curve["grad_norm"].astype("float32").tolist(),
        "steps": int(status["step"]),
        "seconds": float(status["seconds"]),
        "machine": status.get("machine", "unknown"),
        "versions": json.dumps(status.get("versions", {}), sort_keys=True),
        "backbone_sha256": status.get("backbone_sha256", ""),
    }


def base_row(config: TrainConfig, study: str) -> dict[str, Any]:
    """The row of a model that was not trained, scored now; its curves are empty."""
    from ..training.status import machine, versions
    from ..training.transfer import score_backbone

    started = time.monotonic()
    outcomes, digest = score_backbone(config)
    return {
        **identity(config, study, BASE),
        "run": config.run_name,
        **answered(outcomes),
        **dict.fromkeys(("curve_steps", "curve_loss", "curve_norm"), []),
        "steps": 0,
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine(),
        "versions": json.dumps(versions(), sort_keys=True),
        "backbone_sha256": digest,
    }


def diverged_row(run: Run, study: str, stage: str) -> dict[str, Any]:
    """The row of a run that an error ended because its numbers were no longer finite: no loss, and no right answer.

    It is a result, and the worst that a rate can have. The rows that it would have been tested on are found by scoring
    the model that it started from.
    """
    from ..training.transfer import score_backbone

    outcomes, digest = score_backbone(run.config)
    status = run.status
    return {
        **identity(run.config, study, stage),
        "run": run.id,
        **answered(outcomes.assign(log_likelihood=np.nan, correct=0, correct_norm=0)),
        **dict.fromkeys(("curve_steps", "curve_loss", "curve_norm"), []),
        "steps": int(status["step"]),
        "seconds": float(status["seconds"]),
        "machine": status.get("machine", "unknown"),
        "versions": json.dumps(status.get("versions", {}), sort_keys=True),
        "backbone_sha256": digest,
    }


def identity(config: TrainConfig, study: str, stage: str) -> dict[str, Any]:
    """Which run of a study a row is."""
    return {
        "study": study,
        "stage": stage,
        "system": config.name or config.system,
        "seed": config.seed,
        "configuration": configuration_digest(config),
        "config": json.dumps(config.to_dict(), sort_keys=True),
    }


def answered(outcomes: pd.DataFrame) -> dict[str, Any]:
    """The columns of a row that are lists with an entry per data set, out of `Run.outcomes`."""
    groups = groups_of(outcomes)
    suites = {suite: to_beat(suite, own["dataset"].unique()) for suite, own in outcomes.groupby("suite", sort=False)}
    roles, chances, majorities = zip(*(suites[suite][dataset] for (suite, dataset, _), _ in groups))
    return {
        **numbered(groups),
        "kinds": [key[2] for key, _ in groups],
        "losses": [float(-rows["log_likelihood"].sum(skipna=False) / rows["tokens"].sum()) for _, rows in groups],
        "correct": [packed(rows["correct"].to_numpy()) for _, rows in groups],
        "correct_norm": [packed(rows["correct_norm"].to_numpy()) for _, rows in groups],
        "roles": list(roles),
        "chances": list(chances),
        "majorities": list(majorities),
    }


def planned_row(config: TrainConfig, backbone_sha256: str) -> dict[str, Any]:
    """Of the row that a run will have, what `mixture` compares, found before the run is trained.

    Raises:
        ValueError: For rows that cannot be read.
    """
    from ..training.evaluation import row_numbers
    from ..training.transfer import tested_rows

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the runs warn
        tested = tested_rows(config)
    frame = pd.concat(
        [rows.assign(suite=suite, kind=rows["choices"].isna(), row=row_numbers(rows)) for suite, rows in tested.items()]
    )
    return {
        **identity(config, "", ""),
        "run": config.run_name,
        **numbered(groups_of(frame)),
        "backbone_sha256": backbone_sha256,
    }


def groups_of(outcomes: pd.DataFrame) -> list[tuple[tuple[str, str, Any], pd.DataFrame]]:
    """((suite, data set, kind), its rows) in the order of the rows."""
    return list(outcomes.groupby(["suite", "dataset", "kind"], sort=False))


def numbered(groups: Iterable[tuple[tuple[str, str, Any], pd.DataFrame]]) -> dict[str, Any]:
    """Which rows of which data sets these are."""
    return {
        "suites": [key[0] for key, _ in groups],
        "datasets": [key[1] for key, _ in groups],
        "rows": [len(rows) for _, rows in groups],
        "rows_digests": [rows_digest(rows["row"].to_numpy()) for _, rows in groups],
    }


def to_beat(suite: str, datasets: Sequence[str]) -> dict[str, tuple[str, float, float]]:
    """Of each data set its role, and the accuracies of guessing and of always giving one answer."""
    frame = load_suite(suite, datasets=list(datasets))
    roles, guesses = task_roles(suite, frame), baselines(frame)
    return {
        name: (str(roles[name]), float(guesses["chance"][name]), float(guesses["majority"][name])) for name in datasets
    }


def packed(correct: np.ndarray) -> bytes:
    """(n,) of truth values as ceil(n / 8) bytes, the first row in the highest bit."""
    return np.packbits(correct.astype(bool)).tobytes()


def unpacked(correct: bytes, rows: int) -> np.ndarray:
    """(rows,) of truth values out of `packed`.

    >>> unpacked(packed(np.array([True, False, True])), 3)
    array([ True, False,  True])
    """
    return np.unpackbits(np.frombuffer(correct, dtype=np.uint8), count=rows).astype(bool)


def rows_digest(numbers: np.ndarray) -> str:
    """Digest of the hashes of test rows, in their order: outcomes can be paired row by row where it is the same."""
    return hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()[:10]


def stretches(curve: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """Means over at most `most` stretches of as equal length as can be, indexed by the last step of each.

    >>> stretches(pd.DataFrame({"step": [0, 1, 2, 3], "loss": [4.0, 2.0, 1.0, 1.0]}), most=2)["loss"].to_dict()
    {1: 3.0, 3: 1.0}
    """
    number = np.arange(len(curve)) * min(most, len(curve)) // max(1, len(curve))
    means = curve.drop(columns="step").groupby(number).agg(lambda values: values.mean(skipna=False))
    return means.set_index(curve.groupby(number)["step"].last())


@dataclass(frozen=True)
class Difference:
    """Two outcomes of one configuration and seed: run names it, machines and versions say where each was computed."""

    run: str
    told: str
    machines: tuple[str, str]
    versions: tuple[str, str]

    def __str__(self) -> str:
        where = "two runs of one machine" if self.machines[0] == self.machines[1] else " and ".join(self.machines)
        return f"{self.run}: {self.told} ({where})"


def difference(kept: dict[str, Any], other: dict[str, Any]) -> Difference | None:
    """How `other` differs from the row that is kept of the same run; None if the outcomes are the same."""
    told = "; ".join(parts(kept, other))
    if not told:
        return None
    return Difference(kept["run"], told, (kept["machine"], other["machine"]), (kept["versions"], other["versions"]))


def parts(kept: dict[str, Any], other: dict[str, Any]) -> list[str]:
    for name in ("suites", "datasets", "rows", "rows_digests"):
        if kept[name] != other[name]:
            return [f"evaluated on other rows ({name} differ)"]
    told = []
    if kept["backbone_sha256"] != other["backbone_sha256"]:
        told.append("trained on other backbones")
    for name, ranking in (("correct", "summed"), ("correct_norm", "normalized")):
        changed = int(np.bitwise_count(bits(kept[name]) ^ bits(other[name])).sum())
        if changed:
            told.append(f"{changed} of {sum(kept['rows'])} rows answered differently by the {ranking} likelihood")
    first, second = np.array(kept["losses"]), np.array(other["losses"])
    if (np.isnan(first) != np.isnan(second)).any():
        told.append("losses are numbers in only one of them")
    elif not np.allclose(first, second, rtol=LEAST, atol=0.0, equal_nan=True):
        told.append(f"losses differ by up to {np.nanmax(np.abs(first - second)):.2g}")
    return told


def bits(packed: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(packed), dtype=np.uint8)


def tested_alike(row: dict[str, Any]) -> str:
    """What two rows share whose configurations say that they were tested alike."""
    config = json.loads(row["config"])
    return json.dumps([config.get(name) for name in (*OF_AN_EVALUATION, "holdout_rows")])


def mixture(rows: Iterable[dict[str, Any]]) -> str | None:
    """How two of these runs differ that their configurations say were tested alike; None if there are no such two.

    Machines with another draw of a data set, or other weights of a backbone, train runs that no comparison may mix.
    """
    first: dict[tuple[str, str], tuple[str, Any]] = {}
    for row in rows:
        config = json.loads(row["config"])
        compared = {
            "test rows": (tested_alike(row), [row[name] for name in ("suites", "datasets", "rows", "rows_digests")]),
            "weights of the backbone": (
                json.dumps([config.get("backbone"), config.get("precision")]),
                row["backbone_sha256"],
            ),
        }
        for what, (alike, value) in compared.items():
            run, known = first.setdefault((what, alike), (row["run"], value)) if value else (row["run"], value)
            if value != known:
                return f"has runs with different {what}, {run} and {row['run']}, which no comparison may mix"
    return None
