"""Damaged suites: each loads, or is refused by name with a remedy; the defects that the fuzz found stand by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from moe_analysis.tasks.suite import load_suite, suite_manifest, task_roles
from tests.tasks.suites import choice_row, free_row, message, write

from .mutate import GOOD, cases, fault_of, results_of

CASES = 240  # `make fuzz` has thousands


def manifest_message(folder: Path) -> str:
    with pytest.raises(ValueError) as caught:
        task_roles(folder, load_suite(folder))
    assert type(caught.value).__name__ == "SuiteError"
    return str(caught.value)


def test_a_damaged_suite_loads_or_is_refused_by_name_with_a_remedy_and_is_never_touched() -> None:
    results = list(results_of(cases(CASES, ["suite"]), seed=0))
    assert [result for result in results if result.outcome not in GOOD] == []
    outcomes = [result.outcome for result in results if result.reading == "load_suite"]
    assert len(outcomes) == CASES and min(outcomes.count(outcome) for outcome in GOOD) > CASES // 10


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "manifest.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for_or_passed_over(name: str, kind: str, tmp_path: Path) -> None:
    write(tmp_path, "b.jsonl", free_row())
    make = {"folder": Path.mkdir, "pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero")}
    make[kind](tmp_path / name)
    text = manifest_message(tmp_path)
    assert f"{name}" in text and "is a folder, a pipe or a device, not a file; " in text


@pytest.mark.parametrize("levels", [*range(880, 1000, 4), 100_000])
def test_a_nesting_that_json_can_or_cannot_read_is_refused_by_its_line(levels: int, tmp_path: Path) -> None:
    deep = json.dumps(free_row(answer="DEEP")).replace('"DEEP"', "[" * levels + "]" * levels)
    assert "a.jsonl line 2: " in message(write(tmp_path, "a.jsonl", free_row(), deep))


def test_a_file_whose_name_is_no_text_is_refused_in_printable_words(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.jsonl")).write_bytes(b"{}\n")
    text = message(tmp_path)
    assert fault_of(text, {"\\udcff.jsonl"}) == "refused"


def test_a_name_that_no_file_system_has_is_an_unknown_name() -> None:
    for name in ("n" * 5000, "a\x00b", "~nobody-of-that-name/suite", "hub"):
        assert "is neither a folder nor a known name" in message(name)


def test_a_table_without_a_column_of_a_suite_says_so_once(tmp_path: Path) -> None:
    pd.DataFrame({"text": range(1000)}).to_parquet(tmp_path / "a.parquet")
    text = message(tmp_path)
    assert "a.parquet: has the columns ['text'], none of dataset" in text and "1 problem:" in text


def test_a_folder_called_like_a_column_adds_none(tmp_path: Path) -> None:
    folder = tmp_path / "split=test" / "group=other"
    folder.mkdir(parents=True)
    pd.DataFrame([choice_row()]).to_parquet(folder / "a.parquet")
    assert load_suite(folder)[["split", "group"]].values.tolist() == [["train", "lexical"]]


def test_values_that_arrow_cannot_hand_to_python_are_refused_by_their_file(tmp_path: Path) -> None:
    table = pd.DataFrame([free_row()]).drop(columns=["choices", "label"])
    table["answer"] = pd.array([2**62], dtype="timestamp[us][pyarrow]")
    table.to_parquet(tmp_path / "a.parquet")
    assert "a.parquet: cannot be read as Parquet" in message(tmp_path)


@pytest.mark.parametrize(
    "content",
    ['{"sums": {"role": ["variant"]}}', '{"datasets": {"sums": {"role": 3}}}', "[" * 100_000, '{"sums": \xff}'],
)
def test_a_manifest_that_says_no_role_is_refused_by_name(content: str, tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", free_row())
    (tmp_path / "manifest.json").write_bytes(content.encode("latin-1"))
    assert fault_of(manifest_message(tmp_path), {"manifest.json"}) == "refused"


def test_a_manifest_that_leads_nowhere_is_refused_and_not_taken_for_none(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", free_row())
    assert suite_manifest(tmp_path) == {}
    (tmp_path / "manifest.json").symlink_to(tmp_path / "gone")
    assert "manifest.json cannot be read" in manifest_message(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may")
@pytest.mark.parametrize("target", ["a.jsonl", "manifest.json", ""])
def test_rights_that_are_missing_are_named(target: str, tmp_path: Path) -> None:
    write(tmp_path / "suite", "a.jsonl", free_row())
    (tmp_path / "suite" / "manifest.json").write_text("{}")
    (tmp_path / "suite" / target).chmod(0o000)
    try:
        assert fault_of(manifest_message(tmp_path / "suite"), {target or "suite"}) == "refused"
    finally:
        (tmp_path / "suite" / target).chmod(0o700)
