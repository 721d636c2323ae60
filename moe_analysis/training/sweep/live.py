"""A sweep as a person watches it: a live table in a terminal, a line a finished run elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group
from rich.live import Live
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from ..run import FINISHED
from .attempt import FAILED, Outcome
from .status import RUNNING, WAITING, RunProgress, SweepStatus, seconds_left

STYLES = {RUNNING: "cyan", FAILED: "red", FINISHED: "green", WAITING: "dim"}  # in the order of their interest
MARGIN = 7  # lines of a terminal that a table's frame, its summary and the prompt take
HIDDEN = 6  # last characters of a name that a narrow terminal does not show: four of the digest tell runs apart
SHOWN = 8  # characters before those that it does show, as in -s0-87cb


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
