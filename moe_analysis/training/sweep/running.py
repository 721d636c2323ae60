"""Many runs through any executor: finished ones are skipped, interrupted ones resume, failures are isolated.

The progress of a sweep is read only from the folders of its runs. A terminal shows a live table, a log file gets lines.
"""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from ...atomic import unwritable
from ...backbones import load_tokenizer
from ..adapter_source import refuse_another_source
from ..config import TrainConfig, check_config
from ..distributed import check_environment
from ..files import COLUMNS, FAILED, FINISHED, STOPPED, RunError, state_of
from ..origin import warn_of_other_rows
from ..panel import Panel, shown
from ..prepare import embedder_of, fitting_rows, refuse_clusters, run_rows
from ..progress import WAITING, RunProgress, clock, progress_of
from ..run import Run
from ..status import check_reports, checked_out
from ..unfit import refuse_unfit, refuse_unreadable
from .executors import check_workers, shared_pool
from .guard import end_when_read_again, refuse_unguarded
from .work import OnChange, Outcome, TimeLimit, Work, failed_at, failure, forget_failure


@dataclass(frozen=True)
class Sweep:
    """What a sweep leaves.

    Attributes:
        runs: Finished runs, in the order in which their configurations were given.
        failures: By run name, each with error and traceback; finished runs whose files are damaged are among them.
        left: Names of the runs that there was no time for.
        table: One row per configuration, with the columns of `table_of`.
    """

    runs: list[Run]
    failures: dict[str, Outcome]
    left: list[str]
    table: pd.DataFrame


def sweep(
    configs: Iterable[TrainConfig],
    out: str | Path = "runs",
    executor: Any = None,
    workers: int | None = None,
    on_change: OnChange | None = None,
    per_job: int = 1,
    time_limit: float | None = None,
    progress: bool | None = None,
) -> Sweep:
    """Train every configuration that is not finished yet, each in a folder of its own under `out`.

    The same sweep may run on several machines that share the disk: it waits for runs that another process trains. A job
    that dies is submitted again; a run over which two jobs die has failed. An interrupt cancels what is queued and lets
    running runs write a checkpoint, a second one stops them now; called again, the sweep resumes from there.

    Args:
        configs: What is trained.
        out: Folder of the runs, which the workers must see.
        executor: A `concurrent.futures.Executor`, Dask's `client.get_executor(pure=False)` or one of submitit. Only its
            `submit` and the futures' `result` are relied on (`done` and `cancel` are used where there are any). None:
            processes of this machine, spawned, one thread each, kept for the next call.
        workers: Jobs submitted at a time (default: the machine's cores; with an executor, all of them at once).
        on_change: Called in this thread with the run's name and outcome when a run has finished or failed.
        per_job: Runs that a job trains in turn, for executors whose jobs take longer to start than a run.
        time_limit: Seconds after which running runs stop after a checkpoint and no other begins (None: no limit).
        progress: None shows a panel of all runs in a notebook and in a terminal (on stderr), True one line per minute
            elsewhere too, False nothing.

    Raises:
        ValueError: Before the first run starts, for a configuration that cannot be run, data that cannot be read, and
            variables of accelerate that ask for other numbers than a configuration.
        UnguardedScript: In a script whose code does not stand under `if __name__ == "__main__":`.
    """
    refuse_call(executor, workers, per_job, time_limit)
    limit_of_time = TimeLimit(time_limit)
    configs, out = [configs] if isinstance(configs, TrainConfig) else list(configs), checked_out(out)
    for config in configs:
        check_config(config)
    if on_change is not None and not callable(on_change):
        raise ValueError(f"on_change = {on_change!r} cannot be called; pass a function of a name and an outcome")
    unfinished: dict[str, TrainConfig] = {}
    failures: dict[str, Outcome] = {}
    whole: dict[str, Run] = {}
    left: list[str] = []
    for config in configs:
        name = config.run_name
        refuse_another_source(out / name, config.system)
        try:
            run = whole_run(out / name, config)
        except RunError as error:
            failures[name] = failure(error, traceback.format_exc())
            continue
        if run is not None:
            whole[name] = run
            forget_failure(out / name)  # of an attempt before one outside a sweep
        else:
            check_reports(config.reports)
            unfinished[name] = config
    warn_of_other_rows(list(whole.values()))
    for name, outcome in failures.items():
        (on_change or (lambda *_: None))(name, outcome)
    if unfinished:
        refuse_to_train(unfinished.values(), executor)
        refuse_unwritable(out)
        read_once(unfinished.values())
        limit = workers or (os.cpu_count() or 1 if executor is None else len(unfinished))
        # a worker may run in another folder
        chosen = shared_pool(limit) if executor is None else executor
        work = Work(chosen, unfinished, out.resolve(), limit, per_job, on_change, limit_of_time)
        with shown(lambda: SweepStatus(configs, out).look, progress):
            failures |= work.finish()
        left = work.left
    for name, config in unfinished.items():
        try:
            if name not in (*failures, *left) and (run := whole_run(out / name, config)):
                whole[name] = run
        except RunError as error:  # damaged since
            failures[name] = failure(error, traceback.format_exc())
    open_runs = {**failures, **dict.fromkeys(left, Outcome(WAITING))}
    runs = [whole[config.run_name] for config in configs if config.run_name in whole]
    return Sweep(runs, failures, left, table_of(configs, out, open_runs))


def refuse_call(executor: Any, workers: int | None, per_job: int, time_limit: float | None) -> None:
    """Raise ValueError for arguments with which `sweep` could train nothing, whatever its configurations."""
    refuse_torchrun()
    if executor is None:
        end_when_read_again()
    elif not callable(getattr(executor, "submit", None)):
        raise ValueError(
            f"executor = {executor!r} has no method submit; pass a concurrent.futures.Executor, or None for processes "
            "of this machine"
        )
    check_workers(workers)
    if not isinstance(per_job, Integral) or per_job < 1:
        raise ValueError(f"per_job = {per_job!r} must be at least 1, a whole number")
    if time_limit is not None and not (isinstance(time_limit, Real) and time_limit > 0):
        raise ValueError(f"time_limit = {time_limit!r} must be a positive number of seconds")


def refuse_unwritable(out: Path) -> None:
    """Raise RunError for a folder of runs that cannot be written, or made."""
    if reason := unwritable(out):
        raise RunError(f"out = {str(out)!r} cannot be written ({reason}); choose another folder")


def refuse_to_train(configs: Iterable[TrainConfig], executor: Any) -> None:
    """Raise before any work what would end one of these runs, or all: UnguardedScript, and ValueError for variables of
    accelerate that ask for other numbers, and for a run that does not fit its backbone."""
    if executor is None:
        refuse_unguarded()
    configs = list(configs)
    for precision in {config.precision for config in configs}:
        check_environment(precision)
    refuse_unfit(configs)


def whole_run(folder: Path, config: TrainConfig) -> Run | None:
    """A finished run that can be read, None for one that is not finished; RunError for one that is damaged."""
    if not Run(folder, config).finished:
        return None
    run = Run.load(folder)
    progress_of(run)  # reads its history, as the table of the sweep does
    return run


def refuse_torchrun() -> None:
    """Raise ValueError inside torchrun, whose processes would each start the whole sweep."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            f"WORLD_SIZE = {os.environ['WORLD_SIZE']}: start a sweep without torchrun; it uses one process "
            "per run, and only `train` uses several processes for one run"
        )


def train_all(
    configs: Sequence[TrainConfig],
    out: str | Path = "runs",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> list[Run]:
    """The finished runs of a `sweep`, in the order given; raises RunError at its end naming all runs that failed."""
    done = sweep(configs, out, executor, workers, progress=progress)
    if done.failures:
        listed = "\n".join(f"  {name}: {outcome.error}" for name, outcome in done.failures.items())
        count = len({config.run_name for config in configs})
        raise RunError(f"{len(done.failures)} of {count} runs failed; the others were kept:\n{listed}")
    return done.runs


def read_once(configs: Iterable[TrainConfig]) -> None:
    """Read every suite before a run starts, which names once its flaws and the rows that no run can use, and embed the
    prompts of an intuition.

    The embeddings go to the cache with all cores at work, so that no run has to make them with its one.
    """
    configs = list(configs)
    for config in distinct(configs, "backbone", "max_length", "prompt_form"):
        tokenizer = load_tokenizer(config.backbone)
        refuse_unreadable(config, tokenizer, *fitting_rows(config, tokenizer))
    for config in distinct([config for config in configs if config.clusters is not None], "embedder", "clusters"):
        frames = run_rows(config)
        refuse_clusters(config, frames["train"])
        embedder = embedder_of(config, frames["train"])
        for rows in frames.values():
            embedder.transform(rows["prompt"])


def distinct(configs: Iterable[TrainConfig], *fields: str) -> list[TrainConfig]:
    """The first configuration of every choice of rows and of these fields."""
    fields = ("suite", "datasets", "rows_per_dataset", "eval_rows", "holdout_rows", "transfer_suites", *fields)
    chosen: dict[str, TrainConfig] = {}
    for config in configs:
        chosen.setdefault(str([getattr(config, name) for name in fields]), config)
    return list(chosen.values())


class SweepStatus:
    """Where every run of a sweep is, each time it is asked; made before the sweep starts.

    A failure.txt that was there before belongs to an earlier sweep: its run is to be tried again and waits.
    """

    def __init__(self, configs: Iterable[TrainConfig], out: str | Path) -> None:
        self.runs = {config.run_name: Run(Path(out) / config.run_name, config) for config in configs}
        self.failed_before = {name: failed_at(run.path) for name, run in self.runs.items()}
        self.finished: dict[str, RunProgress] = {}
        self.read()

    def read(self) -> list[RunProgress]:
        return [self._read(name, run) for name, run in self.runs.items()]

    def look(self) -> Panel:
        """The panel of all runs, as they are now."""
        return Panel(self.read())

    def _read(self, name: str, run: Run) -> RunProgress:
        if name in self.finished:
            return self.finished[name]
        try:
            state = state_of(run.path, run.status)
        except RunError:
            state = FAILED
        if state == STOPPED or (state == FAILED and failed_at(run.path) == self.failed_before[name]):
            state = WAITING
        progress, _ = progress_or_damage(run, state)
        if progress.state == FINISHED:
            self.finished[name] = progress
        return progress


def progress_or_damage(run: Run, state: str) -> tuple[RunProgress, str]:
    """`progress_of` a run, and what is wrong with its files: a damaged run has failed, and stops no view of others."""
    try:
        return progress_of(run, state), ""
    except RunError as error:
        return RunProgress(run.id, FAILED, 0, run.config.steps, 0.0), str(error)


def table_of(configs: Iterable[TrainConfig], out: str | Path, unfinished: Mapping[str, Outcome]) -> pd.DataFrame:
    """run, state ("finished", or that of the outcome of an unfinished one), system, suite, seed, step, steps, seconds,
    loss, accuracy (test rows), error (empty if it did not fail), path; a row for every configuration, in the order
    given."""
    rows = []
    for config in configs:
        run, outcome = Run(Path(out) / config.run_name, config), unfinished.get(config.run_name)
        progress, damage = progress_or_damage(run, outcome.state if outcome else FINISHED)
        rows.append(
            {
                **vars(progress),
                "run": run.id,
                "system": config.name or config.system,
                "suite": config.suite,
                "seed": config.seed,
                "error": outcome.error if outcome else damage,
                "path": str(run.path),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


@contextmanager
def display(status: SweepStatus, console: Console, quiet: bool = False) -> Iterator[Callable[[str, Outcome], None]]:
    """Show a sweep while the block runs, unless quiet; what it yields is called for every run that ended."""
    if not (quiet or console.is_terminal):
        yield lines(status, console)
        return
    with shown(lambda: status.look, False if quiet else None, console):
        yield lambda *_: None


def lines(status: SweepStatus, console: Console) -> Callable[[str, Outcome], None]:
    """A function that prints how a run ended, with the count of those that did."""
    before = sum(row.state == FINISHED for row in status.read())
    ended = Counter({FINISHED: before})
    if before:
        console.print(f"{before} of {len(status.runs)} runs are finished already", highlight=False)

    def tell(name: str, outcome: Outcome) -> None:
        ended[outcome.state] += 1
        row = next(row for row in status.read() if row.name == name)
        what = ending(row, outcome)
        console.print(
            f"{ended.total()}/{len(status.runs)} {escape(name)}: {escape(what)}", highlight=False, soft_wrap=True
        )

    return tell


def ending(row: RunProgress, outcome: Outcome) -> str:
    """How a run ended, in words; a base model is tested without a folder that could hold its scores."""
    if outcome.state == FAILED:
        first_line = outcome.error.partition("\n")[0]
        return f"failed: {first_line}"
    if row.loss is None or row.accuracy is None:
        return "finished"
    scores = f"test loss {row.loss:.3f}, accuracy {row.accuracy:.3f}"
    return f"finished {row.steps} steps in {clock(row.seconds)}, {scores}"
