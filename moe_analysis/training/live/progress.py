"""Where a run is, read from its folder alone: by who watches it, a sweep, or the process that trains it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..run import Run
from ..run_files import FINISHED, RUNNING, state_of
from .state import Live, read_live

WAITING = "waiting"  # of a sweep; the other states are those of `run_files`


def run_state(run: Run) -> str:
    """One of "finished", "running", "failed" and "stopped" (see `run_files.state_of`)."""
    return state_of(run.path, run.status)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is; loss (nats an answer token) and accuracy are of the test rows of a finished run."""

    name: str
    state: str
    step: int
    steps: int
    seconds: float
    loss: float | None = None
    accuracy: float | None = None
    live: Live | None = None

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the latest steps, or that of the whole run so far; None before the first step and when nothing
        runs."""
        if self.state != RUNNING or not self.step:
            return None
        pace = self.seconds / self.step  # with the time that loading took
        if self.live is not None and math.isfinite(self.live.pace):
            pace = self.live.pace
        return pace * (self.steps - self.step)


def progress_of(run: Run, state: str) -> RunProgress:
    """Read a run's status.json, live.json, and its history where it is finished."""
    status, loss, accuracy = run.status, None, None
    if state == FINISHED:
        last = run.history[run.history["split"] == "test"].iloc[-1]
        loss, accuracy = float(last["loss"]), float(last["accuracy"])
    step, seconds = int(status.get("step", 0)), float(status.get("seconds", 0.0))
    return RunProgress(run.id, state, step, run.config.steps, seconds, loss, accuracy, read_live(run.path))


def seconds_left(rows: Iterable[RunProgress]) -> float | None:
    """Of the whole sweep, at the mean seconds a step of its runs so far, as many at a time as run now."""
    rows = list(rows)
    steps, running = sum(row.step for row in rows), sum(row.state == RUNNING for row in rows)
    if not steps or not running:
        return None
    open_steps = sum(row.steps - row.step for row in rows if row.state in (WAITING, RUNNING))
    return sum(row.seconds for row in rows) / steps * open_steps / running


def clock(seconds: float | None) -> str:
    """As a person says it: "4 s", "3:05 min", "2:10 h"; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"
