"""Where a sweep's runs are trained: processes of this machine, Dask workers, or jobs of a cluster's queue."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from numbers import Integral
from pathlib import Path
from queue import LifoQueue
from typing import Any

from ...extras import extra
from .guard import GUARD, UNGUARDED, UnguardedScript, refuse_unguarded

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
ASK_SECONDS = 60  # at most, between two questions to a queue
# no daemons: runs may start processes of their own. One task per worker, and no second try of Dask's own: when a worker
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
    """The executor by name and how many jobs to submit at a time, as `sweep` needs them.

    process: (None, workers), the sweep's own pool. dask: a local cluster of `workers` processes of one thread each
    (default: the machine's cores), or the one at the address `scheduler`. submitit: Slurm where it is installed, else
    processes of this machine, `workers` at a time; its files go to `out`/.submitit and slurm holds its parameters,
    such as partition or timeout_min (default: a day). Raises ValueError naming what cannot be used.
    """
    if kind not in KINDS:
        raise ValueError(f"executor = {kind!r} is unknown; choose one of {', '.join(KINDS)}")
    if scheduler and kind != "dask":
        raise ValueError(
            f"scheduler = {scheduler!r} works only with Dask, but executor = {kind!r}; pass --executor dask"
        )
    check_workers(workers)
    if kind == "process":
        yield None, workers
    elif kind == "dask":
        with dask_client(workers, scheduler) as client:
            yield client.get_executor(pure=False), workers if scheduler else None
    else:
        executor = queue(out, slurm or {})
        # on this machine submitit starts at once whatever is submitted
        yield executor, workers or ((os.cpu_count() or 1) if executor.cluster == "local" else None)


def check_workers(workers: int | None) -> None:
    """Raise ValueError for a number of workers that can do nothing; None stands for a default."""
    if workers is not None and not (isinstance(workers, Integral) and workers >= 1):
        raise ValueError(f"workers = {workers!r} must be at least 1, a whole number; leave it out for one per core")


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
    """Processes and threads that begin in this block never see Ctrl-C: the process that started them stops them."""
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
    if executor.cluster == "slurm" and not keeps_accounts():
        ask_the_queue()
    return executor


def keeps_accounts() -> bool:
    """Whether Slurm's sacct answers, of which submitit learns how a job ended."""
    try:
        return subprocess.run(["sacct", "--noheader"], capture_output=True).returncode == 0
    except OSError:
        return False


def ask_the_queue() -> None:
    """Let submitit ask squeue: without accounts it would wait forever for a job that was cancelled or killed."""
    with extra("cluster"):
        from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class QueueWatcher(SlurmInfoWatcher):
        """The states of jobs by squeue, which forgets one minutes after its end: what it does not list has ended."""

        def _make_command(self) -> list[str] | None:
            if not self._registered - self._finished:
                return None
            return ["squeue", "--noheader", "--states=all", "--format=%A|%T"]

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            text = string if isinstance(string, str) else string.decode()
            listed = dict(line.strip().split("|", 1) for line in text.splitlines() if "|" in line)
            return {job: {"JobID": job, "State": listed.get(job, "ENDED")} for job in self._registered - self._finished}

    SlurmJob.watcher = QueueWatcher(delay_s=ASK_SECONDS)


class WorkerPool(Executor):
    """At most `workers` processes, started when first needed; a task is done by one of them, start to end.

    The death of a process (BrokenExecutor in the future of the task it did, with its exit code) harms no other task,
    and a new process takes its place. Python's own ProcessPoolExecutor ends all its processes when one dies.
    """

    def __init__(self, workers: int) -> None:
        self._workers = [Worker() for _ in range(workers)]
        self._idle: LifoQueue[Worker] = LifoQueue()  # a process that runs comes before one to be started
        for worker in self._workers:
            self._idle.put(worker)
        # a thread blocks Ctrl-C in itself, and so in the processes that it starts until they know what to do with it
        block = partial(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGINT})
        self._threads = ThreadPoolExecutor(workers, initializer=block)

    def submit(self, task: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        return self._threads.submit(self._do, partial(task, *arguments, **named))

    def _do(self, task: Callable[[], Any]) -> Any:
        worker = self._idle.get()
        try:
            return worker.do(task)
        finally:
            self._idle.put(worker)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are alive."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def stop(self) -> None:
        """End every process now, whatever it does; the pool starts new ones when it is used again."""
        for worker in self._workers:
            worker.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for worker in self._workers:
            worker.end(wait)


class Worker:
    """One process, started at its first task and again after it died."""

    def __init__(self) -> None:
        self._context = RememberingContext()
        self._pool: ProcessPoolExecutor | None = None

    def do(self, task: Callable[[], Any]) -> Any:
        """The task's result, or what it raised; raises BrokenExecutor when the process died over it."""
        try:
            future = self._start().submit(task)
        except BrokenExecutor:  # it was killed while it waited for work
            self._pool = None
            future = self._start().submit(task)
        try:
            return future.result()
        except BrokenExecutor as error:
            self._pool = None
            code = self._exit_code()
            if code == UNGUARDED:
                raise UnguardedScript(GUARD) from None
            raise type(error)(last_words(code)) from error

    def _start(self) -> Executor:
        if self._pool is None:
            # one process each: ProcessPoolExecutor is trusted with the pipes, not with what survives a death
            self._pool = ProcessPoolExecutor(1, mp_context=self._context, initializer=end_with_parent)
        return self._pool

    def _exit_code(self) -> int | None:
        process, patience = self._context.latest, time.monotonic() + 5
        # the pool's own thread waits for the process too, and one of the two learns the exit code a moment later
        while process is not None and process.exitcode is None and time.monotonic() < patience:
            time.sleep(0.01)
        return None if process is None else process.exitcode

    @property
    def pid(self) -> int | None:
        process = self._context.latest
        return process.pid if process is not None and process.is_alive() else None

    def kill(self) -> None:
        if self.pid is not None and self._context.latest is not None:
            self._context.latest.kill()

    def end(self, wait: bool) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait)


def last_words(code: int | None) -> str:
    """How a process ended, by its exit code."""
    if code is None or code >= 0:
        return f"its process ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


class RememberingContext(SpawnContext):
    """Spawns, as a forked child would inherit torch's thread pools in an unusable state; knows the latest process."""

    latest: SpawnProcess | None = None

    def Process(self, *arguments: Any, **named: Any) -> SpawnProcess:  # type: ignore[override]
        self.latest = SpawnProcess(*arguments, **named)
        return self.latest


_pools: dict[int, WorkerPool] = {}
_adapters: dict[int, str] = {}  # of a user's own, which a pool's processes import when they start


def shared_pool(workers: int) -> WorkerPool:
    """A pool of at most `workers` processes of this process, kept for the next call: starting one costs seconds.

    Raises `UnguardedScript` where the script that runs is seen to have no guard; otherwise its tasks do.
    """
    refuse_unguarded()
    from ...adapters.own import VARIABLE  # which imports torch; a process of a pool begins without

    if workers not in _pools:
        _pools[workers] = WorkerPool(workers)
    if _adapters.get(workers) != (named := os.environ.get(VARIABLE, "")):
        _pools[workers].stop()  # its processes, if any, know other adapters
    _adapters[workers] = named
    return _pools[workers]


def end_with_parent() -> None:
    """Let this worker die with the process that started it, and quietly when that is interrupted.

    A killed sweep leaves no training process running, and an interrupted one does not wait for what is queued.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def watch(parent: Any) -> None:
        parent.join()
        os._exit(1)

    if (parent := parent_process()) is not None:
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


@cache
def set_imports_aside() -> None:
    """In a process that only works for another, take what is imported out of garbage collection, once.

    accelerate collects garbage at every run, and so does Python when the process ends; each would look through it all.
    """
    if parent_process() is not None:
        gc.freeze()
