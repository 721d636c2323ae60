"""A run while it trains: which process holds its folder, what it reports, and how it ends early.

It ends early after Ctrl-C, when its permit is deleted, or when a sweep's time is over: the step ends, its checkpoint
is written, then the run stops.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from transformers import Trainer, TrainerCallback

from ..atomic import write_whole
from . import distributed
from .files import LOCK, RunError, json_text, read_json

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")
GIT_SECONDS = 10
PATIENCE_SECONDS = 1.0  # a process that only checks whether a run is held holds it for a moment
WAITS = b"\nStopping after this step, once its checkpoint is written; press Ctrl-C again to stop now.\n"
LAST_SHARE, LAST_SECONDS = 0.05, 60.0  # of the time, in which no run is begun: it would hardly be loaded
PREFIX = ".sweep-"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process, or for all that train it together.

    The lock ends with the process, however that ends. Of several processes the first one holds it.
    """
    held: list[FileLock] = []
    try:
        distributed.together(lambda: held.append(hold(folder)))
        yield
    finally:
        for lock in held:
            lock.release()


def hold(folder: Path) -> FileLock:
    lock = FileLock(folder / LOCK, PATIENCE_SECONDS, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RunError(f"{folder} is being trained by another process; wait for it, or stop it") from error
    except OSError as error:
        raise RunError(f"out = {str(folder.parent)!r} cannot be written ({error}); choose another folder") from error
    return lock


class Status:
    """status.json: what a person or a progress bar needs to know about a run without loading it."""

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
        write_whole(self.path, json_text({"state": state, "step": step, "seconds": seconds, **self.values}))


class Progress(TrainerCallback):
    """Keeps status.json fresh, at most every second."""

    def __init__(self, status: Status) -> None:
        self.status = status

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if time.monotonic() - self.status.written > 1.0:
            self.status.write("running", state.global_step)


def versions() -> dict[str, str]:
    """Of Python, of the libraries that compute, and of this package, with its commit where it is a clone."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **libraries, PACKAGE.name: code_version()}


@cache
def code_version() -> str:
    """Such as "0.1.0+f2e7be5"; with ".changed" after it where files of the package are not as committed."""
    try:
        number = version(PACKAGE.name)
    except PackageNotFoundError:  # a clone on the path that nobody installed
        number = "0"
    commit = git("rev-parse", "--short=10", "HEAD")
    if commit is None:
        return number
    return f"{number}+{commit}{'.changed' if git('status', '--porcelain', '--', str(PACKAGE)) else ''}"


def git(*words: str) -> str | None:
    """What git says about the clone that the package lies in; None if there is no git or no clone."""
    if not (PACKAGE.parent / ".git").exists():  # the package may be installed inside somebody else's repository
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE.parent), *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def machine() -> str:
    """Processor, cores and the first CUDA device, such as "AMD EPYC 7B13, 2 cores"; never a host's name."""
    import torch

    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}, {os.cpu_count()} cores{device}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


class StopAfterStep(TrainerCallback):
    """Asks the Trainer for a checkpoint, and to stop, at the end of the step in which a signal was heard.

    handlers: what each signal did before. `raise_heard` does it, late; a second signal does it at once.
    """

    def __init__(self, handlers: Mapping[Any, Callable[..., Any]]) -> None:
        self.handlers, self.heard = handlers, 0

    def hear(self, number: int, frame: Any) -> None:
        if self.heard:
            self.handlers[number](number, frame)
        self.heard = number
        os.write(2, WAITS)  # print may be interrupted by this very handler, and must not be entered twice

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.heard:
            control.should_save = control.should_training_stop = True

    def raise_heard(self) -> None:
        if self.heard:
            self.handlers[self.heard](self.heard, None)


@contextmanager
def saved_when_stopped(trainer: Trainer) -> Iterator[None]:
    """While the block trains, SIGINT and SIGTERM take effect after the step, with its checkpoint written.

    Only where the signal would raise in the main thread of a run's only process: a process that must end at once
    (SIGTERM without a handler, a worker of a sweep) does so, and of several processes none may stop before the others.
    """
    handlers = {
        number: handler for number in (signal.SIGINT, signal.SIGTERM) if callable(handler := signal.getsignal(number))
    }
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or distributed.world_size() > 1 or handlers.get(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    callback = StopAfterStep(handlers)
    trainer.add_callback(callback)
    for number in handlers:
        signal.signal(number, callback.hear)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    callback.raise_heard()


class RunStopped(RuntimeError):
    """A run stopped after a checkpoint because its permit was taken away; trained again, it resumes from there."""


class StopWithoutPermit(TrainerCallback):
    """Asks the Trainer for a checkpoint, and to stop, at the end of the step in which the permit was found gone.

    After the last step there is nothing to stop: the run continues with its evaluation.
    """

    def __init__(self, permit: Path) -> None:
        self.permit, self.stopped = permit, False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < state.max_steps and not permitted(self.permit):
            control.should_save = control.should_training_stop = self.stopped = True


@contextmanager
def saved_without_permit(trainer: Trainer, permit: Path | None) -> Iterator[None]:
    """While the block trains, the run stops when the file `permit` is gone (None: nothing is asked).

    Raises RunStopped after the checkpoint.
    """
    if permit is None:
        yield
        return
    if distributed.world_size() > 1:
        raise ValueError(
            f"permit = {str(permit)!r} works with one process, but this run has "
            f"{distributed.world_size()}; train it without a permit"
        )
    callback = StopWithoutPermit(permit)
    trainer.add_callback(callback)
    yield
    if callback.stopped:
        raise RunStopped(f"stopped at step {trainer.state.global_step}, with a checkpoint: {permit} was deleted")


def permitted(permit: str | Path) -> bool:
    """Whether the file is there; a disk that does not answer forbids."""
    return os.path.exists(permit)  # noqa: PTH110 - pathlib's raises where rights lack


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
    """A file in the folder of the runs while the block runs: processes of a sweep train as long as it exists.

    A file is what processes, Dask workers and jobs on other machines can all see, and deleting it works on a full disk.
    """
    path = out / f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text("The runs of a sweep continue while this file is there; delete it to stop them.\n")
    except OSError as error:
        raise RunError(f"out = {str(out)!r} cannot be written ({error}); choose another folder") from error
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
