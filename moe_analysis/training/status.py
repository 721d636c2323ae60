"""What a run says of itself: who holds its folder, how far it is, where and by which code it was trained, and its model
card."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from peft import PeftConfig
from transformers import TrainerCallback

from ..atomic import write_whole
from ..model_card import hide_base_path, write_card
from . import distributed
from .config import TrainConfig
from .files import RunError, json_text, read_json
from .run_files import LOCK
from .run_files import held as held

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")
GIT_SECONDS = 10
PATIENCE_SECONDS = 1.0  # whoever only asks whether a run is held holds it for a moment


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process, or for all that train it together.

    The lock goes when the process does, however it ends. Of several processes the first one holds it.
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
    """Such as "0.1.0+f2e7be5"; with ".changed" behind it where files of the package are not as committed."""
    try:
        number = version(PACKAGE.name)
    except PackageNotFoundError:  # a clone on the path that nobody installed
        number = "0"
    commit = git("rev-parse", "--short=10", "HEAD")
    if commit is None:
        return number
    return f"{number}+{commit}{'.changed' if git('status', '--porcelain', '--', str(PACKAGE)) else ''}"


def git(*words: str) -> str | None:
    """What git says of the clone that the package lies in; None where there is no git or no clone."""
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


def write_run_card(folder: Path, adapter: PeftConfig, config: TrainConfig, evaluation: pd.DataFrame) -> None:
    """Write the card of a run's adapter, PEFT's own LoRA among them, and take our paths out of its configuration.

    Args:
        folder: where the adapter was saved.
        adapter: the trained model's configuration, which knows the base model.
        config: of the run.
        evaluation: the final results by data set, with the columns dataset, rows, accuracy and loss at least.
    """
    hide_base_path(folder)
    write_card(folder, adapter, facts(config, evaluation))


def facts(config: TrainConfig, evaluation: pd.DataFrame) -> dict[str, Any]:
    """Data, settings and results as `model_card` takes them; a folder of data is called by its last name."""
    chosen = f"{len(config.datasets)} data sets of it" if config.datasets else "all of its data sets"
    most = f", at most {config.rows_per_dataset} rows of each" if config.rows_per_dataset else ""
    suite = config.suite.rstrip("/").rpartition("/")[2]
    batch = config.batch_size * config.gradient_accumulation
    settings = {
        "steps": config.steps,
        "samples a step": batch,
        "optimizer": config.optimizer,
        "optimizer options": config.optimizer_options or None,
        "peak learning rate": config.lr,
        "of the router": config.router_lr,
        "schedule": config.schedule,
        "precision": config.precision,
        "embedder": config.embedder if config.clusters is not None else None,
        "seed": config.seed,
        "run": config.run_name,
    }
    return {
        "data": f"the suite `{suite}`, {chosen}{most}; tested on other rows of the same data sets.",
        "results": results(evaluation),
        **{name: one for name, one in settings.items() if one is not None},
    }


def results(evaluation: pd.DataFrame) -> pd.DataFrame:
    """Rows, accuracy and loss by data set, and their mean over the data sets."""
    found = evaluation[["dataset", "rows", "accuracy", "loss"]]
    means = found[["accuracy", "loss"]].mean()
    mean = pd.DataFrame({"dataset": ["mean"], "rows": [int(found["rows"].sum())], **{k: [v] for k, v in means.items()}})
    return pd.concat([found, mean], ignore_index=True)
