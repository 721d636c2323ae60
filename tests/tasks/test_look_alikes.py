"""Messages that show two texts which look the same say how they differ, in signs that anybody can read."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.tasks.hub import read_hub
from moe_analysis.tasks.look_alikes import apart, resembling
from moe_analysis.tasks.suite import SuiteError, load_suite
from tools.generate import stream

from .suites import choice_row, free_row, message, write

NFC, NFD = "caf\u00e9", "cafe\u0301"
ALIKE = {
    "composition": (NFD, NFC, r"how accents are composed (NFD against NFC): 'cafe\u0301' against 'caf\xe9'"),
    "a mixture": (f"{NFC} {NFD}", f"{NFD} {NFD}", "how accents are composed (a mixture against NFD)"),
    "a space at the end": ("tea ", "tea", "white space: 'tea ' against 'tea'"),
    "a space that does not break": ("a\u00a0b", "a b", r"white space: 'a\xa0b' against 'a b'"),
    "two spaces": ("a  b", "a b", "white space: 'a  b' against 'a b'"),
    "a line's end": ("tea\r", "tea", r"white space: 'tea\r' against 'tea'"),
    "no width": ("te\u200ba", "tea", r"invisible characters: 'te\u200ba' against 'tea'"),
    "a mark of byte order": ("\ufefftea", "tea", r"invisible characters: '\ufefftea' against 'tea'"),
    "a chosen variant": ("\u2764\ufe0f", "\u2764", r"invisible characters: '\u2764\ufe0f' against '\u2764'"),
    "capitals": ("Tea", "tea", "capitals: 'Tea' against 'tea'"),
    "Cyrillic": ("t\u0435\u0430", "tea", r"letters that look alike: 't\u0435\u0430' against 'tea'"),
    "full width": ("\uff34ea", "Tea", r"letters that look alike: '\uff34ea' against 'Tea'"),
    "one sign of many": (
        "x" * 40 + "," + "y" * 30,
        "x" * 40 + "." + "y" * 30,
        f"one place of a long text: '{'x' * 20},{'y' * 19}' against '{'x' * 20}.{'y' * 19}'",
    ),
    "behind what is shown": ("x" * 60 + "y" * 60, "x" * 60 + "z" * 90, "one place of a long text"),
}


@pytest.mark.parametrize("case", ALIKE)
def test_two_texts_that_look_alike_are_told_apart(case: str) -> None:
    one, other, words = ALIKE[case]
    assert words in apart(one, other) and apart(one, other).isascii() and apart(other, one)


@pytest.mark.parametrize(
    "one, other", [("yes", "no"), ("tea", "tee"), ("", "tea"), ("4", "5"), ("tea", "tea"), ("x" * 29, "x" * 28 + "y")]
)
def test_texts_that_anybody_sees_to_differ_get_no_more_words(one: str, other: str) -> None:
    assert apart(one, other) == ""


@given(st.text(max_size=8))
def test_every_other_form_of_a_text_is_told_apart_from_it(text: str) -> None:
    for form in ("NFC", "NFD"):
        if (other := unicodedata.normalize(form, text)) != text:
            assert "how accents are composed" in apart(text, other) and "\\" in apart(text, other)
    assert apart(text, text) == "" and (not text.strip() or "white space" in apart(text, text + "\u00a0"))


@pytest.mark.parametrize("case", ALIKE)
def test_an_answer_that_looks_like_its_choice_is_told_apart(case: str, tmp_path: Path) -> None:
    one, other, words = ALIKE[case]
    folder = write(tmp_path, "a.jsonl", choice_row(choices=[other, "no"], answer=one))
    text = message(folder)
    assert words in text and "make the answer and the label agree" in text


def test_names_that_look_like_known_ones_are_told_apart(tmp_path: Path) -> None:
    folder = write(tmp_path, "a.jsonl", free_row(dataset=NFC))
    assert r"does not have; they differ in how accents are composed" in message(folder, datasets=[NFD])
    assert "does not have; they differ in capitals" in message("embedded", datasets=["ADD_small"])
    assert "'tr\\u0430in' against 'train'" in message(folder, split="tr\u0430in")
    assert "a known name; they differ in capitals: 'Embedded' against 'embedded'" in message("Embedded")
    with pytest.raises(ValueError, match="embedded suite; they differ in white space: 'add_small ' against"):
        next(stream("add_small ", 0))


def test_fields_that_look_like_known_ones_are_told_apart(tmp_path: Path) -> None:
    row = {"Prompt" if key == "prompt" else key: value for key, value in free_row().items()}
    assert "prompt is missing (it has 'Prompt'); every row needs" in message(write(tmp_path / "a", "a.jsonl", row))
    assert "split = 'te\u0455t' is unknown; they differ in letters that look alike" in message(
        write(tmp_path / "b", "a.jsonl", free_row(split="te\u0455t"))
    )
    groups = write(tmp_path / "c", "a.jsonl", free_row(), free_row("5", group="arithmetic\u00a0"))
    assert r"they differ in white space: 'arithmetic\xa0' against 'arithmetic'; give it one group" in message(groups)
    (tmp_path / "d").mkdir()
    pd.DataFrame({"Prompt": ["a"]}).to_parquet(tmp_path / "d" / "a.parquet")
    assert "they differ in capitals: 'Prompt' against 'prompt'; rename them" in message(tmp_path / "d")


def test_columns_of_the_hub_too(monkeypatch) -> None:
    import datasets

    data = datasets.Dataset.from_list([{"Question": "x", "answer": "y"}])
    monkeypatch.setattr(datasets, "load_dataset", lambda repo, config: {"train": data})
    with pytest.raises(SuiteError, match="they differ in capitals: 'Question' against 'question'; rename the column"):
        read_hub("someone/quiz")


def test_what_is_no_text_resembles_nothing() -> None:
    assert resembling([3, None, ["train"]], ["train"]) == ""
    with pytest.raises(SuiteError, match=r"datasets = \[3\] names \[3\]"):
        load_suite("embedded", datasets=[3])
