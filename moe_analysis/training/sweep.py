"""Many runs through any executor: nothing finished is repeated, nothing started is lost, a failure stops no other."""

from __future__ import annotations

import os
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..backbones import load_tokenizer
from .adapter_source import refuse_another_source
from .attempt import (
    BUSY,
    FAILED,
    Outcome,
    attempt_all,
    failed_at,
    failure,
    forget_failure,
    held,
    keep_failure,
    kept_failure,
)
from .config import TrainConfig
from .intuition import embed_like_training, run_rows
from .pool import end_with_parent, shared_pool
from .prepare import fitting_rows
from .run import FINISHED, Run, RunError
from .sweep_status import table_of

__all__ = ["Sweep", "end_with_parent", "read_once", "shared_pool", "sweep", "train_all"]

DEATHS = 2  # a run whose process died so often is listed as failed
POLL_SECONDS = 0.1

OnChange = Callable[[str, Outcome], Any]


@dataclass(frozen=True)
class Sweep:
    """What a sweep leaves: finished runs in the order given; failures by run name, each with error and traceback; a
    table with a row for every configuration, its columns as `sweep_status.table_of` has them."""

    runs: list[Run]
    failures: dict[str, Outcome]
    table: pd.DataFrame


def sweep(
    configs: Iterable[TrainConfig],
    out: str | Path = "runs",
    executor: Any = None,
    workers: int | None = None,
    on_change: OnChange | None = None,
    per_job: int = 1,
) -> Sweep:
    """Train every configuration that is not finished yet, each in a folder of its own under `out`.

    executor: a `concurrent.futures.Executor`, Dask's `client.get_executor(pure=False)` or one of submitit; only its
    `submit` and the futures' `result` are relied on (`done` and `cancel` are used where there are any). None: processes
    of this machine, spawned, one thread each, kept for the next call. Its workers must see `out`.
    workers: jobs submitted at a time (default: the machine's cores; with an executor, all of them at once).
    per_job: runs that a job trains in turn, for executors whose jobs take longer to start than a run.
    on_change(run name, outcome) is called in this thread when a run has finished or failed.

    The same sweep may run on several machines that share the disk: a run that another process trains is waited for.
    A job that dies is submitted again; the run it died over is blamed and fails at the second time. Configurations and
    what they read are checked before the first run starts (ValueError). An interrupt cancels what is queued and stops
    what runs; called again, the sweep goes on from the last checkpoints.
    """
    refuse_torchrun()
    configs, out = list(configs), Path(out)
    for config in configs:
        config.check()
    for name, value in (("workers", workers), ("per_job", per_job)):
        if value is not None and value < 1:
            raise ValueError(f"{name} = {value} must be at least 1")
    unfinished = {}
    for config in configs:
        refuse_another_source(out / config.run_name, config.system)
        if Run(out / config.run_name, config).finished:
            forget_failure(out / config.run_name)  # of an attempt before one outside a sweep
        else:
            unfinished[config.run_name] = config
    failures: dict[str, Outcome] = {}
    if unfinished:
        read_once(unfinished.values())
        limit = workers or (os.cpu_count() or 1 if executor is None else len(unfinished))
        # a worker may stand in another folder
        chosen = shared_pool(limit) if executor is None else executor
        failures = Work(chosen, unfinished, out.resolve(), limit, per_job, on_change).finish()
    runs = [Run.load(out / config.run_name) for config in configs if config.run_name not in failures]
    return Sweep(runs, failures, table_of(configs, out, failures))


def refuse_torchrun() -> None:
    """Raise ValueError inside torchrun, whose processes would each start the whole sweep."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            f"WORLD_SIZE = {os.environ['WORLD_SIZE']}: start a sweep without torchrun; it has one process "
            "a run, and `train` is what several processes share"
        )


def train_all(
    configs: Sequence[TrainConfig],
    out: str | Path = "runs",
    workers: int | None = None,
    executor: Executor | None = None,
) -> list[Run]:
    """The finished runs of a `sweep`, in the order given; raises RunError at its end naming all runs that failed."""
    done = sweep(configs, out, executor, workers)
    if done.failures:
        listed = "\n".join(f"  {name}: {outcome.error}" for name, outcome in done.failures.items())
        count = len({config.run_name for config in configs})
        raise RunError(f"{len(done.failures)} of {count} runs failed; the others are kept:\n{listed}")
    return done.runs


def read_once(configs: Iterable[TrainConfig]) -> None:
    """Read every suite before a run starts, which names once its flaws and the rows that no run can use, and embed the
    prompts of an intuition.

    The embeddings go to the cache with all cores at work, so that no run has to make them with its one.
    """
    configs = list(configs)
    for config in distinct(configs, "backbone", "max_length", "prompt_form"):
        fitting_rows(config, load_tokenizer(config.backbone))
    for config in distinct([config for config in configs if config.clusters is not None], "embedder"):
        for rows in run_rows(config).values():
            embed_like_training(config, rows["prompt"])


def distinct(configs: Iterable[TrainConfig], *fields: str) -> list[TrainConfig]:
    """The first configuration of every choice of rows and of these fields."""
    fields = ("suite", "datasets", "rows_per_dataset", "eval_rows", "holdout_rows", "transfer_suites", *fields)
    chosen: dict[str, TrainConfig] = {}
    for config in configs:
        chosen.setdefault(str([getattr(config, name) for name in fields]), config)
    return list(chosen.values())


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
    ) -> None:
        self.executor, self.configs, self.out, self.limit, self.per_job = executor, configs, out, limit, per_job
        self.on_change = on_change or (lambda *_: None)
        self.queue, self.deaths = deque(configs), Counter[str]()
        self.jobs: dict[tuple[str, ...], Any] = {}  # names of a job's runs -> its future
        self.failures: dict[str, Outcome] = {}
        self.failed_before: dict[str, int | None] = {}  # when an earlier attempt of a run left its failure.txt

    def finish(self) -> dict[str, Outcome]:
        """Work until nothing is left; returns what failed, by run name."""
        try:
            while self.queue or self.jobs:
                self.submit()
                ended = self.ended()
                for names in ended:
                    self.take(names)
                if not ended:
                    time.sleep(POLL_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self.failures

    def submit(self) -> None:
        """Fill the executor up to the limit with runs that nobody else trains."""
        if len(self.jobs) >= self.limit or not self.queue:
            return
        free = deque(name for name in self.queue if not held(self.out / name))
        while free and len(self.jobs) < self.limit:
            names = tuple(free.popleft() for _ in range(min(self.per_job, len(free))))
            self.queue = deque(name for name in self.queue if name not in names)
            configs = [self.configs[name].to_dict() for name in names]
            self.failed_before |= {name: failed_at(self.out / name) for name in names}
            try:
                self.jobs[names] = self.executor.submit(attempt_all, configs, str(self.out))
            except Exception as error:  # a pool that was given may be broken for good
                self.close(names, self.after_death(names, error))

    def ended(self) -> list[tuple[str, ...]]:
        """Jobs whose result is there; where futures cannot be asked, the first one, whose result is waited for."""
        if any(hasattr(future, "done") for future in self.jobs.values()):
            return [names for names, future in self.jobs.items() if future.done()]
        return list(self.jobs)[:1]

    def take(self, names: tuple[str, ...]) -> None:
        try:
            outcomes = self.jobs[names].result()
        except Exception as error:  # an attempt raises nothing: the job died, or never began
            outcomes = self.after_death(names, error)
        del self.jobs[names]
        self.close(names, outcomes)

    def close(self, names: tuple[str, ...], outcomes: list[Outcome]) -> None:
        for name, outcome in zip(names, outcomes):
            if outcome.state == BUSY:
                self.queue.append(name)
                continue
            if outcome.state == FAILED:
                self.failures[name] = outcome
            self.on_change(name, outcome)

    def after_death(self, names: tuple[str, ...], error: Exception) -> list[Outcome]:
        """What a job that died leaves: runs that ended, the first that did not, to blame, and others to be done."""
        blamed, outcomes = False, []
        for name in names:
            config, outcome = self.configs[name], Outcome(BUSY)
            if Run(self.out / name, config).finished:
                outcome = Outcome(FINISHED)
            elif failed_at(self.out / name) != self.failed_before[name]:
                outcome = kept_failure(self.out / name)
            elif not blamed:
                blamed = True
                self.deaths[name] += 1
                if self.deaths[name] >= DEATHS:
                    outcome = failure(error, "".join(traceback.format_exception(error)))
                    keep_failure(config, self.out, outcome)
            outcomes.append(outcome)
        return outcomes

    def stop(self) -> None:
        """Cancel what is queued and end what runs, as far as the executor can."""
        for future in self.jobs.values():
            if hasattr(future, "cancel"):
                future.cancel()
        if hasattr(self.executor, "stop"):
            self.executor.stop()
