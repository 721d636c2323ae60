"""What the files of a run's folder say, read without torch, transformers and PEFT: its state, who holds it, its tables.

`Run` reads them through this file, and so does the list of a folder's runs, which a person does not want to wait for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from .files import RESTORE, RunError, read_json, read_table, wrong_type

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FINISHED, RUNNING, FAILED, STOPPED = "finished", "running", "failed", "stopped"
# of every table that has one row per run
COLUMNS = ["run", "state", "system", "suite", "seed", "step", "steps", "seconds", "loss", "accuracy", "error", "path"]
LOCK = ".lock"
FAILURE = "failure.txt"  # the traceback of the latest attempt, gone when one succeeds
ATTACHED = "attached.json"  # in the folder of a loop that `attach` recorded
STATUS = {
    "state": str,
    "step": int,
    "steps": int,
    "seconds": float,
    "world_size": int,
    "backbone_sha256": str,
    "versions": dict[str, str],
    "machine": str,
}


def read_status(folder: Path) -> dict[str, Any]:
    """status.json, {} where there is none; raises RunError for one that cannot be read."""
    path = folder / "status.json"
    if not os.path.lexists(path):
        return {}
    values = read_json(path)
    if fault := wrong_type(values, STATUS):
        raise RunError(f"{path}: {fault}; {RESTORE}")
    return values


def read_run_table(folder: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table of the run; raises RunError where it is damaged, or not there, with what would make it."""
    path = folder / name
    if not os.path.lexists(path):
        state = read_status(folder).get("state", "not started")
        remedy = f"{RESTORE} (older versions wrote none)" if state == FINISHED else "train it to the end"
        raise RunError(f"{path} is missing: the run is {state}; {remedy}")
    return read_table(path, columns)


def state_of(folder: Path, status: dict[str, Any]) -> str:
    """One of "finished", "running" (a process holds the folder), "failed" (it left a failure.txt) and "stopped"."""
    if status.get("state") == FINISHED:
        return FINISHED
    if held(folder):
        return RUNNING
    return FAILED if (folder / FAILURE).exists() else STOPPED


def held(folder: Path) -> bool:
    """Whether a process trains the run of this folder now, on this machine or on one that shares the disk."""
    try:
        with (folder / LOCK).open() as lock:
            if fcntl is None:
                return taken(folder / LOCK)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask do not see each other
    except BlockingIOError:
        return True
    except OSError:  # never started, or a disk without locks
        return False
    return False


def taken(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
