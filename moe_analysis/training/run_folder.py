"""The runs of a folder: found by what a person types, listed in one frame, deleted completely."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import Timeout

from ..tasks.rows import shorten
from . import files
from .files import (
    ATTACHED,
    FAILED,
    FAILURE,
    FINISHED,
    HISTORY,
    RESTORE,
    RunError,
    held,
    last_line,
    last_test,
    read_json,
    read_run_table,
    read_status,
    state_of,
    wrong_type,
)

DAMAGED = "damaged"  # a state of a folder whose files cannot be read
COLUMNS = [*files.COLUMNS, "changed", "parameters", "settings"]
DELETED = ".deleted-"  # what a run is called between the decision and its end
WILD = frozenset("*?[")
# what the list reads of a config.json; `Run.load` checks all of it
CONFIG = {"name": str | None, "suite": str, "seed": int, "steps": int, "adapter": dict[str, Any]}
REALS = {"F64", "F32", "F16", "BF16"}  # safetensors' names of the types that parameters have
LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def run_paths(out: str | Path) -> list[Path]:
    """Folders of `out` that hold a run, sorted by name. Raises RunError if `out` is not a folder."""
    out = Path(out)
    if not out.is_dir():
        raise RunError(f"out = {str(out)!r} is not a folder; pass the folder of your runs, or train a run first")
    return sorted(path.parent for path in out.glob("*/config.json") if not path.parent.name.startswith("."))


def attached_paths(out: str | Path) -> list[Path]:
    """Folders of `out` that hold the record of a loop (`attach`), sorted by name."""
    return sorted(path.parent for path in Path(out).glob(f"*/{ATTACHED}") if not path.parent.name.startswith("."))


def find_runs(out: str | Path, wanted: Iterable[str]) -> list[Path]:
    """Folders of the runs that are named, each once, in the order of the names.

    wanted: ids, beginnings of an id or of the hash at its end that fit one run only, or patterns with `*`, `?` and
    `[…]` that fit any number. Raises RunError for a name that fits no run, or several without being a pattern.
    """
    paths = run_paths(out)
    found: dict[Path, None] = {}
    for name in wanted:
        matches = matching(name, paths)
        if not matches:
            raise RunError(f"{name!r} matches no run of {out}; `python -m moe_analysis runs --out {out}` lists them")
        if len(matches) > 1 and not WILD & set(name):
            some = ", ".join(path.name for path in matches[:4]) + (", …" if len(matches) > 4 else "")
            raise RunError(f"{name!r} matches {len(matches)} runs: {some}; write more of it, or the pattern '{name}*'")
        found |= dict.fromkeys(matches)
    return list(found)


def matching(name: str, paths: Sequence[Path]) -> list[Path]:
    """A run of exactly this name; else those that fit the pattern, or whose id or hash begins so.

    Raises RunError for an empty name, with which every id begins.
    """
    if not name.strip():
        raise RunError(f"{name!r} is an empty name; pass a run's id, the beginning of one, or '*' for all runs")
    if exact := [path for path in paths if path.name == name]:
        return exact
    if WILD & set(name):
        return [path for path in paths if fnmatchcase(path.name, name)]
    return [path for path in paths if path.name.startswith(name) or path.name.rpartition("-")[2].startswith(name)]


WHOLE = ("seed", "step", "steps", "parameters")  # columns of whole numbers
LARGEST_WHOLE = 2**63 - 1  # that such a column can hold


def list_runs(paths: Iterable[Path]) -> pd.DataFrame:
    """One row per run: the columns of a sweep's table (loss and accuracy of the test rows, NaN if there are none), then
    changed, when its status last did (UTC), parameters, the numbers in its adapter's checkpoint (missing before there
    is one), and settings, its configuration as one level of names ("lr", "adapter.r"). A folder that cannot be read is
    "damaged", and error says why. Needs neither torch nor the classes of the adapters."""
    frame = pd.DataFrame([listed(path) for path in paths], columns=COLUMNS)
    whole = dict.fromkeys(WHOLE, "Int64")
    return frame.astype({**whole, **dict.fromkeys(("seconds", "loss", "accuracy"), float)})


def listed(path: Path) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(COLUMNS) | {
        "run": path.name,
        "path": str(path),
        "error": "",
        "changed": changed(path),
        "settings": {},
    }
    try:
        config, status = read_config(path), read_status(path)
        state = state_of(path, status)
        loss, accuracy = None, None
        if state == FINISHED:
            loss, accuracy = last_test(path, read_run_table(path, "history.parquet", HISTORY))
        error = last_line(path / FAILURE) if state == FAILED else ""
        parameters = saved_parameters(path)
    except (RunError, OSError) as fault:
        return row | {"state": DAMAGED, "error": str(fault)}
    found = {
        "state": state,
        "system": config.get("name") or config["adapter"]["peft_type"].lower(),
        "suite": config["suite"],
        "seed": config["seed"],
        "step": int(status.get("step", 0)),
        "steps": config["steps"],
        "seconds": float(status.get("seconds", 0.0)),
        "loss": loss,
        "accuracy": accuracy,
        "error": error,
        "parameters": parameters,
        "settings": flat(config),
    }
    for name in WHOLE:
        if abs(found[name] or 0) > LARGEST_WHOLE:
            return row | {"state": DAMAGED, "error": f"{path}: {name} = {shorten(found[name])} is too large; {RESTORE}"}
    return row | found


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as it is written, with as much of it checked as a list shows; raises RunError naming the fault."""
    path = folder / "config.json"
    values = read_json(path)
    fault = wrong_type(values, CONFIG)
    if missing := [name for name in CONFIG if name not in values and name != "name"]:
        fault = f"it has no {', '.join(missing)}"
    if fault is None and not isinstance(values["adapter"].get("peft_type"), str):
        fault = "its adapter names no peft_type"
    if fault is not None:
        raise RunError(f"{path} is not a configuration of a run: {fault}; {RESTORE}")
    return values


def saved_parameters(folder: Path) -> int | None:
    """How many real numbers the adapter's checkpoint holds, by its header only; None if there is no checkpoint.

    These are the parameters that were trained. Raises RunError for a file that is not a checkpoint.
    """
    path = folder / "adapter" / "adapter_model.safetensors"
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, LARGEST_HEADER)))
        tensors = [one for name, one in header.items() if name != "__metadata__" and one["dtype"] in REALS]
        return sum(math.prod(one["shape"]) for one in tensors)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise RunError(f"{path} is not a readable checkpoint ({type(error).__name__}: {error}); {RESTORE}") from error


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"adapter": {"r": 4}} -> {"adapter.r": 4}; an empty mapping stays one."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
        found |= inner
    return found


def changed(path: Path) -> str:
    """When status.json, or config.json if there is none, was written; ISO 8601 to the second, UTC."""
    for name in ("status.json", "config.json"):
        if (file := path / name).is_file():
            return datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds")
    return ""


def chosen(
    frame: pd.DataFrame, states: Sequence[str] = (), name: str | None = None, order: str = "run", reverse: bool = False
) -> pd.DataFrame:
    """Rows of `list_runs` in any of the states whose run or system fits the pattern, sorted, missing values last."""
    kept = frame
    if states:
        kept = kept[kept["state"].isin(states)]
    if name is not None:
        pattern = name if WILD & set(name) else f"*{name}*"
        kept = kept[
            [
                any(fnmatchcase(str(value).lower(), pattern.lower()) for value in pair)
                for pair in zip(kept["run"], kept["system"])
            ]
        ]
    return kept.sort_values([order], ascending=not reverse, na_position="last", kind="stable", ignore_index=True)


def folder_bytes(path: Path) -> int:
    """Bytes of all files below a folder, links not followed."""
    return sum((Path(base) / name).lstat().st_size for base, _, names in os.walk(path) for name in names)


def refuse_held(paths: Iterable[Path]) -> None:
    """Raise RunError naming the runs that a process trains now."""
    if busy := [path.name for path in paths if held(path)]:
        raise RunError(f"{', '.join(busy)} is being trained; stop it first, or leave it out")


def delete_run(path: str | Path) -> None:
    """Delete a run's folder: it is renamed in one step, so that it is no longer a run, and then its files are deleted.

    An interrupted deletion leaves a hidden folder that `clear_deleted` removes. Raises RunError for a folder that
    holds no run, for one that a process trains, and where the disk refuses.
    """
    from .status import locked

    path = Path(path)
    if not (path / "config.json").is_file():
        raise RunError(f"{path} is not a run; pass a folder that `python -m moe_analysis runs` lists")
    if path.is_symlink():  # only the link would be renamed, and the run would lie where it lay
        raise RunError(f"{path} is a link to {path.readlink()}; delete the run there, or remove the link yourself")
    aside = path.with_name(f"{DELETED}{path.name}-{os.getpid()}")
    try:
        with locked(path):  # raises where a process trains it, and keeps others from beginning
            os.replace(path, aside)
    except (RunError, OSError) as error:
        cause = error.__cause__ if isinstance(error, RunError) else error
        if isinstance(cause, Timeout) or not isinstance(cause, OSError):
            raise
        raise RunError(
            f"{path} cannot be deleted ({cause.strerror}); check the permissions of {path.parent}"
        ) from error
    shutil.rmtree(aside, ignore_errors=True)
    if aside.exists():
        raise RunError(f"{aside} cannot be deleted; check its permissions, then delete the folder")


def clear_deleted(out: str | Path) -> Iterator[Path]:
    """Remove what interrupted deletions left in `out`; yields every folder that was."""
    for path in sorted(Path(out).glob(f"{DELETED}*")):
        shutil.rmtree(path, ignore_errors=True)
        yield path
