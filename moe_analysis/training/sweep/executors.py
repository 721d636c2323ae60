"""Where a sweep's runs are trained: processes of this machine, Dask workers, or jobs of a cluster's queue."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...extras import extra

KINDS = ("process", "dask", "submitit")
# what submitit calls by its own name for every kind of cluster; all else is a parameter of Slurm's
SHARED_PARAMETERS = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)
DAY = 24 * 60
CONNECT_SECONDS = 10
# no daemons: runs may start processes of their own. One task a worker, and no second try of Dask's own: when a worker
# dies, the run it trained is to blame, and the sweep tries it again.
DASK = {
    "distributed.worker.daemon": False,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 0,
}


@contextmanager
def open_executor(
    kind: str,
    out: str | Path,
    workers: int | None = None,
    scheduler: str | None = None,
    slurm: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Any, int | None]]:
    """The executor by name and how many jobs to submit at a time, as `sweep` wants them.

    process: (None, workers), the sweep's own pool. dask: a local cluster of `workers` processes of one thread each
    (default: the machine's cores), or the one at the address `scheduler`. submitit: Slurm where it is installed, else
    processes of this machine, `workers` at a time; its files go to `out`/.submitit and slurm holds its parameters,
    such as partition or timeout_min (default: a day). Raises ValueError naming what cannot be used.
    """
    if kind not in KINDS:
        raise ValueError(f"executor = {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    if scheduler and kind != "dask":
        raise ValueError(f"scheduler = {scheduler!r} is Dask's, but executor = {kind!r}; pass --executor dask")
    if workers is not None and workers < 1:
        raise ValueError(f"workers = {workers} must be at least 1")
    if kind == "process":
        yield None, workers
    elif kind == "dask":
        with dask_client(workers, scheduler) as client:
            yield client.get_executor(pure=False), workers if scheduler else None
    else:
        executor = queue(out, slurm or {})
        # on this machine submitit starts at once whatever is submitted
        yield executor, workers or ((os.cpu_count() or 1) if executor.cluster == "local" else None)


@contextmanager
def dask_client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    import dask

    with extra("cluster"):
        from distributed import Client, LocalCluster

    if scheduler:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"scheduler = {scheduler!r} does not answer ({error}); pass the address that `dask scheduler` prints"
            ) from error
        with client:
            yield client
        return
    with dask.config.set(DASK):
        with interrupts_kept_from_children():
            # a run may take the memory it takes in a process pool
            cluster = LocalCluster(
                n_workers=workers or os.cpu_count() or 1,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
                silence_logs=logging.ERROR,
            )
        with cluster, Client(cluster) as client:
            yield client


@contextmanager
def interrupts_kept_from_children() -> Iterator[None]:
    """Processes and threads that begin in this block never hear Ctrl-C: who started them tells them when to stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def queue(out: str | Path, slurm: Mapping[str, Any]) -> Any:
    """submitit's executor for the queue of this machine."""
    with extra("cluster"):
        import submitit

    executor = submitit.AutoExecutor(folder=Path(out).resolve() / ".submitit")
    given = {name if name in SHARED_PARAMETERS else f"slurm_{name}": value for name, value in slurm.items()}
    try:
        executor.update_parameters(**{"timeout_min": DAY, "name": "sweep", **given})
    except (AssertionError, NameError, ValueError) as error:
        raise ValueError(f"slurm = {dict(slurm)} is refused by submitit: {error}") from error
    return executor
