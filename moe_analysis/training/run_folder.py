"""The runs of a folder: found by what a person types, listed in one frame, deleted whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd
from filelock import Timeout

from .files import RunError
from .recorders.attached_run import ABOUT
from .run import Run
from .status import held, locked
from .sweep.status import COLUMNS as SWEPT
from .sweep.status import progress_of, run_state
from .sweep.work import FAILED, kept_failure

DAMAGED = "damaged"  # a state of a folder whose files cannot be read
COLUMNS = [*SWEPT, "changed"]
DELETED = ".deleted-"  # what a run is called between the decision and its end
WILD = frozenset("*?[")


def run_paths(out: str | Path) -> list[Path]:
    """Folders of `out` that hold a run, sorted by name. Raises RunError where `out` is no folder."""
    out = Path(out)
    if not out.is_dir():
        raise RunError(f"out = {str(out)!r} is no folder; pass the folder that runs were trained into, or train one")
    return sorted(path.parent for path in out.glob("*/config.json") if not path.parent.name.startswith("."))


def attached_paths(out: str | Path) -> list[Path]:
    """Folders of `out` that hold the record of a loop (`attach`), sorted by name."""
    return sorted(path.parent for path in Path(out).glob(f"*/{ABOUT}") if not path.parent.name.startswith("."))


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
            raise RunError(f"{name!r} fits no run of {out}; `python -m moe_analysis runs --out {out}` lists them")
        if len(matches) > 1 and not WILD & set(name):
            some = ", ".join(path.name for path in matches[:4]) + (", …" if len(matches) > 4 else "")
            raise RunError(f"{name!r} fits {len(matches)} runs: {some}; write more of it, or the pattern '{name}*'")
        found |= dict.fromkeys(matches)
    return list(found)


def matching(name: str, paths: Sequence[Path]) -> list[Path]:
    """A run of exactly this name; else those that fit the pattern, or whose id or hash begins so."""
    if exact := [path for path in paths if path.name == name]:
        return exact
    if WILD & set(name):
        return [path for path in paths if fnmatchcase(path.name, name)]
    return [path for path in paths if path.name.startswith(name) or path.name.rpartition("-")[2].startswith(name)]


def list_runs(paths: Iterable[Path]) -> pd.DataFrame:
    """A row a run: the columns of a sweep's table (loss and accuracy of the test rows, NaN where there are none) and
    changed, when its status last did (UTC). A folder that cannot be read is "damaged", and error says why."""
    frame = pd.DataFrame([listed(path) for path in paths], columns=COLUMNS)
    return frame.astype(
        {**dict.fromkeys(("seed", "step", "steps"), "Int64"), **dict.fromkeys(("seconds", "loss", "accuracy"), float)}
    )


def listed(path: Path) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(COLUMNS) | {
        "run": path.name,
        "path": str(path),
        "error": "",
        "changed": changed(path),
    }
    try:
        run = Run.load(path)
        progress = progress_of(run, state := run_state(run))
        error = kept_failure(path).error if state == FAILED else ""
    except (RunError, OSError) as error:
        return row | {"state": DAMAGED, "error": str(error)}
    return row | {
        "state": state,
        "system": run.config.name or run.config.system,
        "suite": run.config.suite,
        "seed": run.config.seed,
        "step": progress.step,
        "steps": progress.steps,
        "seconds": progress.seconds,
        "loss": progress.loss,
        "accuracy": progress.accuracy,
        "error": error,
    }


def changed(path: Path) -> str:
    """When status.json, or config.json where there is none, was written; ISO 8601 to the second, UTC."""
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
        raise RunError(f"{', '.join(busy)} is being trained; stop that first, or leave it out")


def delete_run(path: str | Path) -> None:
    """Delete a run's folder: in one step it is no run any more, and then its files go.

    An interrupted deletion leaves a hidden folder that `clear_deleted` removes. Raises RunError for a folder that
    holds no run, for one that a process trains, and where the disk refuses.
    """
    path = Path(path)
    if not (path / "config.json").is_file():
        raise RunError(f"{path} holds no run; pass a folder that `python -m moe_analysis runs` lists")
    aside = path.with_name(f"{DELETED}{path.name}-{os.getpid()}")
    try:
        with locked(path):  # raises where a process trains it, and keeps others from beginning
            os.replace(path, aside)
    except (RunError, OSError) as error:
        cause = error.__cause__ if isinstance(error, RunError) else error
        if isinstance(cause, Timeout) or not isinstance(cause, OSError):
            raise
        raise RunError(f"{path} cannot be deleted ({cause.strerror}); check the rights of {path.parent}") from error
    shutil.rmtree(aside, ignore_errors=True)
    if aside.exists():
        raise RunError(f"{aside} cannot be deleted; check its rights, then delete the folder")


def clear_deleted(out: str | Path) -> Iterator[Path]:
    """Remove what interrupted deletions left in `out`; yields every folder that was."""
    for path in sorted(Path(out).glob(f"{DELETED}*")):
        shutil.rmtree(path, ignore_errors=True)
        yield path
