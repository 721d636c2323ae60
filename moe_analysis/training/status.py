"""The state of a run while it trains: who holds its folder, and how far it is."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from transformers import TrainerCallback

from . import distributed
from .provenance import machine, versions
from .run import RunError, json_text, read_json, write_atomic


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process, or for all that train it together.

    The lock goes when the process does, however it ends. Of several processes the first one holds it.
    """
    held: list[IO[str]] = []
    try:
        distributed.together(lambda: held.append(hold(folder)))
        yield
    finally:
        for lock in held:
            lock.close()


def hold(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(f"out = {str(folder.parent)!r} cannot be written ({error}); choose another folder") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise RunError(f"{folder} is being trained by another process; wait for it, or stop it") from error
    return lock


class Status:
    """status.json: what a person or a progress bar wants to know about a run without loading it."""

    def __init__(self, folder: Path, steps: int, backbone_sha256: str) -> None:
        self.path, self.written = folder / "status.json", 0.0
        previous = read_json(self.path) if self.path.exists() else {}
        self.before = float(previous.get("seconds", 0.0))
        self.started = time.monotonic()
        self.values = {
            "steps": steps,
            "world_size": distributed.world_size(),
            "backbone_sha256": backbone_sha256,
            "versions": versions(),
            "machine": machine(),
        }

    def write(self, state: str, step: int) -> None:
        seconds = round(self.before + time.monotonic() - self.started, 1)
        self.written = time.monotonic()
        write_atomic(self.path, json_text({"state": state, "step": step, "seconds": seconds, **self.values}))


class Progress(TrainerCallback):
    """Keeps status.json fresh, at most every second."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if time.monotonic() - self.status.written > 1.0:
            self.status.write("running", state.global_step)
