"""Where the panel is shown: live in a terminal or in a notebook, as one line per minute elsewhere, or nowhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ...extras import extra
from ..files import RunError
from ..run import Run
from .panel import Panel
from .progress import progress_of, run_state

REFRESH_SECONDS = 0.5
LINE_SECONDS = 60.0
_DRAWING = threading.Lock()  # a terminal has room for one panel that moves

Look = Callable[[], Panel]  # reads how things stand; called from another thread too


def look_at(run: Run) -> Look:
    """Reads one run's folder."""
    return lambda: Panel([progress_of(run, run_state(run))])


def steady(look: Look) -> Look:
    """The same, with the latest panel where a folder cannot be read for a moment: watching must not stop a run."""
    latest = Panel([])

    def again() -> Panel:
        nonlocal latest
        with suppress(RunError, OSError):
            latest = look()
        return latest

    return again


@contextmanager
def shown(look: Callable[[], Look], progress: bool | None, console: Console | None = None) -> Iterator[None]:
    """Show a panel while the block runs.

    Args:
        look: Makes what reads the panel; called only where it is shown.
        progress: None shows it in notebooks and terminals; True elsewhere too, as one line per minute; False never.
        console: Where a terminal shows it; stderr by default.
    """
    console = console or Console(stderr=True)
    if progress is False:
        yield
    elif in_page():
        with in_notebook(steady(look())):
            yield
    elif console.is_terminal and not console.is_dumb_terminal:
        with in_terminal(steady(look()), console):
            yield
    elif progress:
        with as_lines(steady(look()), console):
            yield
    else:
        yield


def in_page() -> bool:
    """Whether IPython has a page to show HTML on: in a notebook, and not in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def in_terminal(look: Look, console: Console) -> Iterator[None]:
    if not _DRAWING.acquire(blocking=False):
        yield
        return
    try:
        with Live(get_renderable=look, console=console, refresh_per_second=1 / REFRESH_SECONDS):
            yield
    finally:
        _DRAWING.release()


@contextmanager
def in_notebook(look: Look) -> Iterator[None]:
    with extra("notebooks"):
        from IPython.display import display

    handle = display(look(), display_id=True)
    try:
        with every(REFRESH_SECONDS, lambda: handle.update(look())):
            yield
    finally:
        handle.update(look())


@contextmanager
def as_lines(look: Look, console: Console) -> Iterator[None]:
    with every(LINE_SECONDS, lambda: console.print(Text(look().line), highlight=False, soft_wrap=True)):
        yield


@contextmanager
def every(seconds: float, act: Callable[[], Any]) -> Iterator[None]:
    """Do something now and then in a thread while the block runs; what goes wrong there is left out."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            with suppress(Exception):  # a file that is being written, a page that went away: the next time will tell
                act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
