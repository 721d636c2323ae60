"""Small suites for the tests: rows, files and the message of a refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_analysis.tasks.suite import SuiteError, load_suite


def choice_row(prompt: str = "Is ice cold?", split: str = "train", **changes) -> dict:
    row = {"dataset": "facts", "group": "lexical", "split": split, "prompt": prompt}
    return row | {"choices": ["yes", "no"], "answer": "yes", "label": 0} | changes


def free_row(prompt: str = "2 + 2", split: str = "train", **changes) -> dict:
    row = {"dataset": "sums", "group": "arithmetic", "split": split, "prompt": prompt}
    return row | {"choices": None, "answer": "4", "label": None} | changes


def write(folder: Path, file: str, *rows: dict | str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    (folder / file).write_bytes(b"\n".join(lines) + b"\n")
    return folder


def message(folder: Path | str, **options) -> str:
    with pytest.raises(SuiteError) as caught:
        load_suite(folder, **options)
    return str(caught.value)
