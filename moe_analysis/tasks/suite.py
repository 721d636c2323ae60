"""Loading a suite: many data sets as one frame, every row checked before anything is computed on it."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from .baselines import baselines
from .files import data_files, read_file
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
DATA_FOLDER = Path(__file__).parents[2] / "data"
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
    (list of str or None), answer, label (Int64, missing for a free answer); other fields are ignored.

    Rows that repeat a choice or have only one, or whose test prompt is also a train prompt of the same data
    set, are kept with one `SuiteWarning`, because published data has them; `strict=True` refuses them.
    Raises `SuiteError` naming file, line, field, value and remedy.
    """
    if split is not None and split not in SPLITS:
        raise SuiteError(f"split = {shorten(split)} is unknown; use 'train', 'test' or None for both")
    rows = _checked(str(name), _read(name), strict)
    frame = to_frame(rows)
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
    """The folder a suite name stands for. Raises `SuiteError` that lists the names that would work."""
    if str(name) in BUILT_IN:
        folder = DATA_FOLDER / str(name)
        if not folder.is_dir():
            raise SuiteError(
                f"suite {name!s} should be in {folder}, which is not there; "
                "work from a clone of the project, installed with pip install -e ."
            )
        return folder
    path = Path(name).expanduser()
    if str(name) and path.is_dir():
        return path
    if path.is_file():
        raise SuiteError(f"suite {name!s} is a file; pass the folder that holds it")
    root = os.environ.get(DATA_VARIABLE)
    if root and str(name) and (Path(root).expanduser() / name).is_dir():
        return Path(root).expanduser() / name
    raise SuiteError(
        f"suite {str(name)!r} is neither a folder nor a known name; available: "
        f"{', '.join(_available(root))}; {_about_variable(root)}"
    )


def suite_manifest(name: str | Path) -> dict[str, dict[str, Any]]:
    """What the suite's manifest.json says of each data set; {} when there is none.

    The manifest lies in the suite's folder, or beside it and then covers several folders: an entry belongs to
    this suite when its "folder" is the folder's name. Raises `SuiteError` when the file is not a JSON object.
    """
    if str(name).startswith(HUB):
        return {}
    folder = suite_folder(name).resolve()
    if (folder / "manifest.json").is_file():
        return _read_manifest(folder / "manifest.json")
    if (folder.parent / "manifest.json").is_file():
        entries = _read_manifest(folder.parent / "manifest.json")
        return {dataset: entry for dataset, entry in entries.items() if entry.get("folder") == folder.name}
    return {}


def task_roles(name: str | Path, frame: pd.DataFrame) -> pd.Series:
    """The role of each data set of `frame`, indexed by data set in order of appearance.

    "original", "variant" or "ood" as the manifest says; "task" where it says nothing.
    """
    manifest = suite_manifest(name)
    names = list(dict.fromkeys(frame["dataset"]))
    roles = [manifest.get(dataset, {}).get("role") or "task" for dataset in names]
    return pd.Series(roles, index=pd.Index(names, name="dataset", dtype="str"), name="role", dtype="str")


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SuiteError(f"{path} cannot be read as JSON ({error}); repair it or remove it") from error
    if not isinstance(content, dict):
        raise SuiteError(
            f"{path} holds {type(content).__name__}; write an object that maps data sets to facts"
        )
    entries = content["datasets"] if isinstance(content.get("datasets"), dict) else content
    return {dataset: entry for dataset, entry in entries.items() if isinstance(entry, dict)}


def _available(root: str | None) -> list[str]:
    inside = sorted(Path(root).expanduser().iterdir()) if root and Path(root).expanduser().is_dir() else []
    return [*BUILT_IN, *(folder.name for folder in inside if folder.is_dir() and data_files(folder))]


def _about_variable(root: str | None) -> str:
    if not root:
        return f"set {DATA_VARIABLE} to the folder that holds your suites to call them by name"
    if not Path(root).expanduser().is_dir():
        return f"{DATA_VARIABLE} = {root} is not a folder"
    return f"{DATA_VARIABLE} = {root}"


def _read(name: str | Path) -> tuple[list[Located], list[Problem]]:
    if str(name).startswith(HUB):
        from .hub import read_hub

        return read_hub(str(name)[len(HUB) :]), []
    folder = suite_folder(name)
    files = data_files(folder)
    if not files:
        raise SuiteError(f"suite folder {folder} holds no *.jsonl or *.parquet file")
    rows: list[Located] = []
    problems: list[Problem] = []
    for path in files:
        found, wrong = read_file(path)
        rows += found
        problems += wrong
    return rows, problems


def _checked(source: str, read: tuple[list[Located], list[Problem]], strict: bool) -> list[Located]:
    rows, problems = read
    bad = [here.problem(*found) for here in rows for found in row_problems(here.row)]
    problems = [*problems, *bad]
    if not problems:
        problems = list(dataset_problems(rows))
    if problems:
        raise SuiteError.of(source, problems)
    blurred = list(flaws(rows))
    if blurred and strict:
        raise SuiteError.of(source, blurred)
    if blurred:
        files = len({problem.file for problem in blurred})
        warnings.warn(
            f"suite {source}: kept rows with {len(blurred)} flaws in {files} files, the first: "
            f"{blurred[0]}; strict=True lists and refuses them",
            SuiteWarning,
            stacklevel=3,
        )
    return rows


def _only(frame: pd.DataFrame, wanted: list[str], source: str) -> pd.DataFrame:
    present = list(dict.fromkeys(frame["dataset"]))
    unknown = [dataset for dataset in wanted if dataset not in present]
    if unknown or not wanted:
        raise SuiteError(
            f"datasets = {wanted} names {unknown or 'nothing'}, which suite {source} does not hold; "
            f"choose from {', '.join(present)}"
        )
    return frame[frame["dataset"].isin(wanted)]
