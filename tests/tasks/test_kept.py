"""A suite that a process has read is read again when its files change, and only then."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from moe_analysis.tasks import suite as loading
from moe_analysis.tasks.kept import MOST, stamp_of
from moe_analysis.tasks.suite import SuiteError, SuiteWarning, load_suite

from .suites import choice_row, free_row, write


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read, in order."""
    read, names = loading.read_file, []
    monkeypatch.setattr(loading, "read_file", lambda path: (names.append(path.name), read(path))[1])
    return names


def old(folder: Path, seconds: float = 60) -> Path:
    """The folder, with files that were written long ago."""
    for path in folder.iterdir():
        os.utime(path, (time.time() - seconds,) * 2)
    return folder


def test_a_suite_is_read_once_and_what_a_caller_changes_stays_his(tmp_path: Path, reads: list[str]) -> None:
    folder = old(write(tmp_path, "a.jsonl", free_row(), free_row(prompt="another")))
    first = load_suite(folder)
    first.loc[0, "prompt"] = "changed by its reader"
    assert load_suite(folder, split="train")["prompt"].tolist() == [free_row()["prompt"], "another"]
    assert reads == ["a.jsonl"]


def test_choices_that_a_caller_reorders_stay_his(tmp_path: Path, reads: list[str]) -> None:
    folder = old(write(tmp_path, "a.jsonl", choice_row(), choice_row("2 + 2", choices=None, label=None)))
    expected = [choice_row()["choices"], None]
    for _ in range(3):
        frame = load_suite(folder)
        assert frame["choices"].tolist() == expected and frame["choices"].dtype == object
        frame["choices"][0].reverse()
    assert reads == ["a.jsonl"]


def test_a_file_that_changed_came_or_went_is_read(tmp_path: Path, reads: list[str]) -> None:
    folder = old(write(tmp_path, "a.jsonl", free_row()))
    load_suite(folder)
    old(write(tmp_path, "a.jsonl", free_row(answer="other")), seconds=50)
    assert load_suite(folder)["answer"].tolist() == ["other"]
    old(write(tmp_path, "b.jsonl", free_row(dataset="more")))
    assert len(load_suite(folder)) == 2
    (tmp_path / "b.jsonl").unlink()
    assert len(load_suite(folder)) == 1
    assert reads == ["a.jsonl", "a.jsonl", "a.jsonl", "b.jsonl", "a.jsonl"]


def test_a_file_too_new_to_tell_is_read_each_time(tmp_path: Path, reads: list[str]) -> None:
    folder = write(tmp_path, "a.jsonl", free_row())
    assert stamp_of(folder) is None
    load_suite(folder), load_suite(folder)
    assert reads == ["a.jsonl"] * 2


def test_flaws_are_told_and_refused_each_time(tmp_path: Path, reads: list[str]) -> None:
    folder = old(write(tmp_path, "a.jsonl", choice_row(choices=["yes", "no", "no"], answer="yes", label=0)))
    for _ in range(2):
        with pytest.warns(SuiteWarning, match="kept rows with 1 flaws"):
            load_suite(folder)
    with pytest.raises(SuiteError, match="choice"):
        load_suite(folder, strict=True)
    assert reads == ["a.jsonl"]


def test_no_more_than_a_few_suites_are_kept(tmp_path: Path, reads: list[str]) -> None:
    folders = [old(write(tmp_path / str(number), "a.jsonl", free_row())) for number in range(MOST + 1)]
    for folder in (*folders, folders[0], folders[-1]):
        load_suite(folder)
    assert len(reads) == MOST + 2  # the first had to go
