"""The progress of a run, read only from its folder: live.json, which it writes in training, and its lines in a panel."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..atomic import write_whole
from ..cards.in_words import counted, percent
from .files import FAILED, FINISHED, RUNNING, STOPPED, RunError, last_test, read_json, state_of

FILE = "live.json"
MOST_POINTS = 200  # of a curve in the file
DIGITS = 5  # of a number, which is to be drawn and not computed with
WAITING = "waiting"  # of a sweep; the other states are those of `files`
INTEREST = (RUNNING, FAILED, FINISHED, STOPPED, WAITING)  # states, those first that a small panel keeps


@dataclass(frozen=True)
class Point:
    """One point of the curves.

    Attributes:
        step: Updates so far.
        loss: The task's, in nats per answer token and without balance losses; mean since the point before.
        gate_entropy: Of a token's gates, 1 for equal gates, 0 for one expert; mean over tokens and routers.
        busiest_expert: The largest share of the gates' weight that one expert has; mean over routers.
        dead_experts: Experts of all routers that the latest samples hardly used.

    The last three are NaN if no gates were seen.
    """

    step: int
    loss: float
    gate_entropy: float = math.nan
    busiest_expert: float = math.nan
    dead_experts: float = math.nan


COLUMNS = [entry.name for entry in fields(Point)]


@dataclass(frozen=True)
class Live:
    """What a run reports about itself while it trains.

    Attributes:
        step: Updates so far.
        loss: Of the latest one, as in `Point`.
        routers: How many routers are watched; 0 if there are none.
        experts: Of all of them together.
        pace: Seconds a step since this process began, without its first; NaN before there is one.
        load: (E,) share of the gates' weight of an expert, the busiest first; mean over routers of one size.
        points: The curves, oldest first.

    >>> live = Live(3, 0.5, points=(Point(1, 2.0), Point(3, 0.5)))
    >>> live.curve("loss")
    [2.0, 0.5]
    """

    step: int = 0
    loss: float = math.nan
    routers: int = 0
    experts: int = 0
    pace: float = math.nan
    load: tuple[float, ...] = ()
    points: tuple[Point, ...] = ()

    def curve(self, name: str) -> list[float]:
        """A column of the points."""
        return [getattr(point, name) for point in self.points]

    def until(self, step: int) -> Live:
        """The same without the points after a step, from which a run resumes."""
        return replace(self, step=step, points=tuple(point for point in self.points if point.step <= step))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, null for a number that is none; `from_dict` reads them back."""
        return {
            "step": self.step,
            "loss": short(self.loss),
            "routers": self.routers,
            "experts": self.experts,
            "pace": short(self.pace),
            "load": [short(share) for share in self.load],
            "columns": COLUMNS,
            "points": [[point.step, *map(short, astuple(point)[1:])] for point in self.points],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Live:
        """Read `to_dict` back; raises ValueError, TypeError or KeyError for anything else."""
        if values["columns"] != COLUMNS:
            raise ValueError(f"columns = {values['columns']!r} of another version; this one has {COLUMNS}")
        points = tuple(Point(whole(step), *numbers(row)) for step, *row in values["points"])
        return cls(
            whole(values["step"]),
            number(values["loss"]),
            whole(values["routers"]),
            whole(values["experts"]),
            number(values["pace"]),
            numbers(values["load"]),
            points,
        )


def short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is not a count")
    return value


def number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(number(value) for value in values)


def read_live(folder: Path) -> Live | None:
    """What the file in a run's folder says; None if it is missing, damaged or of another version.

    The file is a help for who watches: no damage of it may stop a run or a list of runs.
    """
    try:
        return Live.from_dict(read_json(folder / FILE))
    except (RunError, KeyError, TypeError, ValueError, OverflowError):
        return None


def write_live(folder: Path, live: Live) -> None:
    """Write the file; a disk error must not stop the training."""
    with suppress(OSError):
        write_whole(folder / FILE, json.dumps(live.to_dict(), separators=(",", ":")) + "\n")


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


def progress_of(run: Any, state: str | None = None) -> RunProgress:
    """Read status.json and live.json of a `Run`, and its history where it is finished; state: as of `state_of`."""
    status = run.status
    state = state_of(run.path, status) if state is None else state
    loss, accuracy = last_test(run.path, run.history) if state == FINISHED else (None, None)
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
        values: A curve, or the shares of experts; empty if there is none.
        shares: Whether the values are separate amounts instead of a curve.
    """

    label: str
    value: str
    note: str = ""
    values: tuple[float, ...] = ()
    shares: bool = False


def facts_of(live: Live | None) -> list[Fact]:
    """What is shown of a run, the most interesting first: only the loss if nothing routes; nothing before a point."""
    if live is None or not live.points:
        return []
    loss = Fact("loss", f"{live.loss:.3f}", "nats per answer token", tuple(live.curve("loss")))
    if not live.routers or not live.load:
        return [loss]
    routers = counted(live.routers, "router")
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
    """The last value that is a number; NaN if none is."""
    return next((one for one in reversed(values) if math.isfinite(one)), math.nan)


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
