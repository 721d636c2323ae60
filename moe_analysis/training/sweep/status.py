"""How far a sweep is, read from its runs' folders alone: no word from the processes that train is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..config import TrainConfig
from ..run import FINISHED, Run
from .attempt import FAILED, FAILURE, STOPPED, Outcome, failed_at, held

WAITING, RUNNING = "waiting", "running"


COLUMNS = [
    "run",
    "state",
    "system",
    "suite",
    "seed",
    "step",
    "steps",
    "seconds",
    "loss",
    "accuracy",
    "error",
    "path",
]


def run_state(run: Run) -> str:
    """One of "finished", "running" (a process holds the folder), "failed" (it left a failure.txt) and "stopped"."""
    if run.finished:
        return FINISHED
    if held(run.path):
        return RUNNING
    return FAILED if (run.path / FAILURE).exists() else STOPPED


@dataclass(frozen=True)
class RunProgress:
    """One row of the live table; loss (nats an answer token) and accuracy are of the test rows of a finished run."""

    name: str
    state: str
    step: int
    steps: int
    seconds: float
    loss: float | None = None
    accuracy: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before the first step and when nothing runs."""
        if self.state != RUNNING or not self.step:
            return None
        return self.seconds * (self.steps - self.step) / self.step


def progress_of(run: Run, state: str) -> RunProgress:
    """Read a run's status.json, and its history where it is finished."""
    status, loss, accuracy = run.status, None, None
    if state == FINISHED:
        last = run.history[run.history["split"] == "test"].iloc[-1]
        loss, accuracy = float(last["loss"]), float(last["accuracy"])
    step, seconds = int(status.get("step", 0)), float(status.get("seconds", 0.0))
    return RunProgress(run.id, state, step, run.config.steps, seconds, loss, accuracy)


class SweepStatus:
    """Where every run of a sweep is, each time it is asked; made before the sweep starts.

    A failure.txt that was there before belongs to an earlier sweep: its run is to be tried again and waits.
    """

    def __init__(self, configs: Iterable[TrainConfig], out: str | Path) -> None:
        self.runs = {config.run_name: Run(Path(out) / config.run_name, config) for config in configs}
        self.failed_before = {name: failed_at(run.path) for name, run in self.runs.items()}
        self.finished: dict[str, RunProgress] = {}
        self.read()

    def read(self) -> list[RunProgress]:
        return [self._read(name, run) for name, run in self.runs.items()]

    def _read(self, name: str, run: Run) -> RunProgress:
        if name in self.finished:
            return self.finished[name]
        state = run_state(run)
        if state == STOPPED or (state == FAILED and failed_at(run.path) == self.failed_before[name]):
            state = WAITING
        progress = progress_of(run, state)
        if state == FINISHED:
            self.finished[name] = progress
        return progress


def seconds_left(rows: Iterable[RunProgress]) -> float | None:
    """Of the whole sweep, at the mean seconds a step of its runs so far, as many at a time as run now."""
    rows = list(rows)
    steps, running = sum(row.step for row in rows), sum(row.state == RUNNING for row in rows)
    if not steps or not running:
        return None
    open_steps = sum(row.steps - row.step for row in rows if row.state in (WAITING, RUNNING))
    return sum(row.seconds for row in rows) / steps * open_steps / running


def table_of(configs: Iterable[TrainConfig], out: str | Path, unfinished: Mapping[str, Outcome]) -> pd.DataFrame:
    """run, state ("finished", or that of the outcome of an unfinished one), system, suite, seed, step, steps, seconds,
    loss, accuracy (test rows), error (empty where it did not fail), path; a row for every configuration, in the order
    given."""
    rows = []
    for config in configs:
        run, outcome = Run(Path(out) / config.run_name, config), unfinished.get(config.run_name)
        progress = progress_of(run, outcome.state if outcome else FINISHED)
        rows.append(
            {
                "run": run.id,
                "state": progress.state,
                "system": config.name or config.system,
                "suite": config.suite,
                "seed": config.seed,
                "step": progress.step,
                "steps": progress.steps,
                "seconds": progress.seconds,
                "loss": progress.loss,
                "accuracy": progress.accuracy,
                "error": outcome.error if outcome else "",
                "path": str(run.path),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)
