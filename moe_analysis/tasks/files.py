"""The files of a suite, read into rows that remember their line."""

from __future__ import annotations

import json
from pathlib import Path

from .rows import COLUMNS, Located, Problem, shorten


def data_files(folder: Path) -> list[Path]:
    """The *.jsonl and *.parquet files of a folder, by name."""
    # Names that begin with a dot are an editor's or a file manager's, never data.
    found = [
        path
        for path in folder.iterdir()
        if path.suffix in (".jsonl", ".parquet") and not path.name.startswith(".")
    ]
    return sorted(found, key=lambda path: path.name)


def read_file(path: Path) -> tuple[list[Located], list[Problem]]:
    """The rows of one file, and what is wrong with those that could not be read."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, a device read without end
            text = "is no file but a folder, a pipe or a device; put the data itself there, or move it away"
            return [], [Problem(path.name, "", "", text)]
        rows, problems = _read_parquet(path) if path.suffix == ".parquet" else _read_jsonl(path)
    except OSError as error:
        return [], [
            Problem(path.name, "", "", f"cannot be opened ({error.strerror or error}); check its rights")
        ]
    if not rows and not problems:
        problems = [Problem(path.name, "", "", "holds no rows; fill it or remove it")]
    return rows, problems


def _read_jsonl(path: Path) -> tuple[list[Located], list[Problem]]:
    rows, problems = [], []
    # Split on the newline byte alone: str.splitlines would also cut at U+2028 and U+0085 inside a text.
    for number, raw in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not raw.strip():
            continue
        place = f"line {number}"
        try:
            row = json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            byte = shorten(raw[error.start : error.start + 1])
            text = f"byte {byte} at column {error.start + 1} is not UTF-8; save the file as UTF-8"
            problems.append(Problem(path.name, place, "", text))
        except (ValueError, RecursionError) as error:
            why = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            text = f"{shorten(raw.decode('utf-8'))} is not JSON ({why}); write one JSON object a line"
            problems.append(Problem(path.name, place, "", text))
        else:
            if isinstance(row, dict):
                rows.append(Located(row, path.name, place))
            else:
                text = f"{shorten(row)} is {type(row).__name__}; write one JSON object a line"
                problems.append(Problem(path.name, place, "", text))
    return rows, problems


def _read_parquet(path: Path) -> tuple[list[Located], list[Problem]]:
    import pyarrow.parquet as parquet

    try:
        names = parquet.read_schema(path).names
        present = [field for field in dict.fromkeys(names) if field in COLUMNS]
        if not present:  # and then nothing bounds the number of rows that a damaged file may claim
            text = f"has the columns {shorten(names)}, none of {', '.join(COLUMNS)}; rename them"
            return [], [Problem(path.name, "", "", text)]
        # a folder called split=train is no column of the table
        table = parquet.read_table(path, columns=present, partitioning=None).to_pylist()
    except Exception as error:  # Arrow, its codecs and its conversions each fail in their own way on damaged bytes
        text = f"cannot be read as Parquet ({shorten(str(error), 120)}); write it anew"
        return [], [Problem(path.name, "", "", text)]
    for row in table:
        label = row.get("label")
        # pandas stores integers with gaps as floats: 2.0 and NaN stand for 2 and nothing.
        if isinstance(label, float) and (label != label or label.is_integer()):
            row["label"] = None if label != label else int(label)
    return [Located(row, path.name, f"row {number}") for number, row in enumerate(table, start=1)], []
