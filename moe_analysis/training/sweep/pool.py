"""The default executor: processes of this machine that are kept for the next call and replaced when one is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from queue import LifoQueue
from typing import Any

from ...adapters.own import VARIABLE


class WorkerPool(Executor):
    """At most `workers` processes, started when first needed; a task is done by one of them, start to end.

    The death of a process (BrokenExecutor in the future of the task it did, with its exit code) harms no other task,
    and a new process takes its place. Python's own ProcessPoolExecutor ends all its processes when one dies.
    """

    def __init__(self, workers: int) -> None:
        self._workers = [Worker() for _ in range(workers)]
        self._idle: LifoQueue[Worker] = LifoQueue()  # last in, first out: a process that runs before one to be started
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, initializer=leave_interrupts_to_main)

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
            raise type(error)(self._last_words()) from error

    def _start(self) -> Executor:
        if self._pool is None:
            # one process each: ProcessPoolExecutor is trusted with the pipes, not with what survives a death
            self._pool = ProcessPoolExecutor(1, mp_context=self._context, initializer=end_with_parent)
        return self._pool

    def _last_words(self) -> str:
        process, patience = self._context.latest, time.monotonic() + 5
        # the pool's own thread waits for the process too, and one of the two learns the exit code a moment later
        while process is not None and process.exitcode is None and time.monotonic() < patience:
            time.sleep(0.01)
        code = None if process is None else process.exitcode
        if code is None or code >= 0:
            return f"its process ended with exit code {code}"
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

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


class RememberingContext(SpawnContext):
    """Spawns, as a forked child would inherit torch's thread pools in an unusable state; knows the latest process."""

    latest: SpawnProcess | None = None

    def Process(self, *arguments: Any, **named: Any) -> SpawnProcess:  # type: ignore[override]
        self.latest = SpawnProcess(*arguments, **named)
        return self.latest


_pools: dict[int, WorkerPool] = {}
_adapters: dict[int, str] = {}  # of a user's own, which a pool's processes import when they start


def shared_pool(workers: int) -> WorkerPool:
    """A pool of at most `workers` processes of this process, kept for the next call: starting one costs seconds."""
    if workers not in _pools:
        _pools[workers] = WorkerPool(workers)
    if _adapters.get(workers) != (named := os.environ.get(VARIABLE, "")):
        _pools[workers].stop()  # its processes, if any, know other adapters
    _adapters[workers] = named
    return _pools[workers]


def leave_interrupts_to_main() -> None:
    """Block SIGINT in this thread and so in the processes it starts, until they know what to do with it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def end_with_parent() -> None:
    """Let this worker die with the process that started it, and quietly when that is interrupted.

    A killed sweep leaves nobody training behind, and an interrupted one does not wait for what is queued.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def watch(parent: Any) -> None:
        parent.join()
        os._exit(1)

    if (parent := parent_process()) is not None:
        threading.Thread(target=watch, args=(parent,), daemon=True).start()
