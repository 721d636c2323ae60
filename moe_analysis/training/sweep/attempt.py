"""What an executor is given: runs to train alone in a process, each with an outcome that any executor can carry."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from ...noise import nobody_watching
from ...tasks.rows import SuiteWarning
from ..adapter_source import keep_source
from ..config import TrainConfig
from ..run import FINISHED, Run, RunError, json_text, write_atomic
from ..status import locked
from ..stop import RunStopped, permitted

FAILED, BUSY, STOPPED = "failed", "busy", "stopped"
FAILURE = "failure.txt"  # in a run's folder: the traceback of its latest attempt, gone when one succeeds
_ALONE = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: state ("finished", "failed", "busy": another process trains this run, or "stopped": its
    permit was taken away); what was raised, as type and message and as a traceback."""

    state: str
    error: str = ""
    traceback: str = ""


def attempt_all(configs: list[dict[str, Any]], out: str, permit: str | None = None) -> list[Outcome]:
    """Train the runs one after the other; raises nothing, as not every exception survives the way to the driver.

    permit: a file whose absence ends the training, each run behind a checkpoint (None: nothing but a signal does).
    """
    with interrupts_left_to_driver() if permit else nullcontext():
        return [attempt(TrainConfig.from_dict(config), Path(out), permit) for config in configs]


@contextmanager
def interrupts_left_to_driver() -> Iterator[None]:
    """In a worker process Ctrl-C does nothing while the block runs: the driver hears it too, and takes the permit."""
    if parent_process() is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def attempt(config: TrainConfig, out: Path, permit: str | None = None) -> Outcome:
    """Train one run, or go on with it; a failure is kept in its folder as failure.txt."""
    if permit and not permitted(permit):
        return Outcome(STOPPED)
    try:
        train_alone(config, out, permit)
    except RunStopped:
        return Outcome(STOPPED)
    except Exception as error:  # a run may fail in any way that torch or the disk can
        if isinstance(error, RunError) and isinstance(error.__cause__, BlockingIOError):
            return Outcome(BUSY)
        outcome = failure(error, traceback.format_exc())
        keep_failure(config, out, outcome)
        return outcome
    forget_failure(out / config.run_name)
    return Outcome(FINISHED)


def train_alone(config: TrainConfig, out: Path, permit: str | None = None) -> None:
    """Train one run in this process with a single thread and without a word on the console."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    from ..trainer import train

    # an executor of threads: torch's random numbers belong to the whole process, and so do warnings and bars
    with _ALONE, nobody_watching(said_before=SuiteWarning):
        torch.set_num_threads(1)
        train(config, out, permit=Path(permit) if permit else None)


def failure(error: BaseException, text: str) -> Outcome:
    return Outcome(FAILED, f"{type(error).__name__}: {error}", text)


def keep_failure(config: TrainConfig, out: Path, outcome: Outcome) -> None:
    """Write failure.txt, and config.json where the run came not that far.

    Nothing where another process holds the folder, and for a configuration that no run has: its name may be no file's.
    """
    folder = out / config.run_name
    try:
        config.check()
        with locked(folder):
            if Run(folder, config).finished:
                return
            if not (folder / "config.json").exists():
                keep_source(folder, config.system)
                write_atomic(folder / "config.json", json_text(config.to_dict()))
            write_atomic(folder / FAILURE, outcome.traceback)
    except (ValueError, OSError):  # the disk may be what failed; the outcome carries the traceback too
        return


def failed_at(folder: Path) -> int | None:
    """Nanoseconds on the disk's clock at which failure.txt was written; None where there is none."""
    try:
        return (folder / FAILURE).stat().st_mtime_ns
    except FileNotFoundError:
        return None


def kept_failure(folder: Path) -> Outcome:
    """The outcome that failure.txt tells of, with the last line of the traceback as the error."""
    text = (folder / FAILURE).read_text()
    return Outcome(FAILED, text.rstrip().rpartition("\n")[2], text)


def forget_failure(folder: Path) -> None:
    """Delete failure.txt; where nothing can be written it stays, and says nothing of a run that is finished."""
    with suppress(OSError):
        (folder / FAILURE).unlink(missing_ok=True)


def held(folder: Path) -> bool:
    """Whether a process trains the run of this folder now, on this machine or on one that shares the disk."""
    try:
        with (folder / ".lock").open() as lock:
            # shared, so that those who ask do not stand in each other's way
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # never started, or a disk without locks
        return False
    return False
