"""How long a sweep may go on, and how everybody who trains for it hears that it ended."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .run import RunError

LAST_SHARE, LAST_SECONDS = 0.05, 60.0  # of the time, in which no run is begun: it would hardly be loaded
PREFIX = ".sweep-"


class TimeLimit:
    """Seconds that begin with the object; None never ends."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self.started = seconds, time.monotonic()

    @property
    def left(self) -> float:
        return float("inf") if self.seconds is None else self.seconds - (time.monotonic() - self.started)

    @property
    def ended(self) -> bool:
        return self.left <= 0

    @property
    def too_late_to_begin(self) -> bool:
        return self.seconds is not None and self.left <= min(LAST_SHARE * self.seconds, LAST_SECONDS)


@contextmanager
def permit_in(out: Path) -> Iterator[Path]:
    """A file in the folder of the runs while the block runs: whoever trains for a sweep goes on as long as it is there.

    A file is what processes, Dask workers and jobs on other machines can all see, and deleting it works on a full disk.
    """
    path = out / f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text("The runs of a sweep go on while this file is there; delete it to stop them.\n")
    except OSError as error:
        raise RunError(f"out = {str(out)!r} cannot be written ({error}); choose another folder") from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
