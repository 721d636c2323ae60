"""Loading a suite: many data sets as one frame, every row checked before anything is computed on it."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from ..places import shipped
from .baselines import baselines
from .files import read_file
from .kept import kept, stamp_of
from .layout import data_files, passed_over
from .look_alikes import resembling
from .rows import (
    COLUMNS,
    SPLITS,
    Located,
    Problem,
    SuiteError,
    SuiteWarning,
    dataset_problems,
    flaws,
    row_problems,
    shorten,
    to_frame,
    whole_label,
)

__all__ = [
    "COLUMNS",
    "SuiteError",
    "SuiteWarning",
    "baselines",
    "load_suite",
    "suite_folder",
    "suite_manifest",
    "task_roles",
]

BUILT_IN = ("embedded", "embedded_ood")
DATA_FOLDER = shipped("data")
DATA_VARIABLE = "MOE_ANALYSIS_DATA"
HUB = "hub:"


def load_suite(
    name: str | Path = "embedded",
    *,
    split: str | None = None,
    datasets: list[str] | None = None,
    strict: bool = False,
) -> pd.DataFrame:
    """All rows of a suite, in the order of its file names and of the lines within each file.

    `name` is "embedded" or "embedded_ood" (shipped), a folder of *.jsonl and *.parquet files, the name of
    such a folder inside $MOE_ANALYSIS_DATA, or "hub:<repo>[:<config>]". `split` keeps "train" or "test" rows,
    `datasets` keeps the named data sets. The frame has the columns dataset, group, split, prompt, choices
    (list of str or None), answer, label (Int64, missing for a free answer); other fields are ignored. Labels may be
    written as 1, 1.0 or "1".

    Files called train, test, validation or dev are splits of one data set, in the folder or in a folder of it: if
    rows lack these fields, the file's name is their split, and the folder's name their data set and group. Validation
    replaces a missing test. A `SuiteWarning` names folders and files that look like data but are not read.

    Rows that repeat a choice or have only one, or whose test prompt is also a train prompt of the same data set, are
    kept with one `SuiteWarning`, because published data has them; `strict=True` refuses them.

    Raises:
        SuiteError: Naming file, line, field, value and remedy.

    Example:
        >>> frame = ma.load_suite("embedded", split="test", datasets=["add_small", "review_mood"])
        >>> frame.shape, frame["dataset"].unique().tolist()
        ((400, 7), ['add_small', 'review_mood'])
        >>> frame[["prompt", "answer"]].iloc[0].tolist()
        ['Give the total: 7 tables from Leo and 6 from the attic.', '13']
    """
    if split is not None and split not in SPLITS:
        alike = resembling([split], SPLITS)
        raise SuiteError(f"split = {shorten(split)} is unknown{alike}; use 'train', 'test' or None for both")
    if not isinstance(name, str | os.PathLike):
        raise SuiteError(f"suite = {shorten(name)} is not a name or a folder; pass one, such as 'embedded'")
    frame = _whole(name, strict)
    if datasets is not None:
        frame = _only(frame, [datasets] if isinstance(datasets, str) else list(datasets), str(name))
    if split is not None:
        kept = frame[frame["split"] == split]
        if kept.empty:
            raise SuiteError(
                f"split = {split!r} leaves no row of suite {name}; it holds only "
                f"{' and '.join(sorted(set(frame['split'])))} rows"
            )
        frame = kept
    return frame.reset_index(drop=True)


def suite_folder(name: str | Path) -> Path:
    """The folder that a suite name means. Raises `SuiteError` that lists the names that would work.

    >>> suite_folder("embedded").name
    'embedded'
    >>> suite_folder("chess")
    Traceback (most recent call last):
        ...
    moe_analysis.tasks.rows.SuiteError: suite 'chess' is neither a folder nor a known name; available: ...
    """
    if str(name) in BUILT_IN:
        folder = DATA_FOLDER / str(name)
        if not folder.is_dir():
            raise SuiteError(
                f"suite {name!s} should be in {folder}, which is not there; "
                "install the package again, or restore data/ of the clone"
            )
        return folder
    # unlike pathlib's, these take a name that no file system or user could have for one that is not there
    path = os.path.expanduser(name)  # noqa: PTH111
    if str(name) and os.path.isdir(path):  # noqa: PTH112
        return Path(path)
    if os.path.isfile(path):  # noqa: PTH113
        raise SuiteError(f"suite {name!s} is a file; pass the folder that holds it")
    root = os.environ.get(DATA_VARIABLE)
    if root and str(name) and os.path.isdir(Path(root).expanduser() / name):  # noqa: PTH112
        return Path(root).expanduser() / name
    known = _available(root)
    raise SuiteError(
        f"suite {str(name)!r} is neither a folder nor a known name{resembling([str(name)], known)}; available: "
        f"{', '.join(known)}; {_about_variable(root)}"
    )


def suite_manifest(name: str | Path) -> dict[str, dict[str, Any]]:
    """The entry of each data set in the suite's manifest.json; {} if there is none.

    The manifest is in the suite's folder, or next to it and then covers several folders: an entry belongs to this suite
    if its "folder" is the folder's name.

    Raises:
        SuiteError: When the file is not a JSON object, or gives a data set a role that is not text.

    Example:
        >>> entry = suite_manifest("embedded")["add_small_one_over"]
        >>> entry["role"], entry["of"], entry["rule"]
        ('variant', 'add_small', 'The sum of two numbers from 2 to 9, plus one.')
    """
    if str(name).startswith(HUB):
        return {}
    folder = suite_folder(name).resolve()
    if os.path.lexists(folder / "manifest.json"):
        return _read_manifest(folder / "manifest.json")
    if os.path.lexists(folder.parent / "manifest.json"):
        entries = _read_manifest(folder.parent / "manifest.json")
        return {dataset: entry for dataset, entry in entries.items() if entry.get("folder") == folder.name}
    return {}


def task_roles(name: str | Path, frame: pd.DataFrame) -> pd.Series:
    """The role of each data set of `frame`, indexed by data set in order of appearance.

    "original", "variant" or "ood" from the manifest; "task" if it gives no role.

    >>> print(task_roles("embedded", frame).to_string(header=False))
    add_small                 original
    add_small_one_over         variant
    where_is                  original
    where_is_one_step_late     variant
    """
    manifest = suite_manifest(name)
    names = list(dict.fromkeys(frame["dataset"]))
    roles = [manifest.get(dataset, {}).get("role") or "task" for dataset in names]
    return pd.Series(roles, index=pd.Index(names, name="dataset", dtype="str"), name="role", dtype="str")


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    try:
        if path.exists() and not path.is_file():
            raise SuiteError(f"{path} is a folder, a pipe or a device, not a file; replace it or remove it")
        content = json.loads(path.read_text(encoding="utf-8"))
    except SuiteError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise SuiteError(f"{path} cannot be read as JSON ({error}); repair it or remove it") from error
    if not isinstance(content, dict):
        raise SuiteError(f"{path} holds {type(content).__name__}; write an object that maps data sets to facts")
    entries = content["datasets"] if isinstance(content.get("datasets"), dict) else content
    found = {dataset: entry for dataset, entry in entries.items() if isinstance(entry, dict)}
    for dataset, entry in found.items():
        if not isinstance(role := entry.get("role"), str | None):
            raise SuiteError(
                f"{path}: the role of {shorten(dataset)} is {shorten(role)}; write it as text, or leave it out"
            )
    return found


def _available(root: str | None) -> list[str]:
    inside = sorted(Path(root).expanduser().iterdir()) if root and Path(root).expanduser().is_dir() else []
    # a folder that may not be listed belongs to somebody else
    open_ones = (folder for folder in inside if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK))
    return [*BUILT_IN, *(folder.name for folder in open_ones if data_files(folder))]


def _about_variable(root: str | None) -> str:
    if not root:
        return f"set {DATA_VARIABLE} to the folder that holds your suites to call them by name"
    if not Path(root).expanduser().is_dir():
        return f"{DATA_VARIABLE} = {root} is not a folder"
    return f"{DATA_VARIABLE} = {root}"


def _whole(name: str | Path, strict: bool) -> pd.DataFrame:
    """Every row of a suite, with one warning of its flaws and one of what was not read; `strict` refuses flaws."""
    local = not str(name).startswith(HUB)
    frame, blurred = kept(stamp_of(suite_folder(name)) if local else None, lambda: _checked(str(name), _read(name)))
    if local and (unread := passed_over(suite_folder(name))):
        text = f"suite {name}: not read: {'; '.join(unread)}"
        warnings.warn(text.encode("utf-8", "backslashreplace").decode(), SuiteWarning, stacklevel=3)
    if blurred and strict:
        raise SuiteError.of(str(name), blurred)
    if blurred:
        files = len({problem.file for problem in blurred})
        warnings.warn(
            f"suite {name}: kept rows with {len(blurred)} flaws in {files} files, the first: "
            f"{blurred[0]}; strict=True lists and refuses them",
            SuiteWarning,
            stacklevel=3,
        )
    return frame


def _read(name: str | Path) -> tuple[list[Located], list[Problem]]:
    if str(name).startswith(HUB):
        from .hub import read_hub

        return read_hub(str(name)[len(HUB) :])
    folder = suite_folder(name)
    try:
        files = data_files(folder)
    except OSError as error:
        raise SuiteError(f"suite folder {folder} cannot be listed ({error.strerror}); check its permissions") from error
    if not files:
        unread = "".join(f"; not read: {one}" for one in passed_over(folder))
        raise SuiteError(f"suite folder {folder} holds no *.jsonl or *.parquet file{unread}")
    rows: list[Located] = []
    problems: list[Problem] = []
    for file in files:
        found, wrong = read_file(file)
        rows += found
        problems += wrong
    return rows, problems


def _checked(source: str, read: tuple[list[Located], list[Problem]]) -> tuple[pd.DataFrame, list[Problem]]:
    """The rows, and the flaws with which they may be kept. Raises SuiteError for anything worse."""
    rows, problems = read
    for here in rows:
        here.row["label"] = whole_label(here.row.get("label"))
    bad = [here.problem(*found) for here in rows for found in row_problems(here.row)]
    problems = [*problems, *bad]
    if not problems:
        problems = list(dataset_problems(rows))
    if problems:
        raise SuiteError.of(source, problems)
    return to_frame(rows), list(flaws(rows))


def _only(frame: pd.DataFrame, wanted: list[str], source: str) -> pd.DataFrame:
    present = list(dict.fromkeys(frame["dataset"]))
    unknown = [dataset for dataset in wanted if dataset not in present]
    if unknown or not wanted:
        alike = resembling(unknown, present)
        raise SuiteError(
            f"datasets = {wanted} names {unknown or 'nothing'}, which suite {source} does not have{alike}; "
            f"choose from {', '.join(present)}"
        )
    return frame[frame["dataset"].isin(wanted)]
