"""Hub data sets: columns mapped to the contract, and clear errors when they cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_analysis.tasks.suite import load_suite

from .suites import message, write


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
        {"choices": ["red", "blue"], "answerKey": "B"},
        {"choices": ["red", "blue"], "answerKey": "blue"},
        {"choices": ["red", "blue"], "answerKey": "2"},
    ],
    ids=["index", "text", "key", "letter of a list", "text as key", "number behind the last index"],
)
def test_the_usual_forms_of_choices_become_answer_and_label(row: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    data = datasets.Dataset.from_list([{"question": "color of the sky?", **row}])
    monkeypatch.setattr(datasets, "load_dataset", lambda repo, config: {"validation": data})
    only = load_suite("hub:someone/quiz:easy").iloc[0]
    assert (only["dataset"], only["split"], only["answer"], only["label"]) == ("quiz_easy", "test", "blue", 1)
    assert only["choices"] == ["red", "blue"]


KEYED = {"text": ["3", "4", "5", "1"], "label": ["1", "2", "3", "4"]}


def loaded(monkeypatch: pytest.MonkeyPatch, **row: object) -> str:
    """The name of a hub data set of one row."""
    import datasets

    data = datasets.Dataset.from_list([{"question": "How many legs has a dog?", **row}])
    monkeypatch.setattr(datasets, "load_dataset", lambda repo, config: {"train": data})
    return "hub:someone/quiz"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"choices": KEYED, "answerKey": "2"}, ("4", 1)),
        ({"choices": KEYED, "answerKey": "4"}, ("1", 3)),
        ({"choices": KEYED, "answerKey": 2}, ("4", 1)),
        ({"choices": KEYED | {"label": [1, 2, 3, 4]}, "answerKey": 2}, ("4", 1)),
        ({"choices": {"text": ["1", "2"], "label": ["1", "2"]}, "answer": "2"}, ("2", 1)),
        ({"choices": KEYED, "answer": "5"}, ("5", 2)),
    ],
    ids=["key", "key at the end", "number for text", "number", "both readings agree", "no key"],
)
def test_a_key_that_is_also_the_text_of_a_choice_is_a_key(
    row: dict, expected: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = load_suite(loaded(monkeypatch, **row)).iloc[0]
    assert (only["answer"], only["label"]) == expected


@pytest.mark.parametrize("answer", ["4", 1], ids=["text or key", "index or key"])
def test_an_answer_that_may_mean_two_choices_is_refused(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    text = message(loaded(monkeypatch, choices=KEYED, answer=answer))
    assert f"train row 1: answer = {answer!r} is the key of choice" in text and "call the column answerKey" in text


@pytest.mark.parametrize(
    ("choices", "key", "meant"),
    [
        (["B", "A", "C"], "B", "'A' or 'B'"),
        (["3", "4", "5", "1"], "1", "'3' or '4' or '1'"),
        (["x", "y"], "1", "'x' or 'y'"),
    ],
    ids=["letter or text", "number or text", "counted from 0 or 1"],
)
def test_a_key_of_a_plain_list_that_may_mean_two_choices_is_refused(
    choices: list, key: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = message(loaded(monkeypatch, choices=choices, answerKey=key))
    assert f"train row 1: answerKey = {key!r} may mean {meant}, because the choices have no labels" in text


def test_a_hub_dataset_without_prompts_is_refused_with_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    data = datasets.Dataset.from_list([{"image": "x", "answer": "y"}])
    monkeypatch.setattr(datasets, "load_dataset", lambda repo, config: {"train": data})
    assert "['image', 'answer']" in message("hub:someone/pictures")


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_dataset_out_of_reach_is_a_clear_error(tmp_path: Path) -> None:
    text = message(f"hub:{tmp_path / 'absent'}")
    assert "absent" in text and "could not be loaded" in text and "check the name and the connection" in text
