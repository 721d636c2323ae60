"""A run while it trains: which process holds its folder, what it reports and where, and how it ends early.

It ends early after Ctrl-C, or when its permit is deleted: the step ends, its checkpoint is written, then the run stops.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from transformers import Trainer, TrainerCallback

from ..atomic import write_whole
from . import distributed
from .files import LOCK, RUNNING, RunError, json_text, read_status

if TYPE_CHECKING:
    from .config import TrainConfig

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")
GIT_SECONDS = 10
WRITE_SECONDS = 1.0  # between two writings of status.json
PATIENCE_SECONDS = 1.0  # a process that only checks whether a run is held holds it for a moment
WAITS = b"\nStopping after this step, once its checkpoint is written; press Ctrl-C again to stop now.\n"
TENSORBOARD = "tensorboard"  # its files in the folder of a run
INSTALLED_BY = {"tensorboard": '"moe_analysis[tensorboard]"', "wandb": "wandb", "mlflow": "mlflow"}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process, or for all that train it together.

    The lock ends with the process, however that ends. Of several processes the first one holds it. A folder that did not
    exist, and in which nothing was written before the block raised, is removed.
    """
    held: list[FileLock] = []
    made = [path for path in (folder, *folder.parents) if not path.exists()] if distributed.first() else []
    try:
        distributed.together(lambda: held.append(hold(folder)))
        yield
    except BaseException:
        remove_untouched(made)
        raise
    finally:
        for lock in held:
            lock.release()


def remove_untouched(made: Sequence[Path]) -> None:
    """Remove folders, the innermost first, in which lies nothing but a lock."""
    if made and made[0].is_dir() and {path.name for path in made[0].iterdir()} <= {LOCK}:
        with suppress(OSError):  # the next one has something inside
            (made[0] / LOCK).unlink(missing_ok=True)
            for path in made:
                path.rmdir()


def checked_out(out: str | Path) -> Path:
    """The folder of runs as a path; raises ValueError for what is none."""
    if not isinstance(out, str | os.PathLike):
        raise ValueError(f'out = {out!r} is not a path; pass a folder, such as out="runs"')
    return Path(out)


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


class Status(TrainerCallback):
    """status.json: what a person or a progress bar needs to know about a run; fresh to a second while it trains."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.path, self.written = folder / "status.json", 0.0
        self.previous = read_status(folder)
        self.before = float(self.previous.get("seconds", 0.0))
        self.started = time.monotonic()
        self.values: dict[str, Any] = {
            "steps": steps,
            "world_size": distributed.world_size(),
            "versions": versions(),
            "machine": machine(),
        }

    def write(self, state: str, step: int) -> None:
        seconds = round(self.before + time.monotonic() - self.started, 1)
        self.written = time.monotonic()
        write_whole(self.path, json_text({"state": state, "step": step, "seconds": seconds, **self.values}))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if time.monotonic() - self.written > WRITE_SECONDS:
            self.write(RUNNING, state.global_step)


def check_reports(reports: Sequence[str]) -> None:
    """Raise ValueError naming a library of `TrainConfig.reports` that is not installed, and what installs it."""
    from transformers.integrations import integration_utils

    for name in reports:
        if not getattr(integration_utils, f"is_{name}_available")():
            raise ValueError(
                f"report_to = {name!r} needs a library that is not installed; pip install {INSTALLED_BY[name]}, or omit "
                "report_to"
            )


class Reports(TrainerCallback):
    """Hands a Trainer's logs to its callbacks for reports, which end when the run does.

    Trainer ends them after the last step, and the final evaluation comes later: MLflow would open another run for it.

    Args:
        config: Of the run.
        folder: Of the run, for TensorBoard's files.
    """

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.callbacks: list[Any] = []
        self.latest: tuple[Any, Any, Any] | None = None  # Trainer's arguments, state and control
        self.other_run: Any = None  # a wandb run that other code started and will finish

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        self.latest = args, state, control
        self.other_run = getattr(sys.modules.get("wandb"), "run", None)
        for name in self.config.reports:
            options = {"tb_writer": self._writer(state.global_step)} if name == "tensorboard" else {}
            self.callbacks.append(INTEGRATION_TO_CALLBACK[name](**options))
            self.callbacks[-1].on_train_begin(args, state, control, **named)

    def _writer(self, step: int) -> Any:
        """TensorBoard's, in the run's folder; what a run wrote after the checkpoint that it resumes from is removed."""
        from torch.utils.tensorboard import SummaryWriter

        home = os.environ.get("TENSORBOARD_LOGGING_DIR")
        place = Path(home).expanduser() / self.config.run_name if home else self.folder / TENSORBOARD
        return SummaryWriter(log_dir=str(place), purge_step=step + 1 if step else None)

    def on_log(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        for callback in self.callbacks:
            callback.on_log(args, state, control, **named)

    def on_save(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        for callback in self.callbacks:
            callback.on_save(args, state, control, **named)

    def end(self, trainer: Trainer) -> None:
        """End the reports, whether the run has come to its end or not."""
        for callback in self.callbacks:
            callback.on_train_end(*(self.latest or ()), model=trainer.model, processing_class=trainer.processing_class)
        if "wandb" in self.config.reports and self.callbacks and self.other_run is None:
            sys.modules["wandb"].finish()  # else the next run of this process would go on with it


@contextmanager
def reported(trainer: Trainer, config: TrainConfig, folder: Path) -> Iterator[None]:
    """While the block trains and evaluates, the first process reports what the configuration asks for."""
    if not config.reports or not distributed.first():
        yield
        return
    reports = Reports(config, folder)
    trainer.add_callback(reports)
    try:
        yield
    finally:
        reports.end(trainer)


def versions() -> dict[str, str]:
    """Of Python, of the libraries that compute, and of this package, with its commit where it is a clone."""
    return {"python": platform.python_version(), **library_versions(), PACKAGE.name: code_version()}


@cache
def library_versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


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


class RunStopped(RuntimeError):
    """A run stopped after a checkpoint because its permit was taken away; trained again, it resumes from there."""


class StopAfterStep(TrainerCallback):
    """Asks the Trainer for a checkpoint, and to stop, after a step in which a signal was heard or the permit was gone.

    Without a permit the last step is followed by the evaluation all the same: there is nothing to stop.
    """

    def __init__(self, heard: Sequence[int], permit: Path | None) -> None:
        self.heard, self.permit, self.permitted = heard, permit, True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.permit is not None and state.global_step < state.max_steps:
            self.permitted = permitted(self.permit)
        if self.heard or not self.permitted:
            control.should_save = control.should_training_stop = True


def check_permit(permit: Path | None) -> None:
    """Raise ValueError for a permit of a run of several processes."""
    if permit is not None and distributed.world_size() > 1:
        raise ValueError(
            f"permit = {str(permit)!r} works with one process, but this run has "
            f"{distributed.world_size()}; train it without a permit"
        )


@contextmanager
def saved_when_stopped(trainer: Trainer, permit: Path | None) -> Iterator[None]:
    """While the block trains, it stops after a step, with a checkpoint: for a signal, and when the permit is gone.

    Args:
        trainer: Trains in the block.
        permit: A file; None where nothing but a signal stops the run.

    Raises:
        RunStopped: After the checkpoint, when the permit was gone.
    """
    with late_signals() as heard:
        callback = StopAfterStep(heard, permit)
        trainer.add_callback(callback)
        yield
    if not callback.permitted:
        raise RunStopped(f"stopped at step {trainer.state.global_step}, with a checkpoint: {permit} was deleted")


@contextmanager
def late_signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM take effect when the block ends, or when a second one is heard; yields those heard so far.

    Only where the signal would raise in the main thread of a run's only process: a process that must end at once
    (SIGTERM without a handler, a worker of a sweep) does so, and of several processes none may stop before the others.
    """
    heard: list[int] = []
    handlers: dict[int, Callable[..., Any]] = {
        number: handler for number in (signal.SIGINT, signal.SIGTERM) if callable(handler := signal.getsignal(number))
    }
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or distributed.world_size() > 1 or handlers.get(signal.SIGINT) is not signal.default_int_handler:
        yield heard
        return

    def hear(number: int, frame: Any) -> None:
        if heard:
            handlers[number](number, frame)
        heard.append(number)
        os.write(2, WAITS)  # print may be interrupted by this very handler, and must not be entered twice

    for number in handlers:
        signal.signal(number, hear)
    try:
        yield heard
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if heard:
        handlers[heard[-1]](heard[-1], None)


def permitted(permit: str | Path) -> bool:
    """Whether the file is there; a disk that does not answer forbids."""
    return os.path.exists(permit)  # noqa: PTH110 - pathlib's raises where rights lack
