"""Grids of the regression bench: every configuration is trained once, in processes of one thread, and stored on disk."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...adapters import MoeLoraConfig
from ...training.files import RunError, write_table
from ...training.sweep.executors import check_workers, shared_pool
from ..one_thread import one_thread
from .regression import RegressionTask, train_regression

FORMAT = 1  # increase it if the same configuration would give different numbers


@dataclass(frozen=True)
class RegressionConfig:
    """One point of a grid: every choice that changes its numbers. power: p of the backward factor g^p.

    >>> RegressionConfig(power=0.5).method, RegressionConfig(precondition=False).method
    ('gRSGD', 'SGD')
    """

    task: RegressionTask = RegressionTask()
    power: float = 1.0
    top_k: int = 4
    temperature: float = 1.0
    optimizer: str = "riemannian_sgd"
    precondition: bool = True
    lr: float = 0.16
    router_lr: float = 0.3
    steps: int = 300
    batch: int = 32
    record_every: int = 10
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    @property
    def method(self) -> str:
        """The paper's name: R for preconditioned, g for rescaled; an exponent other than 1/2 is added."""
        name = ("R" if self.precondition else "") + ("SGD" if self.optimizer.endswith("sgd") else "AdamW")
        return name if self.power == 1 else f"g{name}" + ("" if self.power == 0.5 else f" (p = {self.power:g})")

    @property
    def digest(self) -> str:
        text = json.dumps({**asdict(self), "format": FORMAT}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def train(self) -> pd.DataFrame:
        """The history of `train_regression`, with method, power, top_k, temperature and lr as first columns."""
        adapter = MoeLoraConfig(
            r=self.task.r,
            num_experts=self.task.num_experts,
            top_k=self.top_k,
            temperature=self.temperature,
            gate_backward_power=self.power,
        )
        options = {"precondition": self.precondition} if self.optimizer.startswith("riemannian") else {}
        history = train_regression(
            self.task,
            adapter,
            self.optimizer,
            options,
            lr=self.lr,
            router_lr=self.router_lr,
            steps=self.steps,
            batch=self.batch,
            seeds=self.seeds,
            record_every=self.record_every,
        )
        for place, name in enumerate(("method", "power", "top_k", "temperature", "lr")):
            history.insert(place, name, getattr(self, name))
        return history


def grid(base: RegressionConfig, **values: Sequence[Any]) -> list[RegressionConfig]:
    """Every combination: `grid(base, power=(1.0, 0.5), lr=(0.1, 0.2))` has four configurations.

    >>> [(one.power, one.lr) for one in grid(RegressionConfig(), power=(1.0, 0.5), lr=(0.1, 0.2))]
    [(1.0, 0.1), (1.0, 0.2), (0.5, 0.1), (0.5, 0.2)]
    """
    return [replace(base, **dict(zip(values, point))) for point in product(*values.values())]


def train_grid(
    configs: Sequence[RegressionConfig], out: str | Path, workers: int | None = None, executor: Executor | None = None
) -> pd.DataFrame:
    """Histories of all configurations, one after the other; each is trained once and stored as `<digest>.parquet`.

    workers: processes of one thread each (default: the machine's cores). With one worker, or one configuration left to
    train, this process trains, because a new process takes seconds to start. executor: any
    `concurrent.futures.Executor` instead of workers. Configurations that fail do not stop the others; all are named at
    the end (RunError). Raises ValueError for fewer than one worker.

    >>> history = train_grid(grid(bench, power=(1.0, 0.5)), folder / "bench", workers=1)
    >>> history.groupby("method", sort=False)["step"].max().to_dict()
    {'RSGD': 20, 'gRSGD': 20}
    """
    check_workers(workers)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    waiting = {one.digest: one for one in configs if not (folder / f"{one.digest}.parquet").exists()}
    workers = workers or os.cpu_count() or 1
    if executor is None and min(workers, len(waiting)) > 1:
        executor = shared_pool(workers)
    _train_all(executor.submit if executor else submit_here, waiting, folder)
    return pd.concat([pd.read_parquet(folder / f"{one.digest}.parquet") for one in configs], ignore_index=True)


def _train_all(submit: Callable[..., Future[Any]], waiting: dict[str, RegressionConfig], folder: Path) -> None:
    futures = {digest: submit(train_alone, config, folder) for digest, config in waiting.items()}
    failures = [
        f"  {waiting[digest]}: {type(error).__name__}: {error}"
        for digest, future in futures.items()
        if (error := future.exception()) is not None
    ]
    if failures:
        listed = "\n".join(failures)
        raise RunError(f"{len(failures)} of {len(futures)} configurations failed; the others are stored:\n{listed}")


def submit_here(task: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Like an executor's `submit`, but does the work at once in this process."""
    future: Future[Any] = Future()
    try:
        future.set_result(task(*arguments))
    except Exception as error:  # a configuration may fail in any way that torch or the disk can
        future.set_exception(error)
    return future


def train_alone(config: RegressionConfig, folder: Path) -> None:
    """Train one configuration on one thread and write its history."""
    with one_thread():
        write_table(folder / f"{config.digest}.parquet", config.train())


def match_steps(target: RegressionConfig, config: RegressionConfig, out: str | Path, rounds: int = 2) -> pd.DataFrame:
    """Histories of `config` with its lr multiplied, round by round, until its steps are as long as the target's.

    The measure is the mean `effective_step` of a run; the ratio is its geometric mean over the seeds that did not
    diverge on either side. Round 0 is the unchanged config. Every further round multiplies the lr by the last ratio: the
    second one corrects the first. If every seed diverged, there is no further round. Columns as for `train_grid`, with
    round, step_ratio (target / this round; 1 is a match, NaN if there is none) and reference (the target's lr).

    >>> found = match_steps(replace(bench, power=0.5), bench, folder / "bench", rounds=1)
    >>> found["round"].unique().tolist()
    [0, 1]
    """
    wanted, frames = log_steps(train_grid([target], out)), []
    for number in range(rounds + 1):
        history = train_grid([config], out)
        gaps = wanted - log_steps(history)
        ratio = math.exp(gaps[np.isfinite(gaps)].mean())  # of none: NaN
        frames.append(history.assign(round=number, step_ratio=ratio, reference=target.lr))
        if math.isnan(ratio):
            break
        config = replace(config, lr=config.lr * ratio)
    return pd.concat(frames, ignore_index=True)


def log_steps(history: pd.DataFrame) -> pd.Series:
    """Logarithm of the mean effective step of every seed of one configuration, by seed; infinite if it diverged."""
    steps = history[history["step"] > 0].groupby("seed")["effective_step"].mean()
    return pd.Series(np.log(steps.to_numpy()), steps.index)
