"""The files of a suite, read into rows that remember their line."""

from __future__ import annotations

import json
from typing import Any

from .layout import HELD_OUT, DataFile
from .look_alikes import resembling
from .rows import COLUMNS, Located, Problem, shorten


def read_file(file: DataFile) -> tuple[list[Located], list[Problem]]:
    """The rows of one file, and what is wrong with those that could not be read."""
    path = file.path
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read without end
            text = "is a folder, a pipe or a device, not a file; put the data itself there, or move it away"
            return [], [Problem(file.name, "", "", text)]
        rows, problems = _read_parquet(file) if path.suffix.lower() == ".parquet" else _read_jsonl(file)
    except OSError as error:
        return [], [Problem(file.name, "", "", f"cannot be opened ({error.strerror or error}); check its permissions")]
    if not rows and not problems:
        problems = [Problem(file.name, "", "", "holds no rows; fill it or remove it")]
    for here in rows:
        fill_in(here.row, file)
    return rows, problems


def fill_in(row: dict[str, Any], file: DataFile) -> None:
    """Give a row what the name of its file says and the row does not: split, data set, and that as its group."""
    if file.split is None:
        return
    own = row.get("split")
    if own is None or (file.split == "validation" and own in HELD_OUT):
        row["split"] = "train" if file.split == "train" else "test"
    for field, value in (("dataset", file.dataset), ("group", row.get("dataset") or file.dataset)):
        if row.get(field) is None:
            row[field] = value


def _read_jsonl(file: DataFile) -> tuple[list[Located], list[Problem]]:
    rows, problems = [], []
    # Split on the newline byte alone: str.splitlines would also cut at U+2028 and U+0085 inside a text.
    for number, raw in enumerate(file.path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(raw.decode("utf-8"), object_pairs_hook=object_of)
        except UnicodeDecodeError as error:
            byte = shorten(raw[error.start : error.start + 1])
            text = f"byte {byte} at column {error.start + 1} is not UTF-8; save the file as UTF-8"
            problems.append(Problem(file.name, place, "", text))
        except (ValueError, RecursionError) as error:
            why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            text = f"{shorten(raw.decode('utf-8'))} is not JSON ({why}); write one JSON object per line"
            problems.append(Problem(file.name, place, "", text))
        else:
            if isinstance(row, dict):
                rows.append(Located(row, file.name, place, file.home))
            else:
                text = f"{shorten(row)} is {type(row).__name__}; write one JSON object per line"
                problems.append(Problem(file.name, place, "", text))
    return rows, problems


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a field that it has twice, of which the last would win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the field {shorten(twice)} twice")
    return found


def _read_parquet(file: DataFile) -> tuple[list[Located], list[Problem]]:
    import pyarrow.parquet as parquet

    try:
        names = parquet.read_schema(file.path).names
        present = [field for field in dict.fromkeys(names) if field in COLUMNS]
        if not present:  # and then nothing bounds the number of rows that a damaged file may claim
            alike = resembling(names, COLUMNS)
            text = f"has the columns {shorten(names)}, none of {', '.join(COLUMNS)}{alike}; rename them"
            return [], [Problem(file.name, "", "", text)]
        # a folder called split=train is no column of the table
        table = parquet.read_table(file.path, columns=present, partitioning=None).to_pylist()
    except Exception as error:  # Arrow, its codecs and its conversions each fail in their own way on damaged bytes
        text = f"cannot be read as Parquet ({shorten(str(error), 120)}); write the file again"
        return [], [Problem(file.name, "", "", text)]
    return [Located(row, file.name, f"row {number}", file.home) for number, row in enumerate(table, start=1)], []
