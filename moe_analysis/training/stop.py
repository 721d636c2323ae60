"""Ctrl-C in a training run: the step ends, its checkpoint is written, and only then does the run stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import Trainer, TrainerCallback

from . import distributed

WAITS = b"\nstopping behind this step, once its checkpoint is written; again stops at once\n"


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
