"""Ctrl-C and SIGTERM: both raise in the main thread, so that what runs is ended on the way out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .exit_codes import INTERRUPTED, TERMINATED


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends what runs just as Ctrl-C does."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """While the block runs, SIGTERM raises `Terminated`; outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def kept(what: str | Callable[[], str]) -> Iterator[None]:
    """Where the block is interrupted, the program says `what` is kept and that the same command goes on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(what if isinstance(what, str) else what())
        raise


def status_of(stop: KeyboardInterrupt) -> int:
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def told(stop: KeyboardInterrupt, command: str) -> str:
    """What a person should know after an interruption; command: the line that was typed."""
    how = "terminated" if isinstance(stop, Terminated) else "interrupted"
    if saved := getattr(stop, "__notes__", []):
        return f"{how}: {' '.join(saved)}\nto go on: {command}"
    return f"{how}; nothing was changed"
