"""Names that users choose and that become a part of a file's name: refused where a disk, a pattern or a person would
trip over them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.tasks.file_names import LONGEST, check_file_name, label_of

REFUSED = {
    "S'MoRE 2/2": "has '/' in it",
    "../elsewhere": "has '/' in it",
    r"runs\mine": r"has '\\\\' in it",
    ".hidden": "begins with a dot",
    "..": "begins with a dot",
    "": "is empty",
    " lora": "begins or ends with a space",
    "lora ": "begins or ends with a space",
    "lora.": "ends with a dot",
    "a\nb": r"has '\\n' in it",
    "a\x00b": r"has '\\x00' in it",
    "zero\u200bwidth": r"has '\\u200b' in it",
    "no\u00a0break": r"has '\\xa0' in it",
    "turned\u202eback": r"has '\\u202e' in it",
    "half\ud800": r"has '\\ud800' in it",
    "all*": r"has '\*' in it",
    "C: drive": "has ':' in it",
    "CON": "is what Windows calls a device",
    "nul.txt": "is what Windows calls a device",
    "com1": "is what Windows calls a device",
    "n" * 101: "is 101 bytes long",
    "é" * 51: "is 102 bytes long",
}


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_a_name_that_is_no_files_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(ValueError, match=rf"name = .* {REFUSED[name]}.*; use letters, digits, spaces inside") as caught:
        check_file_name("name", name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


GOOD = ["T-REX", "S'MoRE (noisy top-k)", "gR, k = 1", "p=1.5", "混合专家", "Ünïcode", "console", "n" * LONGEST]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_that_people_give_is_taken(name: str) -> None:
    check_file_name("name", name)


@pytest.mark.parametrize("name", [3, None, Path("a"), b"a"])
def test_what_is_no_text_is_no_name(name: object) -> None:
    with pytest.raises(ValueError, match=f"is {type(name).__name__}, not text"):
        check_file_name("name", name)


@given(st.text(max_size=LONGEST * 2))
def test_a_name_that_is_taken_makes_one_visible_file_in_its_folder(name: str) -> None:
    try:
        check_file_name("name", name)
    except ValueError:
        return
    path = Path("folder") / name
    assert path.parent == Path("folder") and path.name == name and not name.startswith(".")
    assert re.fullmatch(r"[^\x00-\x1f/\\]+", name) and len(name.encode()) <= LONGEST


@given(st.text(), st.integers(10, LONGEST))
def test_the_label_of_a_suite_is_a_part_of_a_name_whatever_the_suite_is_called(source: str, longest: int) -> None:
    label = label_of(source, longest)
    assert "/" not in label and (label.isprintable() or not label) and len(label.encode()) <= longest


def test_the_label_of_a_suite_is_its_own_name_where_that_is_one() -> None:
    assert [label_of(source) for source in ("embedded", "/data/my suite/", "hub:someone/quiz:easy", "line\nbreak")] == [
        "embedded",
        "my suite",
        "quiz-easy",
        "line-break",
    ]
    assert label_of("/data/" + "é" * 120) == "é" * (LONGEST // 2)
