"""Loading a suite: what a sound one becomes, and how each kind of broken row is named."""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_analysis.tasks.suite import (
    COLUMNS,
    SuiteError,
    SuiteWarning,
    baselines,
    load_suite,
    suite_manifest,
    task_roles,
)


def choice_row(prompt: str = "Is ice cold?", split: str = "train", **changes) -> dict:
    row = {"dataset": "facts", "group": "lexical", "split": split, "prompt": prompt}
    return row | {"choices": ["yes", "no"], "answer": "yes", "label": 0} | changes


def free_row(prompt: str = "2 + 2", split: str = "train", **changes) -> dict:
    row = {"dataset": "sums", "group": "arithmetic", "split": split, "prompt": prompt}
    return row | {"choices": None, "answer": "4", "label": None} | changes


def write(folder: Path, file: str, *rows: dict | str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()
        for row in rows
    ]
    (folder / file).write_bytes(b"\n".join(lines) + b"\n")
    return folder


def message(folder: Path | str, **options) -> str:
    with pytest.raises(SuiteError) as caught:
        load_suite(folder, **options)
    return str(caught.value)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    write(tmp_path / "suite", "b.jsonl", free_row(), free_row("3 + 1", "test"))
    return write(
        tmp_path / "suite", "a.jsonl", choice_row(), choice_row("Is fire cold?", "test", answer="no", label=1)
    )


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


def test_an_unknown_name_lists_the_names_that_would_work(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_an_unknown_split_is_refused_before_reading() -> None:
    assert "'validation'" in message("nowhere", split="validation")


def test_an_unknown_dataset_lists_those_there_are(suite: Path) -> None:
    text = message(suite, datasets=["facts", "fakts"])
    assert "['fakts']" in text and "facts, sums" in text


def test_a_split_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    assert "only test rows" in message(write(tmp_path, "a.jsonl", free_row(split="test")), split="train")


# Broken rows

BROKEN = {
    "answer is missing": free_row(answer=None),
    "answer = '  ' is empty": free_row(answer="  "),
    "answer = 4 is int, not text": free_row(answer=4),
    "prompt = '' is empty": free_row(prompt=""),
    "dataset is missing": {field: value for field, value in free_row().items() if field != "dataset"},
    "split = 'dev' is unknown": free_row(split="dev"),
    "label = 2 is outside the 2 choices": choice_row(label=2),
    "label = -1 is outside the 2 choices": choice_row(label=-1),
    "label = True is bool": choice_row(label=True),
    "label = 0.0 is float": choice_row(label=0.0),
    "label is missing although there are choices": choice_row(label=None),
    "label = 0 has no choices to point into": free_row(label=0),
    "answer = 'no' is not choices[0] = 'yes'": choice_row(answer="no"),
    "choices = [] is empty": choice_row(choices=[]),
    "choices = 'yes' is str": choice_row(choices="yes"),
    "holds ' '; make every choice non-empty": choice_row(choices=["yes", " "]),
    "holds 3; make every choice non-empty": choice_row(choices=["yes", 3]),
    "holds half a character": json.dumps(free_row("\ud800")),
    "is not JSON": '{"dataset": "facts",',
    "is list; write one JSON object a line": "[1, 2]",
    "byte b'\\xff' at column 2 is not UTF-8": b"{\xff}",
}


@pytest.mark.parametrize("expected", BROKEN)
def test_a_broken_row_is_named_by_file_line_field_and_value(expected: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "broken.jsonl", free_row("1 + 3"), BROKEN[expected])
    text = message(folder)
    assert "broken.jsonl line 2: " in text and expected in text
    assert "line 1" not in text


def test_a_label_outside_the_choices_says_which_labels_are_right(tmp_path: Path) -> None:
    folder = write(tmp_path, "a.jsonl", choice_row(label=7))
    assert "a.jsonl line 1: label = 7 is outside the 2 choices; give a whole number from 0 to 1" in message(
        folder
    )


def test_a_broken_parquet_row_is_named_by_its_number(tmp_path: Path) -> None:
    pd.DataFrame([free_row(), free_row("9", answer=None)]).to_parquet(tmp_path / "a.parquet")
    assert "a.parquet row 2: answer is missing" in message(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    assert "a.parquet: cannot be read as Parquet" in message(write(tmp_path, "a.parquet", "text"))


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone")
    assert "a.jsonl: cannot be opened" in message(tmp_path)


def test_an_empty_file_is_named(suite: Path) -> None:
    assert "c.jsonl: holds no rows" in message(write(suite, "c.jsonl", ""))


def test_ten_problems_of_a_file_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", *[free_row(answer="") for _ in range(25)])
    text = message(write(tmp_path, "b.jsonl", choice_row(label=5)))
    assert text.count("a.jsonl line") == 10
    assert "... and 15 more in a.jsonl" in text and "b.jsonl line 1" in text and "26 problems" in text


def test_every_problem_stays_on_the_error(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", *[free_row(answer="") for _ in range(25)])
    with pytest.raises(SuiteError) as caught:
        load_suite(tmp_path)
    assert [problem.place for problem in caught.value.problems] == [f"line {n}" for n in range(1, 26)]


def test_a_long_value_is_shortened(tmp_path: Path) -> None:
    text = message(write(tmp_path, "a.jsonl", choice_row(answer="x" * 5000)))
    assert "xxx..." in text and len(text) < 400


def test_a_dataset_in_two_files_is_refused_once_for_the_file(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", free_row())
    text = message(write(tmp_path, "copy.jsonl", free_row(), free_row("5")))
    assert text.count("is also in a.jsonl") == 1 and "copy.jsonl line 1" in text


def test_a_dataset_with_two_groups_is_refused(tmp_path: Path) -> None:
    assert "group = 'logic'" in message(write(tmp_path, "a.jsonl", free_row(), free_row("5", group="logic")))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(COLUMNS),
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["train", "test", "yes", "no"])
    | st.lists(st.text(max_size=3) | st.integers() | st.sampled_from(["yes", "no"]), max_size=4)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
    drop=st.booleans(),
)
def test_any_change_of_one_field_loads_or_is_named_by_its_line(
    field: str, value, drop: bool, tmp_path: Path
) -> None:
    row = choice_row("Is snow cold?")
    if drop:
        del row[field]
    else:
        row[field] = value
    folder = write(tmp_path, "a.jsonl", choice_row(), row)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SuiteWarning)
            frame = load_suite(folder)
    except SuiteError as error:
        assert "a.jsonl line 2: " in str(error)
        assert {problem.place for problem in error.problems} == {"line 2"}
    else:
        assert frame[field].tolist()[1] == value


# Rows that load but blur a score

FLAWED = {
    "choices repeat 'no'": [choice_row(choices=["yes", "no", "no"])],
    "leave nothing to choose": [choice_row(choices=["yes"])],
    "prompt = 'Is ice cold?' is also a train prompt (line 1)": [choice_row(), choice_row(split="test")],
}


@pytest.mark.parametrize("expected", FLAWED)
def test_a_flawed_row_is_kept_with_a_warning_and_refused_when_strict(expected: str, tmp_path: Path) -> None:
    folder = write(tmp_path, "a.jsonl", *FLAWED[expected])
    with pytest.warns(SuiteWarning, match=re.escape(expected)):
        assert len(load_suite(folder)) == len(FLAWED[expected])
    assert expected in message(folder, strict=True)


def test_the_same_prompt_in_train_and_test_of_two_datasets_is_no_flaw(tmp_path: Path) -> None:
    folder = write(tmp_path, "a.jsonl", free_row(), free_row(split="test", dataset="other"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_suite(folder, strict=True)) == 2


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


# Baselines


def test_chance_is_the_mean_share_of_right_choices_on_test_rows(tmp_path: Path) -> None:
    three = choice_row("c", "test", choices=["yes", "no", "maybe"])
    frame = load_suite(write(tmp_path, "a.jsonl", choice_row(), choice_row("b", "test"), three))
    assert baselines(frame).loc["facts", "chance"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_chance_is_unknown_for_free_answers(suite: Path) -> None:
    assert pd.isna(baselines(load_suite(suite)).loc["sums", "chance"])


def test_majority_gives_the_most_frequent_train_answer_to_the_test_rows(tmp_path: Path) -> None:
    train = [free_row("a"), free_row("b"), free_row("c", answer="5")]
    test = [free_row("d", "test"), *(free_row(f"e{n}", "test", answer="5") for n in range(3))]
    frame = load_suite(write(tmp_path, "a.jsonl", *train, *test))
    assert baselines(frame).loc["sums", "majority"] == 0.25


def test_majority_follows_the_answer_text_where_positions_are_shuffled(tmp_path: Path) -> None:
    rows = [
        choice_row(f"p{n}", "test", choices=["yes", "no"][:: 1 if n % 2 else -1], label=0 if n % 2 else 1)
        for n in range(6)
    ]
    assert baselines(load_suite(write(tmp_path, "a.jsonl", *rows))).loc["facts", "majority"] == 1.0


def test_a_dataset_without_test_rows_has_no_baseline(tmp_path: Path) -> None:
    assert baselines(load_suite(write(tmp_path, "a.jsonl", choice_row()))).isna().all(axis=None)


# The hub


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub_cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_dataset_is_read_through_datasets_and_its_columns_mapped(tmp_path: Path) -> None:
    folder = tmp_path / "quiz"
    write(folder, "train.jsonl", {"question": "2 + 2", "answer": "4"})
    write(folder, "test.jsonl", {"question": "3 + 2", "answer": "5"})
    frame = load_suite(f"hub:{folder}")
    assert frame[["dataset", "group", "split", "prompt", "answer"]].values.tolist() == [
        ["quiz", "hub", "train", "2 + 2", "4"],
        ["quiz", "hub", "test", "3 + 2", "5"],
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"choices": ["red", "blue"], "answer": 1},
        {"options": ["red", "blue"], "answer": "blue"},
        {"choices": {"text": ["red", "blue"], "label": ["A", "B"]}, "answerKey": "B"},
    ],
    ids=["index", "text", "key"],
)
def test_the_usual_forms_of_choices_become_answer_and_label(
    row: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    data = datasets.Dataset.from_list([{"question": "colour of the sky?", **row}])
    monkeypatch.setattr(datasets, "load_dataset", lambda repo, config: {"validation": data})
    only = load_suite("hub:someone/quiz:easy").iloc[0]
    assert (only["dataset"], only["split"], only["answer"], only["label"]) == ("quiz_easy", "test", "blue", 1)
    assert only["choices"] == ["red", "blue"]


def test_a_hub_dataset_without_prompts_is_refused_with_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    data = datasets.Dataset.from_list([{"image": "x", "answer": "y"}])
    monkeypatch.setattr(datasets, "load_dataset", lambda repo, config: {"train": data})
    assert "['image', 'answer']" in message("hub:someone/pictures")


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_dataset_out_of_reach_is_a_clear_error(tmp_path: Path) -> None:
    text = message(f"hub:{tmp_path / 'absent'}")
    assert "absent" in text and "could not be loaded" in text and "check the name and the connection" in text


# The shipped suites and the real pack


@pytest.mark.parametrize(("name", "splits"), [("embedded", {"train", "test"}), ("embedded_ood", {"test"})])
def test_the_shipped_suites_load_without_a_flaw(name: str, splits: set[str]) -> None:
    frame = load_suite(name, strict=True)
    assert set(frame["split"]) == splits
    assert "task" not in set(task_roles(name, frame))


@pytest.mark.skipif(
    not os.environ.get("MOE_ANALYSIS_DATA"), reason="MOE_ANALYSIS_DATA names no folder of real data"
)
@pytest.mark.filterwarnings("ignore::moe_analysis.tasks.suite.SuiteWarning")
def test_the_real_suites_load_with_every_row_of_their_files() -> None:
    root = Path(os.environ["MOE_ANALYSIS_DATA"])
    folders = [folder for folder in root.iterdir() if any(folder.glob("*.jsonl"))]
    assert folders
    for folder in folders:
        lines = sum(len(path.read_bytes().strip().split(b"\n")) for path in folder.glob("*.jsonl"))
        assert len(load_suite(folder.name)) == lines
