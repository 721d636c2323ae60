"""How training ends early: by Ctrl-C, by a permit that is taken away, or as the time of a sweep is up.

The step ends, its checkpoint is written, then the run stops.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from . import distributed
from .files import RunError

WAITS = b"\nstopping behind this step, once its checkpoint is written; again stops at once\n"
LAST_SHARE, LAST_SECONDS = 0.05, 60.0  # of the time, in which no run is begun: it would hardly be loaded
PREFIX = ".sweep-"


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

    Only where the signal would raise in the main thread of a run's only process: a process that is told to end at once
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
    """A run stopped behind a checkpoint because its permit was taken away; trained again, it goes on from there."""


class StopWithoutPermit(TrainerCallback):
    """Asks the Trainer for a checkpoint, and to stop, at the end of the step in which the permit was found gone.

    Behind the last step there is nothing to stop: the run goes on to its evaluation.
    """

    def __init__(self, permit: Path) -> None:
        self.permit, self.stopped = permit, False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < state.max_steps and not permitted(self.permit):
            control.should_save = control.should_training_stop = self.stopped = True


@contextmanager
def saved_without_permit(trainer: Trainer, permit: Path | None) -> Iterator[None]:
    """While the block trains, the run stops when the file `permit` is gone (None: nothing is asked).

    Raises RunStopped behind the checkpoint.
    """
    if permit is None:
        yield
        return
    if distributed.world_size() > 1:
        raise ValueError(
            f"permit = {str(permit)!r} is asked by one process, and this run has "
            f"{distributed.world_size()}; train it without a permit"
        )
    callback = StopWithoutPermit(permit)
    trainer.add_callback(callback)
    yield
    if callback.stopped:
        raise RunStopped(f"stopped at step {trainer.state.global_step}, whose checkpoint is written: {permit} is gone")


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
