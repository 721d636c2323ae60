"""How far a sweep is, read from its runs' folders alone, and the live table or the lines that a person watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..config import TrainConfig
from ..run import FINISHED, Run
from ..status import held
from .work import FAILED, FAILURE, STOPPED, Outcome, failed_at

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
STYLES = {RUNNING: "cyan", FAILED: "red", FINISHED: "green", WAITING: "dim"}  # in the order of their interest
MARGIN = 7  # lines of a terminal that a table's frame, its summary and the prompt take
HIDDEN = 6  # last characters of a name that a narrow terminal does not show: four of the digest tell runs apart
SHOWN = 8  # characters before those that it does show, as in -s0-87cb


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


@contextmanager
def display(status: SweepStatus, console: Console) -> Iterator[Callable[[str, Outcome], None]]:
    """Show a sweep while the block runs; what it yields is to be told of every run that ended."""
    if not console.is_terminal:
        yield lines(status, console)
        return
    with Live(get_renderable=lambda: table(status.read(), console.height), console=console, refresh_per_second=2):
        yield lambda *_: None


def lines(status: SweepStatus, console: Console) -> Callable[[str, Outcome], None]:
    """A function that prints how a run ended, with the count of those that did."""
    before = sum(row.state == FINISHED for row in status.read())
    ended = Counter({FINISHED: before})
    if before:
        console.print(f"{before} of {len(status.runs)} runs are finished already", highlight=False)

    def tell(name: str, outcome: Outcome) -> None:
        ended[outcome.state] += 1
        row = next(row for row in status.read() if row.name == name)
        what = (
            f"failed: {first_line(outcome.error)}"
            if outcome.state == FAILED
            else (
                f"finished {row.steps} steps in {clock(row.seconds)}, test loss {row.loss:.3f}, "
                f"accuracy {row.accuracy:.3f}"
            )
        )
        console.print(
            f"{ended.total()}/{len(status.runs)} {escape(name)}: {escape(what)}", highlight=False, soft_wrap=True
        )

    return tell


def table(rows: list[RunProgress], height: int) -> Group:
    """The runs that fit into `height` lines, running and failed ones first to be kept, and a summary below."""
    room = max(1, height - MARGIN)
    order = list(STYLES)
    kept = sorted(range(len(rows)), key=lambda place: order.index(rows[place].state))[:room]
    grid = Table("run", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("state", "step", "loss", "accuracy", "time"):
        grid.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for place in sorted(kept):
        row = rows[place]
        step = f"{row.step}/{row.steps}"
        numbers = ["" if value is None else f"{value:.3f}" for value in (row.loss, row.accuracy)]
        grid.add_row(Name(row.name), f"[{STYLES[row.state]}]{row.state}[/]", step, *numbers, time_of(row))
    return Group(grid, Text(summary(rows, len(rows) - len(kept))))  # as a caption it would break at the table's width


@dataclass(frozen=True)
class Name:
    """A run's name in the width that the other columns leave."""

    text: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, len(self.text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield Text(shortened(self.text, options.max_width), no_wrap=True, overflow="ellipsis")


def shortened(name: str, room: int) -> str:
    """A name that is longer than `room` without its middle and most of its digest: the rest tells runs apart."""
    if len(name) <= room:
        return name
    end = name[-HIDDEN - SHOWN : -HIDDEN]
    if room < SHOWN + 2:
        return "…" + end[SHOWN + 1 - room :]
    return f"{name[: room - SHOWN - 2]}…{end}…"


def time_of(row: RunProgress) -> str:
    """What a run took, or while it trains what it still takes."""
    left = row.seconds_left
    return clock(row.seconds or None) if left is None else f"{clock(left)} left"


def summary(rows: list[RunProgress], hidden: int) -> str:
    counts = Counter(row.state for row in rows)
    parts = [f"{counts[state]} {state}" for state in (FINISHED, RUNNING, WAITING, FAILED) if counts[state]]
    text = f"{', '.join(parts)} of {len(rows)}"
    if (left := seconds_left(rows)) is not None:
        text += f"; about {clock(left)} left"
    return text + (f"; {hidden} not shown" if hidden else "")


def clock(seconds: float | None) -> str:
    """As a person says it: "4 s", "3:05 min", "2:10 h"; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d} h"


def first_line(text: Any) -> str:
    return str(text).partition("\n")[0]
