"""Progress on stderr with the time that is left, for what takes longer than two seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from .terminal import note, notes

if TYPE_CHECKING:
    from ..training.sweep.status import SweepStatus

T = TypeVar("T")
EVERY_SECONDS = 60.0


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


@contextmanager
def run_display(status: SweepStatus) -> Iterator[None]:
    """While one run trains: its row, step and time left, live in a terminal; else a line a minute."""
    from ..training.sweep.status import clock, display

    if notes.is_terminal:
        with display(status, notes):
            yield
        return
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(EVERY_SECONDS):
            row = status.read()[0]
            left = f", about {clock(row.seconds_left)} left" if row.seconds_left is not None else ""
            note(f"{row.name}: step {row.step} of {row.steps}{left}")

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
