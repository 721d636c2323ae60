"""A sound suite, and everything that is read from one."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from moe_analysis.tasks.suite import COLUMNS, SuiteError, load_suite, suite_manifest, task_roles

ERRORS = (SuiteError,)


def build(folder: Path) -> None:
    folder.mkdir()
    rows = [
        {
            "dataset": "facts",
            "group": "lexical",
            "split": split,
            "prompt": f"Is {thing} cold? é",
            "choices": ["yes", "no"],
            "answer": answer,
            "label": label,
            "source": {"book": 3},
        }
        for split, thing, answer, label in (
            ("train", "ice", "yes", 0),
            ("train", "tea", "no", 1),
            ("test", "snow", "yes", 0),
            ("test", "fire", "no", 1),
        )
    ]
    sums = [
        {
            "dataset": "sums",
            "group": "arithmetic",
            "split": "train" if n < 4 else "test",
            "prompt": f"{n} + {n}",
            "answer": str(2 * n),
        }
        for n in range(6)
    ]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "a.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums))
    table = pd.DataFrame([{**row, "dataset": "tables"} for row in rows]).drop(columns="source")
    table.to_parquet(folder / "c.parquet")
    entries = {"facts": {"role": "original", "folder": "suite"}, "tables": {"role": "variant", "of": "facts"}}
    (folder / "manifest.json").write_text(json.dumps({"seed": 1, "datasets": entries}, indent=1))


def readings(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    load = functools.cache(lambda: load_suite(folder))
    yield "load_suite", lambda: check_suite(load())
    yield "suite_manifest", lambda: suite_manifest(folder)
    yield "task_roles", lambda: check_roles(task_roles(folder, load()))


def check_suite(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == COLUMNS and len(frame)
    for row in frame.itertuples():
        assert row.split in ("train", "test")
        for text in (row.dataset, row.group, row.prompt, row.answer):
            assert text.strip() and text.encode("utf-8")
        assert row.choices is None or row.choices[row.label] == row.answer


def check_roles(roles: pd.Series) -> None:
    assert all(isinstance(role, str) for role in roles) and roles.index.is_unique
