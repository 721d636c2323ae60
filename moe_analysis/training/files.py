"""The files of a run: how they are written, read and checked, and what they say about its state.

Nothing here needs torch, transformers or PEFT, so listing the runs of a folder is fast.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pandas as pd
from filelock import FileLock, Timeout

from ..atomic import replacing
from ..tasks.rows import shorten

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

RESTORE = "restore it, or train the run again"
# without it a finished run is trained again, and one that was interrupted resumes as if nothing were
RESTORE_STATUS = "restore it, or delete it and train the run again"
TEXTS = ("split", "suite", "dataset", "group", "kind")  # the columns of the tables that are not numbers
LARGEST = int(sys.float_info.max)
HISTORY = ["step", "split", "loss", "accuracy", "lr", "grad_norm", "balance_loss"]
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
    "tokens_sha256": str,
    "rows_sha256": dict[str, str],
    "versions": dict[str, str],
    "machine": str,
}


class RunError(ValueError):
    """A run's folder that cannot be written or read; the message names the file and the remedy.

    >>> ma.Run.load("no/such/run")
    Traceback (most recent call last):
        ...
    moe_analysis.training.files.RunError: no/such/run is not a folder; pass the folder of a run, as listed by ...
    """


class RunWarning(UserWarning):
    """A run's folder is not as it was left, or not of what is there now; what is done all the same is right."""


def json_text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """A parquet file with a checksum of every page, atomically."""
    with replacing(path) as fresh:
        frame.to_parquet(fresh, index=False, write_page_checksum=True)


def check_file(path: Path, remedy: str = RESTORE) -> None:
    """Raise RunError for a folder, and for a pipe or a device, which a reader would wait for or never come to end."""
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - pathlib's raise where rights lack
        raise RunError(f"{path} is not a file; {remedy}")


def read_json(path: Path, remedy: str = RESTORE) -> dict[str, Any]:
    """The object in a JSON file; raises RunError naming the file and the remedy."""
    check_file(path, remedy)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing; {remedy}") from error
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); check its permissions, or {remedy}") from error
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number or a nesting too long to read
        raise RunError(f"{path} is not readable JSON ({error}); {remedy}") from error
    if not isinstance(values, dict):
        raise RunError(f"{path} contains {type(values).__name__}, not an object; {remedy}")
    return values


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A parquet file with at least these columns, numbers but for `TEXTS`; raises RunError naming the file."""
    check_file(path)
    from pyarrow.parquet import ParquetFile

    try:
        # a third of the time that pandas' own reader takes, which looks for tables of many files
        with ParquetFile(path, page_checksum_verification=True) as file:
            frame = file.read(use_threads=False).to_pandas()
    except Exception as error:  # pyarrow, its codecs and pandas' metadata each fail in their own way on damaged bytes
        raise RunError(
            f"{path} is not a readable parquet file ({shorten(str(error), 200)}); train the run again"
        ) from error
    if frame.empty:
        raise RunError(f"{path} has no rows; train the run again")
    for name in columns:
        if list(frame.columns).count(name) != 1:
            raise RunError(
                f"{path} has the columns {shorten(list(frame.columns), 200)} but no {name}; train the run again"
            )
        right = pd.api.types.is_string_dtype if name in TEXTS else pd.api.types.is_any_real_numeric_dtype
        if not right(frame[name]):
            raise RunError(
                f"column {name} of {path} is {frame[name].dtype} but should be "
                f"{'text' if name in TEXTS else 'numbers'}; train the run again"
            )
    return frame


def plain(value: Any) -> Any:
    """JSON form of a configuration's value: enums by value, sets sorted."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return value


def wrong_type(values: Mapping[str, Any], hints: Mapping[str, Any], prefix: str = "") -> str | None:
    """What is wrong with the first value that does not fit the hint of its name; None if all do or have no hint."""
    for name, value in values.items():
        if name in hints and not fits(value, hints[name]):
            return f"{prefix}{name} = {shorten(value)} is {type(value).__name__}; it must be {said(hints[name])}"
    return None


def fits(value: Any, hint: Any) -> bool:
    """Whether a value, as JSON or Python gives it, can stand for a type: whole numbers do for reals, truth for none."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple and Ellipsis not in inner and isinstance(value, (list, tuple)) and len(value) != len(inner):
        return False
    if origin in (list, tuple):  # JSON knows no tuples, and PEFT makes sets of lists
        return isinstance(value, (list, tuple, set)) and all(fits(one, inner[0]) for one in value)
    if origin is dict or is_dataclass(hint):
        return isinstance(value, (dict, origin or hint))
    if hint is int or isinstance(value, int) and hint is float:
        # a whole number beyond all reals can stand for none
        return isinstance(value, int) and not isinstance(value, bool) and (hint is int or abs(value) <= LARGEST)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return isinstance(value, (str, hint))
    return isinstance(value, hint)


def said(hint: Any) -> str:
    """A type as a person writes it: "int or None", "list[str]"."""
    if get_origin(hint) in (Union, UnionType):
        # sorted, as typing may hand out an equal union that was written in another order; None last
        return " or ".join(sorted({said(one) for one in get_args(hint)}, key=lambda text: (text == "None", text)))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if hint is NoneType:
        return "None"
    return str(hint) if get_args(hint) else getattr(hint, "__name__", str(hint))


def hints_of(owner: type) -> Mapping[str, Any]:
    """The types of a class's fields; found once, as PEFT's classes have many."""
    return found_hints(owner)


@cache
def found_hints(owner: type) -> Mapping[str, Any]:
    return get_type_hints(owner)


def as_hinted(values: dict[str, Any], owner: type) -> dict[str, Any]:
    """The values with every whole number a real where its field of `owner` holds reals, as 1 and 1.0 are equal."""
    hints = hints_of(owner)
    return {
        name: float(value) if type(value) is int and only_real(hints.get(name)) else value
        for name, value in values.items()
    }


def only_real(hint: Any) -> bool:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return float in kinds and int not in kinds


def history_frame(log: list[dict[str, Any]]) -> pd.DataFrame:
    """Trainer's log -> columns step, split, loss, accuracy, lr, grad_norm (before clipping), balance_loss.

    Train rows hold a step's batch: nats per answer token (balance loss included) and the share of answer tokens
    predicted right. Test rows hold means over data sets: nats per answer token and accuracy by exact likelihood.
    """
    rows = []
    for entry in log:
        if "eval_loss" in entry:
            rows.append(
                {"step": entry["step"], "split": "test", "loss": entry["eval_loss"], "accuracy": entry["eval_accuracy"]}
            )
        elif "loss" in entry:
            same = {name: entry[name] for name in ("step", "loss", "accuracy", "grad_norm", "balance_loss")}
            rows.append({**same, "split": "train", "lr": entry["learning_rate"]})
    frame = pd.DataFrame(rows, columns=HISTORY).astype({"step": "int64"})
    # the last step is evaluated once more at the end of the run, with the same result
    return frame.drop_duplicates(["step", "split"], keep="last", ignore_index=True)


def read_status(folder: Path) -> dict[str, Any]:
    """status.json, {} if there is none; raises RunError for one that cannot be read."""
    path = folder / "status.json"
    if not os.path.lexists(path):
        return {}
    values = read_json(path, RESTORE_STATUS)
    if fault := wrong_type(values, STATUS):
        raise RunError(f"{path}: {fault}; {RESTORE_STATUS}")
    return values


def read_run_table(folder: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table of the run; raises RunError if it is damaged, or not there, with what would make it."""
    path = folder / name
    if not os.path.lexists(path):
        state = read_status(folder).get("state", "not started")
        remedy = f"{RESTORE} (older versions wrote none)" if state == FINISHED else "train it to the end"
        raise RunError(f"{path} is missing: the run is {state}; {remedy}")
    return read_table(path, columns)


def last_test(folder: Path, history: pd.DataFrame) -> tuple[float, float]:
    """Loss (nats per answer token) and accuracy of the test rows at a run's end; RunError if it has none."""
    tests = history[history["split"] == "test"]
    if tests.empty:
        raise RunError(f"{folder / 'history.parquet'} has no test row; {RESTORE}")
    return float(tests["loss"].iloc[-1]), float(tests["accuracy"].iloc[-1])


def last_line(path: Path) -> str:
    """What the traceback in a failure.txt ends with: the error."""
    return read_failure(path).rstrip().rpartition("\n")[2]


def read_failure(path: Path) -> str:
    """The traceback in a failure.txt; bytes that are no UTF-8 are shown and stop no list of runs."""
    return path.read_text(encoding="utf-8", errors="backslashreplace")


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
