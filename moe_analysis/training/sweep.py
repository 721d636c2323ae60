"""Several runs at once, each in a process of its own with one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from ..tasks.rows import SuiteWarning
from .config import TrainConfig
from .intuition import embed_like_training, run_rows
from .run import Run, RunError


def train_all(
    configs: Sequence[TrainConfig],
    out: str | Path = "runs",
    workers: int | None = None,
    executor: Executor | None = None,
) -> list[Run]:
    """Train every configuration that is not finished yet and return the runs in the order given.

    workers: processes, one thread each (default: the machine's cores). executor: any `concurrent.futures.Executor`
    in place of the process pool; only its `submit` and the futures' `result` are used. Configurations are checked
    before the first one starts. Runs that fail do not stop the others; they are named together at the end (RunError).
    """
    for config in configs:
        config.check()
    waiting = {config.run_name: config for config in configs if not Run(Path(out) / config.run_name, config).finished}
    if waiting:
        read_once(waiting.values())
        _run(executor or shared_pool(workers or os.cpu_count() or 1), waiting, out)
    return [Run.load(Path(out) / config.run_name) for config in configs]


_pools: dict[int, ProcessPoolExecutor] = {}


def shared_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of at most `workers` processes of this process, kept for the next call: starting one costs seconds."""
    pool = _pools.get(workers)
    try:
        if pool is not None:
            pool.submit(os.getpid)
    except BrokenExecutor:  # one of its processes was killed
        pool = None
    if pool is None:
        # a forked child would inherit torch's thread pools in an unusable state
        context = multiprocessing.get_context("spawn")
        pool = _pools[workers] = ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent)
    return pool


def end_with_parent() -> None:
    """Let this worker die with the process that started it, and quietly when that is interrupted.

    A killed sweep leaves nobody training behind, and an interrupted one does not wait for what is queued.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

    def watch(parent: Any) -> None:
        parent.join()
        os._exit(1)

    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


def read_once(configs: Iterable[TrainConfig]) -> None:
    """Read every suite before a run starts, which names its flaws once, and embed the prompts of an intuition.

    The embeddings go to the cache with all cores at work, so that no run has to make them with its one.
    """
    seen = set()
    for config in configs:
        rows_of = (config.suite, str(config.datasets), config.rows_per_dataset, config.eval_rows)
        key = (*rows_of, config.embedder if config.clusters else None)
        if key not in seen:
            seen.add(key)
            for rows in run_rows(config).values():
                if config.clusters is not None:
                    embed_like_training(config, rows["prompt"])


def _run(executor: Executor, waiting: dict[str, TrainConfig], out: str | Path) -> None:
    futures = {name: executor.submit(train_alone, config.to_dict(), str(out)) for name, config in waiting.items()}
    failures = {}
    for name, future in futures.items():
        try:
            future.result()
        except Exception as error:  # a run may fail in any way that torch or the disk can
            failures[name] = f"{type(error).__name__}: {error}"
    if failures:
        listed = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
        raise RunError(f"{len(failures)} of {len(futures)} runs failed; the others are kept:\n{listed}")


def train_alone(config: dict[str, Any], out: str) -> str:
    """Train one run in this process with a single thread and without a word on the console; returns its path."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    import transformers

    from .trainer import train

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)  # of the libraries, about each other
    warnings.simplefilter("ignore", SuiteWarning)  # said once, before the runs started
    return str(train(TrainConfig.from_dict(config), out).path)
