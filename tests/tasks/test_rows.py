"""Broken and flawed rows: each is named by file, line, field and value, with what to do."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_analysis.tasks.rows import check_frame
from moe_analysis.tasks.suite import COLUMNS, SuiteError, SuiteWarning, load_suite

from .suites import choice_row, free_row, message, write

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
    "label = 0.5 is float; give a whole number from 0 to 1": choice_row(label=0.5),
    "label = inf is float": choice_row(label=float("inf")),
    "label = 'A' is str": choice_row(label="A"),
    "label = '0.5' is str": choice_row(label="0.5"),
    "label = '-1' is str": choice_row(label="-1"),
    "label = '٠' is str": choice_row(label="٠"),
    "answer = 'yes' is not choices[1] = 'no'": choice_row(label="1"),  # counted from 1
    "label is missing although there are choices": choice_row(label=None),
    "label = 0 needs choices": free_row(label=0),
    "answer = 'no' is not choices[0] = 'yes'": choice_row(answer="no"),
    "choices = [] is empty": choice_row(choices=[]),
    "choices = 'yes' is str": choice_row(choices="yes"),
    "holds ' '; make every choice non-empty": choice_row(choices=["yes", " "]),
    "holds 3; make every choice non-empty": choice_row(choices=["yes", 3]),
    "holds half a character": json.dumps(free_row("\ud800")),
    "is not JSON": '{"dataset": "facts",',
    "is list; write one JSON object per line": "[1, 2]",
    "(it has the field 'answer' twice)": '{"answer": "4", "dataset": "sums", "answer": "5"}',
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
    assert "a.jsonl line 1: label = 7 is outside the 2 choices; give a whole number from 0 to 1" in message(folder)


@pytest.mark.parametrize("written", [1, 1.0, "1", "1.0", "01"])
def test_a_whole_number_is_a_label_however_it_is_written(written: object, tmp_path: Path) -> None:
    folder = write(tmp_path, "a.jsonl", choice_row(answer="no", label=written), free_row(label=float("nan")))
    assert load_suite(folder)["label"].tolist() == [1, pd.NA]


def test_labels_that_pandas_made_real_are_whole_again_from_both_formats(tmp_path: Path) -> None:
    frame = pd.DataFrame([choice_row(answer="no", label=1), free_row()])  # the gap makes 1 a 1.0
    assert frame["label"].dtype == float
    (tmp_path / "lines").mkdir(), (tmp_path / "table").mkdir()
    frame.to_json(tmp_path / "lines" / "a.jsonl", orient="records", lines=True)
    frame.astype({"label": str}).to_parquet(tmp_path / "table" / "a.parquet")  # "1.0"
    for name in ("lines", "table"):
        assert load_suite(tmp_path / name)["label"].tolist() == [1, pd.NA]


def test_a_broken_parquet_row_is_named_by_its_number(tmp_path: Path) -> None:
    pd.DataFrame([free_row(), free_row("9", answer=None)]).to_parquet(tmp_path / "a.parquet")
    assert "a.parquet row 2: answer is missing" in message(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    assert "a.parquet: cannot be read as Parquet" in message(write(tmp_path, "a.parquet", "text"))


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone")
    assert "a.jsonl: cannot be opened" in message(tmp_path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    assert "c.jsonl: holds no rows" in message(write(tmp_path, "c.jsonl", ""))


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
def test_any_change_of_one_field_loads_or_is_named_by_its_line(field: str, value, drop: bool, tmp_path: Path) -> None:
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
        assert frame[field].tolist()[1] == (int(float(value)) if field == "label" else value)


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


# Rows of a user's own frame

OWN = pd.DataFrame([choice_row(), free_row()])


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_rows_of_ones_own_with_any_kind_of_choices_and_whole_labels_are_sound(kind) -> None:
    choices = pd.Series([kind(["yes", "no"]), None], dtype=object)
    for labels in ([0, None], [0.0, float("nan")], pd.array([0, pd.NA], "Int64")):
        check_frame(OWN.assign(choices=choices, label=labels).drop(columns="split"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"label": [9, None]}, "row 0: label = 9 is outside the 2 choices"),
        ({"label": [-1, None]}, "row 0: label = -1 is outside"),
        ({"label": [None, None]}, "row 0: label is missing although there are choices"),
        ({"label": pd.array([pd.NA, pd.NA], "Int64")}, "row 0: label is missing"),
        ({"label": [1, None]}, "row 0: answer = 'yes' is not choices[1] = 'no'"),
        ({"choices": ["yes", None]}, "row 0: choices = 'yes' is str"),
        ({"choices": [["yes", "no"], float("nan")]}, "row 1: choices = nan is float; give a list of strings, or null"),
        ({"choices": [[], None]}, "row 0: choices = [] is empty"),
        ({"answer": ["yes", 4]}, "row 1: answer = 4 is int, not text"),
        ({"prompt": [None, "2 + 2"]}, "row 0: prompt is missing"),
    ],
)
def test_a_row_of_ones_own_that_cannot_be_asked_is_named(changes: dict, expected: str) -> None:
    frame = OWN.assign(**{field: pd.Series(values, dtype=object) for field, values in changes.items()})
    with pytest.raises(ValueError, match=re.escape(expected)):
        check_frame(frame)


def test_a_frame_without_rows_or_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="frame has no rows"):
        check_frame(OWN.head(0))
    with pytest.raises(ValueError, match="frame has no column choices, label; pass rows as load_suite gives them"):
        check_frame(OWN.drop(columns=["label", "choices"]))
