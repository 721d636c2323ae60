"""What goes where: results to stdout, all else to stderr, and with --json one document alone on stdout.

Progress is shown on stderr with the time that is left, for what takes longer than two seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

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
    """Print tables on stdout, as wide as the terminal; in a file or a pipe as wide as they are, a row a line."""
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
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


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


def counted(things: Iterable[T], total: int, name: Any) -> Iterator[T]:
    """The things in turn, with a bar from the start that names the one at work; `name(thing)` is its name."""
    columns = (
        SpinnerColumn(),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as bar:
        task = bar.add_task("", total=total)
        for thing in things:
            bar.update(task, description=name(thing))
            yield thing
            bar.advance(task)


def seconds_of(option: str, text: str) -> float:
    """Seconds of "2h", "90m", "1h30m" or "45s"; raises ValueError naming the option.

    >>> seconds_of("--for", "1h30m"), seconds_of("--for", "45s")
    (5400.0, 45.0)
    >>> seconds_of("--for", "soon")
    Traceback (most recent call last):
        ...
    ValueError: --for = 'soon' is no time; write 2h, 90m, 1h30m or 45s
    """
    found = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text) if FORM.fullmatch(text) else []
    seconds = sum(float(number) * UNITS[unit] for number, unit in found)
    if not seconds > 0:
        raise ValueError(f"{option} = {text!r} is no time; write 2h, 90m, 1h30m or 45s")
    return seconds
