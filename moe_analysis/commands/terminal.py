"""What goes where: results to stdout, everything else to stderr, and with --json only one document on stdout.

Work that takes longer than two seconds shows its progress and the time left on stderr. Notebooks that are being
executed have one bar each, or one line each outside a terminal.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ..atomic import write_whole
from ..cards.in_words import signed

results = Console()
notes = Console(stderr=True)
T = TypeVar("T")
UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
FORM = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")


def emit(value: Any) -> None:
    """One JSON document on stdout; NaN is refused, as JSON has none."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a frame as JSON values; NaN becomes null."""
    return json.loads(frame.to_json(orient="records", double_precision=15))


def table(*columns: str, title: str | None = None, numbers: tuple[str, ...] = ()) -> Table:
    """An empty table without vertical lines; the columns named in `numbers` are set flush right and never broken."""
    empty = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for name in columns:
        if name in numbers:
            empty.add_column(name, justify="right", no_wrap=True)
        else:
            empty.add_column(name, overflow="fold")
    return empty


def show(*tables: Table) -> None:
    """Print tables on stdout, as wide as the terminal; in a file or a pipe as wide as they are, one line per row."""
    for one in tables:
        if results.is_terminal:
            results.print(one)
        else:
            wide = Console(width=10_000)
            wide.print(one, width=Measurement.get(wide, wide.options, one).maximum, highlight=False)


def fits(one: Table) -> bool:
    """Whether a table has room on stdout without breaking a word; always where it goes to a file or a pipe."""
    return not results.is_terminal or Measurement.get(results, results.options, one).maximum < results.width


def answer(text: str) -> None:
    """One line of a result on stdout."""
    results.print(escape(text), highlight=False, soft_wrap=True)


def note(text: str, style: str = "") -> None:
    """A line for a person, on stderr."""
    notes.print(escape(text), style=style, highlight=False, soft_wrap=True)


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number for a table; nothing for None and NaN."""
    if value is None or value != value:
        return ""
    return signed(value, digits) if sign else f"{value:z.{digits}f}"


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show that something is being done that cannot say how long it takes; nothing outside a terminal."""
    if not notes.is_terminal:
        yield
        return
    with notes.status(what):
        yield


def each(things: Sequence[T], what: str) -> Iterator[T]:
    """The things in turn, with a bar once two seconds have passed in a terminal."""
    from ..tasks.progress import with_progress

    for places in with_progress([[place] for place in range(len(things))], len(things), what, None):
        yield things[places[0]]


def counted(names: Sequence[str]) -> Iterator[str]:
    """The names in turn, with a bar from the start that shows the one at work."""
    columns = (
        SpinnerColumn(),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("", total=len(names))
        for name in names:
            bar.update(task, description=name)
            yield name
            bar.advance(task)


def seconds_of(option: str, text: str) -> float:
    """Seconds of "2h", "90m", "1h30m" or "45s"; raises ValueError naming the option.

    >>> seconds_of("--for", "1h30m"), seconds_of("--for", "45s")
    (5400.0, 45.0)
    >>> seconds_of("--for", "soon")
    Traceback (most recent call last):
        ...
    ValueError: --for = 'soon' is not a time; write 2h, 90m, 1h30m or 45s
    """
    found = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text) if FORM.fullmatch(text) else []
    seconds = sum(float(number) * UNITS[unit] for number, unit in found)
    if not seconds > 0:
        raise ValueError(f"{option} = {text!r} is not a time; write 2h, 90m, 1h30m or 45s")
    return seconds


@dataclass
class Pace:
    """The cells of one notebook: seconds of each the last time (empty where unknown), and when each began now."""

    cells: int
    before: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    def left(self, now: float) -> float | None:
        """Seconds until the last cell ends; None before there is anything to judge by.

        Where the last time is unknown, the cells to come are taken to be like those that are done.
        """
        done = self.seconds(now)[:-1]
        if len(self.before) == self.cells:
            expected = self.before
        elif done:
            expected = [sum(done) / len(done)] * self.cells
        else:
            return None
        if not self.starts:
            return sum(expected)
        place = len(done)
        return max(0.0, expected[place] - (now - self.starts[-1])) + sum(expected[place + 1 :])

    def seconds(self, now: float) -> list[float]:
        """Of every cell that began, the last of them until now."""
        return [after - start for start, after in zip(self.starts, [*self.starts[1:], now])]


class Memory:
    """Seconds of the cells of notebooks, in a JSON file: settings -> notebook -> list. A help, never needed: a file
    that cannot be read or written is as none."""

    def __init__(self, path: Path, settings: str) -> None:
        self.path, self.settings = path, settings

    def recall(self, notebook: str) -> list[float]:
        known = self._read().get(self.settings)
        seconds = known.get(notebook) if isinstance(known, dict) else None
        right = isinstance(seconds, list) and all(type(value) in (int, float) for value in seconds)
        return [float(value) for value in seconds] if right and seconds else []

    def keep(self, seconds: Mapping[str, list[float]]) -> None:
        known = self._read()
        mine = known.get(self.settings)
        rounded = {name: [round(value, 2) for value in values] for name, values in seconds.items()}
        known[self.settings] = {**(mine if isinstance(mine, dict) else {}), **rounded}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(known, indent=1, sort_keys=True) + "\n")
        except OSError:
            return

    def _read(self) -> dict:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def hours(seconds: float | None) -> str:
    """Such as "0:03:05"; "-:--:--" for None."""
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))


class TimesColumn(ProgressColumn):
    """Elapsed time, and what is left of the notebook."""

    max_refresh = 0.5

    def __init__(self, paces: dict[str, Pace]) -> None:
        super().__init__()
        self.paces = paces

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(hours(task.finished_time), style="progress.elapsed")
        left = self.paces[task.description].left(time.monotonic())
        return Text(f"{hours(task.elapsed)}, left {hours(left)}", style="progress.remaining")


class NotebookBars:
    """A context manager whose on_cell and on_end receive the notebooks' progress, from any thread."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.paces, self.tasks = memory, dict[str, Pace](), dict[str, Any]()
        self.done: dict[str, list[float]] = {}
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(16),
            TextColumn("cell {task.fields[cell]}/{task.total}"),
            TimesColumn(self.paces),
        )
        self.bar = Progress(*columns, console=notes, disable=not notes.is_terminal)

    def __enter__(self) -> NotebookBars:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()
        self.memory.keep(self.done)

    def on_cell(self, notebook: str, cell: int, cells: int) -> None:
        """Cell number `cell` of `cells` begins."""
        now = time.monotonic()
        if notebook not in self.tasks:
            self.paces[notebook] = pace = Pace(cells, self.memory.recall(notebook))
            self.tasks[notebook] = self.bar.add_task(notebook, total=cells, cell=cell)
            if not notes.is_terminal:
                left = pace.left(now)
                note(f"{notebook}: {cells} cells" + (f", about {hours(left)}" if left is not None else ""))
        self.paces[notebook].starts.append(now)
        self.bar.update(self.tasks[notebook], completed=cell - 1, cell=cell)

    def on_end(self, notebook: str) -> None:
        """The last cell has ended."""
        self.done[notebook] = self.paces[notebook].seconds(time.monotonic())
        self.bar.update(self.tasks[notebook], completed=self.paces[notebook].cells)
        if not notes.is_terminal:
            note(f"{notebook}: done in {hours(sum(self.done[notebook]))}")
