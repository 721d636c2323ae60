"""Folders as people have them: one data set by splits, several of them, shards of the hub; and nothing passed over in
silence."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import pandas as pd
import pytest

from moe_analysis.tasks.layout import split_of
from moe_analysis.tasks.suite import SuiteWarning, load_suite, suite_folder

from .suites import choice_row, free_row, message, write

BARE = ("dataset", "group", "split")


def bare(prompt: str = "2 + 2", **changes) -> dict:
    """A row that says nothing of its data set, group or split."""
    return {key: value for key, value in free_row(prompt).items() if key not in BARE} | changes


def silent(folder: Path | str, **options) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_suite(folder, **options)


def said(folder: Path) -> str:
    with pytest.warns(SuiteWarning) as caught:
        load_suite(folder)
    return "\n".join(str(one.message) for one in caught)


def listed(frame: pd.DataFrame) -> list[list[str]]:
    return frame[["dataset", "group", "split", "prompt"]].values.tolist()


# One data set by splits


@pytest.mark.parametrize("held", ["test", "validation", "valid", "val", "dev", "Test", "DEV"])
def test_two_files_of_splits_are_one_data_set_that_is_called_as_the_folder(held: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "quiz", "train.jsonl", bare())
    frame = silent(write(folder, f"{held}.jsonl", bare("3 + 1")))
    assert sorted(listed(frame)) == [["quiz", "quiz", "test", "3 + 1"], ["quiz", "quiz", "train", "2 + 2"]]


def test_what_the_rows_say_of_themselves_stays(tmp_path: Path) -> None:
    folder = write(tmp_path / "quiz", "train.jsonl", free_row(), free_row("1 + 1", split="test"))
    frame = silent(write(folder, "test.jsonl", free_row("3 + 1", split="test")))
    assert frame["dataset"].unique().tolist() == ["sums"] and frame["group"].unique().tolist() == ["arithmetic"]
    assert frame["split"].value_counts().to_dict() == {"test": 2, "train": 1}


def test_rows_that_call_their_split_validation_are_test_rows_of_such_a_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "quiz", "train.jsonl", bare(split="train"))
    assert silent(write(folder, "dev.jsonl", bare("3 + 1", split="validation")))["split"].tolist() == ["test", "train"]
    other = write(tmp_path / "other", "a.jsonl", free_row(split="validation"))
    assert "split = 'validation' is unknown" in message(other)


def test_parquet_and_the_shards_of_the_hub_are_read_alike(tmp_path: Path) -> None:
    (folder := tmp_path / "quiz" / "data").mkdir(parents=True)
    for number, prompt in enumerate(("2 + 2", "5 + 1")):
        pd.DataFrame([bare(prompt)]).to_parquet(folder / f"train-{number:05}-of-00002.parquet")
    pd.DataFrame([bare("3 + 1")]).to_parquet(folder / "test-00000-of-00001.parquet")
    frame = silent(tmp_path / "quiz")
    assert frame[["dataset", "split"]].value_counts().to_dict() == {("quiz", "train"): 2, ("quiz", "test"): 1}


def test_a_single_split_is_a_suite(tmp_path: Path) -> None:
    assert listed(silent(write(tmp_path / "quiz", "test.jsonl", bare()))) == [["quiz", "quiz", "test", "2 + 2"]]


def test_a_folder_of_folders_holds_a_data_set_each(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / name, "train.jsonl", bare(name)), write(tmp_path / name, "test.jsonl", bare(f"{name}?"))
    frame = silent(write(tmp_path, "facts.jsonl", choice_row()))
    assert frame[["dataset", "split"]].values.tolist() == [
        ["facts", "train"],
        ["a", "test"],
        ["a", "train"],
        ["b", "test"],
        ["b", "train"],
    ]
    assert len(load_suite(tmp_path, datasets=["a"], split="test")) == 1


def test_such_a_folder_is_offered_by_name(tmp_path: Path, monkeypatch) -> None:
    write(tmp_path / "mine" / "a", "train.jsonl", bare())
    monkeypatch.setenv("MOE_ANALYSIS_DATA", str(tmp_path))
    assert "available: embedded, embedded_ood, mine;" in message("nowhere")
    assert suite_folder("mine") == tmp_path / "mine" and silent("mine")["dataset"].tolist() == ["a"]


def test_a_folder_given_by_a_dot_is_called_as_it_is_called(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(write(tmp_path / "quiz", "train.jsonl", bare()))
    assert silent(".")["dataset"].tolist() == ["quiz"]


def test_a_change_below_is_seen(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", "train.jsonl", bare())
    for answer in ("4", "four"):
        write(folder, "train.jsonl", bare(answer=answer))
        os.utime(folder / "train.jsonl", (len(answer), len(answer)))  # long ago, at different times
        assert silent(tmp_path)["answer"].tolist() == [answer]


def test_the_names_of_splits() -> None:
    named = {"train": "train", "test-00001-of-00012": "test", "dev": "validation"}
    assert {name: split_of(name) for name in named} == named
    assert [split_of(name) for name in ("facts", "training", "train_facts", "test-1", "")] == [None] * 5


# What is wrong is named below its folder


def test_a_broken_row_below_is_named_with_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", "train.jsonl", bare(), choice_row(label=0.5))
    assert "a/train.jsonl line 2: label = 0.5 is float; give a whole number" in message(tmp_path)


def test_a_data_set_in_two_places_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "sums", "train.jsonl", bare())
    text = message(write(tmp_path, "a.jsonl", free_row()))
    assert "sums/train.jsonl line 1: dataset = 'sums' is also in a.jsonl" in text
    (tmp_path / "a.jsonl").unlink()
    write(tmp_path / "data", "test.jsonl", free_row("9"))
    assert "is also in data/test.jsonl" in message(tmp_path)


def test_other_files_of_the_folder_need_all_of_their_fields(tmp_path: Path) -> None:
    folder = write(tmp_path / "quiz", "train.jsonl", bare())
    assert "more.jsonl line 1: dataset is missing" in message(write(folder, "more.jsonl", bare("3")))


def test_a_prompt_of_both_splits_is_a_flaw_as_ever(tmp_path: Path) -> None:
    folder = write(tmp_path / "quiz", "train.jsonl", bare())
    assert "test.jsonl line 1: prompt = '2 + 2' is also a train prompt" in message(
        write(folder, "test.jsonl", bare()), strict=True
    )


def test_a_row_in_both_formats_is_a_flaw_and_different_rows_are_none(tmp_path: Path) -> None:
    rows = [bare("1 + 1"), bare("1 + 2")]
    folder = write(tmp_path / "quiz", "train.jsonl", *rows, rows[0])  # twice in one file, as in published data
    pd.DataFrame([bare("1 + 4")]).to_parquet(folder / "train.parquet")
    assert len(silent(folder)) == 4
    pd.DataFrame([bare("1 + 4"), *rows]).to_parquet(folder / "train.parquet")
    text = message(folder, strict=True)
    assert "2 problems" in text and "train.parquet row 2: the row is also in train.jsonl (line 1); remove one" in text


# Nothing is passed over in silence


def test_a_folder_that_is_not_read_is_named_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", free_row()), write(tmp_path / "more", "b.jsonl", free_row())
    (tmp_path / "notes").mkdir()
    text = said(tmp_path)
    assert "not read: folder more (holds b.jsonl: load it as a suite of its own)" in text
    assert "folder notes (no train or test file in it)" in text


def test_validation_beside_test_and_splits_of_another_format_are_named(tmp_path: Path) -> None:
    for name in ("train.jsonl", "test.jsonl", "dev.jsonl"):
        write(tmp_path / "a", name, bare(name))
    (tmp_path / "a" / "test.csv").write_text("prompt,answer\n")
    for name in ("train.json.gz", "more.jsonl.gz", "more.PARQUET.zst"):
        (tmp_path / name).write_bytes(b"")
    text = said(tmp_path)
    assert "more.jsonl.gz (only" in text and "more.PARQUET.zst (only" in text
    assert "a/dev.jsonl (test is there)" in text and "a/test.csv (only *.jsonl and *.parquet are read)" in text
    assert "train.json.gz (only" in text and "dev.jsonl" not in load_suite_quietly(tmp_path)["prompt"].tolist()


def load_suite_quietly(folder: Path) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuiteWarning)
        return load_suite(folder)


def test_what_is_passed_over_is_said_at_every_load(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", free_row()), (tmp_path / "notes").mkdir()
    os.utime(tmp_path / "a.jsonl", (1, 1))
    assert said(tmp_path) == said(tmp_path) != ""


def test_hidden_folders_and_plain_files_are_nobodys_data(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", free_row()), write(tmp_path / ".git", "train.jsonl", bare())
    (tmp_path / "README.md").write_text("words"), (tmp_path / "manifest.json").write_text("{}")
    assert len(silent(tmp_path)) == 1


def test_a_folder_of_suites_says_which_there_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        for number in range(6):
            write(tmp_path / name, f"{number}.jsonl", free_row())
    text = message(tmp_path)
    assert "no *.jsonl or *.parquet" in text
    assert "folder one (holds 0.jsonl, 1.jsonl, 2.jsonl, 3.jsonl and 2 more" in text and "folder two (" in text


def test_a_name_that_is_no_text_is_said_in_printable_words(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", free_row()), (tmp_path / os.fsdecode(b"\xff")).mkdir()
    assert "folder \\udcff (no train" in said(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may")
def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", free_row()), (tmp_path / "closed").mkdir(mode=0)
    assert "folder closed (cannot be listed" in said(tmp_path)


# The packs that people have


@pytest.mark.skipif(not os.environ.get("MOE_ANALYSIS_DATA"), reason="MOE_ANALYSIS_DATA names no folder of real data")
@pytest.mark.parametrize("name", ["multitask", "bbh", "smore_table2"])
def test_a_real_pack_loads_also_when_each_data_set_is_a_folder_of_splits_with_real_labels(
    name: str, tmp_path: Path
) -> None:
    root = Path(os.environ["MOE_ANALYSIS_DATA"])
    if not (root / name).is_dir():
        pytest.skip(f"MOE_ANALYSIS_DATA has no folder {name}")
    whole = load_suite_quietly(root / name)
    for (dataset, split), rows in whole.groupby(["dataset", "split"]):
        lines = [
            {
                "prompt": row.prompt,
                "choices": row.choices,
                "answer": row.answer,
                "label": None if row.choices is None else float(row.label),
            }
            for row in rows.itertuples()
        ]
        write(tmp_path / name / dataset, f"{split}.jsonl", *map(json.dumps, lines))
    again = load_suite_quietly(tmp_path / name)
    columns = ["dataset", "split", "prompt", "answer", "label"]
    order = {"by": ["dataset", "split"], "kind": "stable", "ignore_index": True}
    pd.testing.assert_frame_equal(again[columns].sort_values(**order), whole[columns].sort_values(**order))
