"""How far a run is, read from its folder alone, and what a panel says about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..files import FAILED, FINISHED, RUNNING, STOPPED, state_of
from ..run import Run
from .state import Live, read_live

WAITING = "waiting"  # of a sweep; the other states are those of `files`
INTEREST = (RUNNING, FAILED, FINISHED, STOPPED, WAITING)  # states, those first that a small panel keeps


def run_state(run: Run) -> str:
    """One of "finished", "running", "failed" and "stopped" (see `files.state_of`)."""
    return state_of(run.path, run.status)


@dataclass(frozen=True)
class RunProgress:
    """How far a run is; loss (nats per answer token) and accuracy are of the test rows of a finished run."""

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
    """Time left for a whole sweep, at the mean seconds per step of its runs so far, as many at a time as run now."""
    rows = list(rows)
    steps, running = sum(row.step for row in rows), sum(row.state == RUNNING for row in rows)
    if not steps or not running:
        return None
    open_steps = sum(row.steps - row.step for row in rows if row.state in (WAITING, RUNNING))
    return sum(row.seconds for row in rows) / steps * open_steps / running


def clock(seconds: float | None) -> str:
    """For a reader: "4 s", "3:05 min", "2:10 h"; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


@dataclass(frozen=True)
class Fact:
    """One thing that a panel shows of a run.

    Attributes:
        label: Its name.
        value: Its latest value as text.
        note: What the value is to be held against.
        values: A curve, or the shares of experts; empty where there is none.
        shares: Whether the values are amounts beside each other instead of a curve.
    """

    label: str
    value: str
    note: str = ""
    values: tuple[float, ...] = ()
    shares: bool = False


def facts_of(live: Live) -> list[Fact]:
    """What there is to be shown of a run, in the order of its interest: the loss alone where nothing routes."""
    loss = Fact("loss", f"{live.loss:.3f}", "nats per answer token", tuple(live.curve("loss")))
    if not live.routers or not live.load or not live.points:
        return [loss]
    routers = f"{live.routers} router{'s' * (live.routers != 1)}"
    curves = {name: tuple(live.curve(name)) for name in ("gate_entropy", "busiest_expert", "dead_experts")}
    entropy, busiest, idle = (latest(curve) for curve in curves.values())
    return [
        loss,
        Fact("gate entropy", f"{entropy:.2f}", "1: equal gates, 0: one expert", curves["gate_entropy"]),
        Fact(
            "busiest expert",
            percent(busiest),
            f"{percent(1 / len(live.load))} if all were equal",
            curves["busiest_expert"],
        ),
        Fact("expert load", "", f"busiest first, mean of {routers}", live.load, shares=True),
        Fact(
            "dead experts",
            "–" if math.isnan(idle) else f"{idle:.0f}",
            f"of {live.experts} in {routers}",
            curves["dead_experts"],
        ),
    ]


def latest(values: Sequence[float]) -> float:
    """The last value that is a number; NaN where none is."""
    return next((one for one in reversed(values) if math.isfinite(one)), math.nan)


def percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


def kept_rows(rows: Sequence[RunProgress], room: int) -> list[RunProgress]:
    """Those of most interest, in the order given."""
    kept = sorted(range(len(rows)), key=lambda place: INTEREST.index(rows[place].state))[:room]
    return [rows[place] for place in sorted(kept)]


def pace(row: RunProgress) -> str:
    """The step, and how long a run took or will take; what else it does where the steps are done."""
    text = f"step {row.step} of {row.steps}"
    if row.state == FINISHED:
        tests = "" if row.loss is None else f", test loss {row.loss:.3f}, accuracy {row.accuracy:.3f}"
        return f"{text} in {clock(row.seconds)}{tests}"
    if row.state == RUNNING and row.step == row.steps:
        return f"{text}, evaluating"
    return f"{text}, about {clock(row.seconds_left)} left" if row.seconds_left is not None else text


def time_of(row: RunProgress) -> str:
    """What a run took, or while it trains what it still takes."""
    left = row.seconds_left
    return clock(row.seconds or None) if left is None else f"{clock(left)} left"


def summary(rows: Sequence[RunProgress], hidden: int = 0) -> str:
    """Such as "1 finished, 2 running of 3; about 26 s left"."""
    counts = Counter(row.state for row in rows)
    order = (FINISHED, RUNNING, WAITING, STOPPED, FAILED)
    parts = [f"{counts[state]} {state}" for state in order if counts[state]]
    text = f"{', '.join(parts)} of {len(rows)}"
    if (left := seconds_left(rows)) is not None:
        text += f"; about {clock(left)} left"
    return text + (f"; {hidden} not shown" if hidden else "")
