"""The work of a sweep: what an executor gets to train, which runs it has now, which run killed a worker, and when it
ends.

While a sweep runs, its permit lies in the folder of the runs. When the file is gone, each run stops after a checkpoint.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from filelock import Timeout

from ...atomic import write_whole
from ...noise import nobody_watching
from ...tasks.rows import SuiteWarning
from ..adapter_source import keep_source
from ..config import TrainConfig
from ..files import FAILED, FAILURE, FINISHED, STOPPED, RunError, held, json_text, last_line, read_failure
from ..run import Run
from ..status import RunStopped, locked, permitted
from .executors import set_imports_aside
from .guard import UnguardedScript

BUSY = "busy"
_ALONE = threading.Lock()
DEATHS = 2  # a run whose process died so often is listed as failed
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 900.0  # for a step, a checkpoint or an evaluation to end
LAST_SHARE, LAST_SECONDS = 0.05, 60.0  # of the time, in which no run is begun: it would hardly be loaded
PREFIX = ".sweep-"  # of a permit's name
STOPPING = b"\nStopping after the current steps, once their checkpoints are written; press Ctrl-C again to stop now.\n"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        state: "finished", "failed", "busy" (another process trains this run) or "stopped" (its permit was taken away).
        error: Type and message of what was raised.
        traceback: The same with all its lines.
    """

    state: str
    error: str = ""
    traceback: str = ""


OnChange = Callable[[str, Outcome], Any]


def attempt_all(configs: list[dict[str, Any]], out: str, permit: str) -> list[Outcome]:
    """Train the runs one after the other; raises nothing, as not every exception can be sent to the driver."""
    with interrupts_left_to_driver():
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
    """Train one run, or resume it, until the file `permit` is gone; a failure is kept in its folder as failure.txt."""
    if permit and not permitted(permit):
        return Outcome(STOPPED)
    try:
        train_alone(config, out, permit)
    except RunStopped:
        return Outcome(STOPPED)
    except Exception as error:  # a run may fail in any way that torch or the disk can
        if isinstance(error, RunError) and isinstance(error.__cause__, Timeout):
            return Outcome(BUSY)
        outcome = failure(error, traceback.format_exc())
        keep_failure(config, out, outcome)
        return outcome
    forget_failure(out / config.run_name)
    return Outcome(FINISHED)


def train_alone(config: TrainConfig, out: Path, permit: str | None) -> None:
    """Train one run in this process with a single thread and without a word on the console."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch

    from ..trainer import train

    set_imports_aside()
    # an executor of threads: torch's random numbers belong to the whole process, and so do warnings and bars
    with _ALONE, nobody_watching(said_before=SuiteWarning):
        torch.set_num_threads(1)
        train(config, out, progress=False, permit=Path(permit) if permit else None)


def failure(error: BaseException, text: str) -> Outcome:
    return Outcome(FAILED, f"{type(error).__name__}: {error}", text)


def keep_failure(config: TrainConfig, out: Path, outcome: Outcome) -> None:
    """Write failure.txt, and config.json where the run failed before it did.

    Nothing is written where another process holds the folder, or for a configuration that no run can have.
    """
    folder = out / config.run_name
    try:
        config.check()
        with locked(folder):
            if Run(folder, config).finished:
                return
            if not (folder / "config.json").exists():
                keep_source(folder, config.system)
                write_whole(folder / "config.json", json_text(config.to_dict()))
            write_whole(folder / FAILURE, outcome.traceback)
    except (ValueError, OSError):  # the disk may be what failed; the outcome carries the traceback too
        return


def failed_at(folder: Path) -> int | None:
    """Nanoseconds on the disk's clock at which failure.txt was written; None if there is none."""
    try:
        return (folder / FAILURE).stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def forget_failure(folder: Path) -> None:
    """Delete failure.txt; if nothing can be written it stays, and does not matter for a finished run."""
    with suppress(OSError):
        (folder / FAILURE).unlink(missing_ok=True)


class Work:
    """The runs still to be trained, and the jobs that train some of them now."""

    def __init__(
        self,
        executor: Any,
        configs: dict[str, TrainConfig],
        out: Path,
        limit: int,
        per_job: int,
        on_change: OnChange | None,
        time_limit: TimeLimit | None = None,
    ) -> None:
        self.time_limit = TimeLimit(None) if time_limit is None else time_limit
        self.executor, self.configs, self.out, self.limit, self.per_job = executor, configs, out, limit, per_job
        self.on_change = on_change or (lambda *_: None)
        self.queue, self.deaths = deque(configs), Counter[str]()
        self.jobs: dict[tuple[str, ...], Any] = {}  # names of a job's runs -> its future
        self.failures: dict[str, Outcome] = {}
        self.failed_before: dict[str, int | None] = {}  # when an earlier attempt of a run left its failure.txt

    def finish(self) -> dict[str, Outcome]:
        """Work until nothing, or no time, is left; returns what failed, by run name."""
        with permit_in(self.out) as self.permit:
            try:
                while (self.queue or self.jobs) and not self.over():
                    self.submit()
                    self.take_ended()
                self.wind_down()
            except KeyboardInterrupt:
                os.write(2, STOPPING)  # a live table may be writing, and print must not be entered twice
                try:
                    self.wind_down()
                finally:
                    self.stop()
                raise
            except BaseException:
                self.stop()
                raise
        return self.failures

    @property
    def left(self) -> list[str]:
        """Names of the runs that neither finished nor failed."""
        return [name for name in self.configs if name not in self.failures and not self.finished(name)]

    def finished(self, name: str) -> bool:
        try:
            return Run(self.out / name, self.configs[name]).finished
        except RunError:  # a status.json that was damaged meanwhile stops no other run
            return False

    def over(self) -> bool:
        """Whether the time is up, or the permit was removed."""
        limit = self.time_limit
        return limit.ended or not permitted(self.permit) or (not self.jobs and limit.too_late_to_begin)

    def wind_down(self) -> None:
        """Let running runs stop after a checkpoint, and cancel those that wait."""
        self.permit.unlink(missing_ok=True)
        patience = time.monotonic() + PATIENCE_SECONDS
        while self.jobs and time.monotonic() < patience:
            self.take_ended()
            for names in [names for names in self.jobs if not any(held(self.out / name) for name in names)]:
                if cancelled(self.jobs[names]):
                    del self.jobs[names]
                    self.close(names, [Outcome(FINISHED if self.finished(name) else BUSY) for name in names])
        if self.jobs:
            self.stop()

    def take_ended(self) -> None:
        """Take the jobs whose result is there; where futures cannot be asked, wait for the first one's."""
        if any(hasattr(future, "done") for future in self.jobs.values()):
            ended = [names for names, future in self.jobs.items() if future.done()]
        else:
            ended = list(self.jobs)[:1]
        for names in ended:
            self.take(names)
        if not ended:
            time.sleep(POLL_SECONDS)

    def submit(self) -> None:
        """Fill the executor up to the limit with runs that no other process trains."""
        if len(self.jobs) >= self.limit or not self.queue or self.time_limit.too_late_to_begin:
            return
        free = deque(name for name in self.queue if not held(self.out / name))
        while free and len(self.jobs) < self.limit:
            names = tuple(free.popleft() for _ in range(min(self.per_job, len(free))))
            self.queue = deque(name for name in self.queue if name not in names)
            configs = [self.configs[name].to_dict() for name in names]
            self.failed_before |= {name: failed_at(self.out / name) for name in names}
            try:
                task = partial(attempt_all, permit=str(self.permit))
                self.jobs[names] = self.executor.submit(task, configs, str(self.out))
            except Exception as error:  # a pool that was given may be broken for good
                self.close(names, self.after_death(names, error))

    def take(self, names: tuple[str, ...]) -> None:
        try:
            outcomes = self.jobs[names].result()
        except UnguardedScript:  # no run is to blame, and each would end so
            raise
        except Exception as error:  # an attempt raises nothing: the job died, or never began
            outcomes = self.after_death(names, error)
        del self.jobs[names]
        self.close(names, outcomes)

    def close(self, names: tuple[str, ...], outcomes: list[Outcome]) -> None:
        for name, outcome in zip(names, outcomes):
            if outcome.state in (BUSY, STOPPED):
                self.queue.append(name)
                continue
            if outcome.state == FAILED:
                self.failures[name] = outcome
            self.on_change(name, outcome)

    def after_death(self, names: tuple[str, ...], error: Exception) -> list[Outcome]:
        """What a job that died leaves: runs that ended, the first that did not, to blame, and others to be done."""
        blamed, outcomes = False, []
        for name in names:
            outcome = Outcome(BUSY)
            if self.finished(name):
                outcome = Outcome(FINISHED)
            elif failed_at(self.out / name) != self.failed_before[name]:
                file = self.out / name / FAILURE
                outcome = Outcome(FAILED, last_line(file), read_failure(file))
            elif not blamed:
                blamed = True
                self.deaths[name] += 1
                if self.deaths[name] >= DEATHS:
                    outcome = failure(error, "".join(traceback.format_exception(error)))
                    keep_failure(self.configs[name], self.out, outcome)
            outcomes.append(outcome)
        return outcomes

    def stop(self) -> None:
        """Cancel what is queued and end what runs, as far as the executor can."""
        for future in self.jobs.values():
            cancelled(future)
        if hasattr(self.executor, "stop"):
            self.executor.stop()


def cancelled(future: Any) -> bool:
    """Cancel a job; False if it has ended or runs in a way that cannot be cancelled."""
    if not hasattr(future, "cancel"):
        return False
    try:
        return future.cancel() is not False  # not every executor says anything
    except Exception:  # a queue that no longer knows the job, in words of its own
        return False


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
    """The permit of a sweep, which is there while the block runs.

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
