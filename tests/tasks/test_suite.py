"""Loading a suite: what a sound one becomes, where names lead, and what the manifest adds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from moe_analysis.tasks.suite import COLUMNS, SuiteError, load_suite, suite_manifest, task_roles

from .suites import choice_row, free_row, message, write


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write(tmp_path / "suite", "b.jsonl", free_row(), free_row("3 + 1", "test"))
    return write(tmp_path / "suite", "a.jsonl", choice_row(), choice_row("Is fire cold?", "test", answer="no", label=1))


# What a sound suite becomes


def test_the_frame_has_the_columns_and_types_of_the_contract(suite: Path) -> None:
    frame = load_suite(suite)
    assert list(frame.columns) == COLUMNS
    assert str(frame["label"].dtype) == "Int64"
    assert all(isinstance(prompt, str) for prompt in frame["prompt"])
    assert frame["choices"].tolist() == [["yes", "no"], ["yes", "no"], None, None]
    assert frame["label"].tolist() == [0, 1, pd.NA, pd.NA]


def test_rows_come_in_the_order_of_file_names_and_lines(suite: Path) -> None:
    assert load_suite(suite)["prompt"].tolist() == ["Is ice cold?", "Is fire cold?", "2 + 2", "3 + 1"]


def test_jsonl_and_parquet_load_alike(suite: Path, tmp_path: Path) -> None:
    frame = load_suite(suite)
    (tmp_path / "parquet").mkdir()
    frame.to_parquet(tmp_path / "parquet" / "all.parquet")
    pd.testing.assert_frame_equal(load_suite(tmp_path / "parquet"), frame)


def test_a_parquet_label_that_became_a_float_is_a_whole_number_again(tmp_path: Path) -> None:
    table = pd.DataFrame([choice_row(), free_row()]).astype({"label": "float64"})
    table.to_parquet(tmp_path / "all.parquet")
    assert load_suite(tmp_path)["label"].tolist() == [0, pd.NA]


def test_fields_beyond_the_contract_are_left_out(tmp_path: Path) -> None:
    assert list(load_suite(write(tmp_path, "a.jsonl", free_row(source="book"))).columns) == COLUMNS


def test_choices_and_label_may_be_absent(tmp_path: Path) -> None:
    row = {field: value for field, value in free_row().items() if value is not None}
    assert load_suite(write(tmp_path, "a.jsonl", row))["choices"].tolist() == [None]


def test_line_separators_inside_a_text_do_not_cut_the_row(tmp_path: Path) -> None:
    row = json.dumps(free_row("one\u2028two\u0085three"), ensure_ascii=False)
    assert load_suite(write(tmp_path, "a.jsonl", row))["prompt"].tolist() == ["one\u2028two\u0085three"]


def test_a_byte_order_mark_and_empty_lines_are_no_rows(tmp_path: Path) -> None:
    folder = write(tmp_path, "a.jsonl", b"\xef\xbb\xbf" + json.dumps(free_row()).encode(), "", "  \r")
    assert len(load_suite(folder)) == 1


def test_split_and_datasets_keep_only_those_rows_and_number_them_anew(suite: Path) -> None:
    frame = load_suite(suite, split="test", datasets=["sums"])
    assert frame["prompt"].tolist() == ["3 + 1"]
    assert frame.index.tolist() == [0]


def test_loading_writes_nothing(suite: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in suite.parent.rglob("*")}
    load_suite(suite)
    assert {path: path.stat().st_mtime_ns for path in suite.parent.rglob("*")} == before


# Names


def test_a_name_is_looked_up_in_the_data_variable(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_DATA", str(suite.parent))
    assert len(load_suite("suite")) == 4


def test_an_unknown_name_lists_the_names_that_would_work(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_DATA", str(suite.parent))
    text = message("multitsak")
    assert "'multitsak'" in text and "embedded, embedded_ood, suite" in text and "MOE_ANALYSIS_DATA" in text


def test_an_unknown_name_without_the_variable_says_to_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOE_ANALYSIS_DATA", raising=False)
    assert "set MOE_ANALYSIS_DATA" in message("multitask")


def test_a_file_in_place_of_a_folder_is_refused(suite: Path) -> None:
    assert "pass the folder" in message(suite / "a.jsonl")


def test_a_folder_without_data_files_is_refused(tmp_path: Path) -> None:
    assert "no *.jsonl or *.parquet" in message(tmp_path)


@pytest.mark.parametrize("name", [None, 3, ["embedded"]])
def test_what_is_no_name_of_a_suite_is_named(name: object) -> None:
    with pytest.raises(SuiteError, match="suite = .* is not a name or a folder"):
        load_suite(name)


def test_an_unknown_split_is_refused_before_reading() -> None:
    assert "'validation'" in message("nowhere", split="validation")


def test_an_unknown_dataset_lists_those_there_are(suite: Path) -> None:
    text = message(suite, datasets=["facts", "fakts"])
    assert "['fakts']" in text and "facts, sums" in text


def test_a_split_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    assert "only test rows" in message(write(tmp_path, "a.jsonl", free_row(split="test")), split="train")


# Manifest and roles


def test_a_suite_without_manifest_has_none_and_every_role_is_task(suite: Path) -> None:
    assert suite_manifest(suite) == {}
    assert task_roles(suite, load_suite(suite)).to_dict() == {"facts": "task", "sums": "task"}


def test_roles_come_from_the_manifest(suite: Path) -> None:
    (suite / "manifest.json").write_text(json.dumps({"facts": {"role": "variant", "of": "sums"}}))
    assert task_roles(suite, load_suite(suite)).to_dict() == {"facts": "variant", "sums": "task"}


def test_a_manifest_beside_several_folders_gives_each_its_own_entries(suite: Path) -> None:
    entries = {"facts": {"folder": "suite", "chance": 0.5}, "far": {"folder": "elsewhere"}}
    (suite.parent / "manifest.json").write_text(json.dumps({"seed": 1, "datasets": entries}))
    assert suite_manifest(suite) == {"facts": entries["facts"]}


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_manifest_is_named(content: str, suite: Path) -> None:
    (suite / "manifest.json").write_text(content)
    with pytest.raises(SuiteError, match=r"manifest\.json"):
        suite_manifest(suite)


# The shipped suites and the real pack


@pytest.mark.parametrize(("name", "splits"), [("embedded", {"train", "test"}), ("embedded_ood", {"test"})])
def test_the_shipped_suites_load_without_a_flaw(name: str, splits: set[str]) -> None:
    frame = load_suite(name, strict=True)
    assert set(frame["split"]) == splits
    assert "task" not in set(task_roles(name, frame))


@pytest.mark.skipif(not os.environ.get("MOE_ANALYSIS_DATA"), reason="MOE_ANALYSIS_DATA names no folder of real data")
@pytest.mark.filterwarnings("ignore::moe_analysis.tasks.suite.SuiteWarning")
def test_the_real_suites_load_with_every_row_of_their_files() -> None:
    root = Path(os.environ["MOE_ANALYSIS_DATA"])
    folders = [folder for folder in root.iterdir() if any(folder.glob("*.jsonl"))]
    assert folders
    for folder in folders:
        lines = sum(len(path.read_bytes().strip().split(b"\n")) for path in folder.glob("*.jsonl"))
        assert len(load_suite(folder.name)) == lines
