"""What a row of a suite must be: the columns, the checks, and the error messages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .look_alikes import apart, resembling

COLUMNS = ["dataset", "group", "split", "prompt", "choices", "answer", "label"]
TEXT_FIELDS = ["dataset", "group", "split", "prompt", "answer"]
SPLITS = ("train", "test")
LISTED_PER_FILE = 10
WHOLE = re.compile(r"(\d{1,9})(\.0+)?", re.ASCII)
_MISSING = object()


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one row: where it is, what it is, and what to do about it."""

    file: str
    place: str  # "line 3" of a text file, "row 3" of a table, "" for the whole file
    field: str
    text: str

    def __str__(self) -> str:
        return f"{' '.join(part for part in (self.file, self.place) if part)}: {self.text}"


class SuiteError(ValueError):
    """A suite that cannot be loaded. `problems` holds every problem found, also those not printed.

    >>> ma.load_suite("embedded", datasets=["chess"])
    Traceback (most recent call last):
        ...
    moe_analysis.tasks.rows.SuiteError: datasets = ['chess'] names ['chess'], which suite embedded does not ...
    """

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.problems = tuple(problems)
        # the name of a file need not be text, and what cannot be printed would hide the error behind another one
        super().__init__(message.encode("utf-8", "backslashreplace").decode())

    @classmethod
    def of(cls, source: str, problems: list[Problem]) -> SuiteError:
        """The error that lists at most ten problems of each file and counts the rest."""
        counts = Counter(problem.file for problem in problems)
        one = len(problems) == 1
        lines = [f"suite {source} has {len(problems)} problem{'' if one else 's'}:"]
        for file, count in counts.items():
            listed = [problem for problem in problems if problem.file == file][:LISTED_PER_FILE]
            lines += [f"  {problem}" for problem in listed]
            if count > len(listed):
                lines.append(f"  ... and {count - len(listed)} more in {file}")
        return cls("\n".join(lines), problems)


class SuiteWarning(UserWarning):
    """Rows that can be used but make measurements less reliable, or that a run cannot use.

    >>> issubclass(SuiteWarning, UserWarning)
    True
    """


def shorten(value: object, width: int = 60) -> str:
    """`repr(value)` cut to `width` characters."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"<{type(value).__name__} nested too deeply to show>"
    return text if len(text) <= width else text[: width - 3] + "..."


def _is_sound_text(value: object) -> bool:
    if not isinstance(value, str) or not value.strip():
        return False
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _text_problem(field: str, value: object, present: Iterable[str] = ()) -> str:
    if value is _MISSING or value is None:
        alike = next((f" (it has {ascii(name)})" for name in present if apart(field, name)), "")
        return f"{field} is missing{alike}; every row needs dataset, group, split, prompt and answer"
    if not isinstance(value, str):
        return f"{field} = {shorten(value)} is {type(value).__name__}, not text; write it as a string"
    if not value.strip():
        return f"{field} = {shorten(value)} is empty; fill it in or delete the row"
    return f"{field} = {shorten(value)} holds half a character (a lone surrogate); write the text as UTF-8"


def _choices_problem(choices: object) -> str | None:
    if not isinstance(choices, list):
        return f"choices = {shorten(choices)} is {type(choices).__name__}; give a list of strings, or null"
    for choice in choices:
        if not _is_sound_text(choice):
            return f"choices = {shorten(choices)} holds {shorten(choice)}; make every choice non-empty text"
    if not choices:
        return "choices = [] is empty; give at least 2, or null for a free answer"
    return None


def whole_label(label: object) -> object:
    """A label as a table's writer meant it: 2.0 and "2" are 2, and NaN is none; anything else stays what it is.

    A row's check compares the answer with the choice at the label, so that a text that was meant as another number
    than the position is refused.
    """
    if isinstance(label, float):
        return None if label != label else int(label) if label.is_integer() else label
    if isinstance(label, str) and (match := WHOLE.fullmatch(label)):
        return int(match[1])
    return label


def _label_problem(label: object, choices: list[str], answer: object) -> tuple[str, str] | None:
    last = len(choices) - 1
    remedy = f"give a whole number from 0 to {last}"
    if label is None:
        return "label", f"label is missing although there are choices; {remedy}, the position of the answer"
    if not isinstance(label, int) or isinstance(label, bool):
        return "label", f"label = {shorten(label)} is {type(label).__name__}; {remedy}"
    if not 0 <= label <= last:
        return "label", f"label = {shorten(label)} is outside the {len(choices)} choices; {remedy}"
    if isinstance(answer, str) and choices[label] != answer:
        return "answer", (
            f"answer = {shorten(answer)} is not choices[{label}] = {shorten(choices[label])}"
            f"{apart(answer, choices[label])}; make the answer and the label agree"
        )
    return None


def row_problems(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Every (field, description) that makes one row unusable; empty for a sound row."""
    found = []
    for field in TEXT_FIELDS:
        value = row.get(field, _MISSING)
        if not _is_sound_text(value):
            found.append((field, _text_problem(field, value, row)))
    split = row.get("split")
    if isinstance(split, str) and split.strip() and split not in SPLITS:
        alike = resembling([split], SPLITS)
        found.append(("split", f"split = {shorten(split)} is unknown{alike}; use 'train' or 'test'"))
    choices, label = row.get("choices"), row.get("label")
    if choices is None:
        if label is not None:
            text = f"label = {shorten(label)} needs choices; give choices, or set label to null"
            found.append(("label", text))
        return found
    problem = _choices_problem(choices)
    if problem is not None:
        found.append(("choices", problem))
    elif (label_problem := _label_problem(label, choices, row.get("answer"))) is not None:
        found.append(label_problem)
    return found


@dataclass
class Located:
    """A row and where it came from. home: what holds its whole data set, a file or a folder; "" is the file."""

    row: dict[str, Any]
    file: str
    place: str
    home: str = ""

    def problem(self, field: str, text: str) -> Problem:
        return Problem(self.file, self.place, field, text)


def dataset_problems(rows: list[Located]) -> Iterator[Problem]:
    """A dataset must live in one file, or in one folder of splits, and have one group: a copied file or a slip of the
    pen shows here."""
    first: dict[str, Located] = {}
    told: set[tuple[str, str]] = set()
    for here in rows:
        name, group = here.row["dataset"], here.row["group"]
        there = first.setdefault(name, here)
        if (there.home or there.file) != (here.home or here.file) and (name, here.file) not in told:
            told.add((name, here.file))
            remedy = "keep a data set in one file, or in one folder's train and test files, or rename one of the two"
            yield here.problem("dataset", f"dataset = {shorten(name)} is also in {there.file}; {remedy}")
        if there.row["group"] != group:
            began = f"{shorten(there.row['group'])} at {there.file} {there.place}"
            alike = apart(group, there.row["group"])
            text = f"group = {shorten(group)} but data set {shorten(name)} has {began}{alike}; give it one group"
            yield here.problem("group", text)


def flaws(rows: list[Located]) -> Iterator[Problem]:
    """Rows that load but blur a score: repeated choices, a lone choice, a row in two formats, a test prompt also trained
    on."""
    trained: dict[tuple[str, str], Located] = {}
    yield from in_two_formats(rows)
    for here in rows:
        choices = here.row.get("choices")
        if choices is not None and len(set(choices)) < len(choices):
            twice = next(choice for choice, count in Counter(choices).items() if count > 1)
            yield here.problem("choices", f"choices repeat {shorten(twice)}; make them distinct")
        if choices is not None and len(choices) == 1:
            text = f"choices = {shorten(choices)} leave nothing to choose; give at least 2"
            yield here.problem("choices", f"{text}, or null for a free answer")
        if here.row["split"] == "train":
            trained.setdefault((here.row["dataset"], here.row["prompt"]), here)
    for here in rows:
        key = (here.row["dataset"], here.row["prompt"])
        if here.row["split"] == "test" and key in trained:
            text = f"prompt = {shorten(key[1])} is also a train prompt ({trained[key].place})"
            yield here.problem("prompt", f"{text}; remove it from one of the splits")


def in_two_formats(rows: list[Located]) -> Iterator[Problem]:
    """Rows of train.parquet, say, that train.jsonl has too: one of the files is a copy of the other."""
    if len({format_of(here) for here in rows}) == 1:
        return
    first: dict[str, Located] = {}
    for here in rows:
        there = first.setdefault(repr([here.row.get(field) for field in COLUMNS]), here)
        if format_of(there) != format_of(here):
            yield here.problem("", f"the row is also in {there.file} ({there.place}); remove one of the two files")


def format_of(here: Located) -> str:
    return here.file.rpartition(".")[2]


def to_frame(rows: list[Located]) -> pd.DataFrame:
    """The contract's frame: the seven columns in order; text, lists or None, and a nullable integer label."""
    columns = {field: [here.row.get(field) for here in rows] for field in COLUMNS}
    frame = pd.DataFrame({field: pd.Series(columns[field], dtype="str") for field in TEXT_FIELDS})
    frame["choices"] = pd.Series(columns["choices"], dtype=object)
    frame["label"] = pd.Series(columns["label"], dtype="Int64")
    return frame[COLUMNS]


def check_frame(frame: pd.DataFrame) -> None:
    """Refuse rows of a user's own frame that cannot be asked; choices may be any sequence of texts.

    Raises:
        ValueError: For a frame without rows or without a column, and for a row whose prompt or answer is no text, whose
            choices are none, or whose label is not the answer's position among them.
    """
    asked = [field for field in COLUMNS if field != "split"]
    if lacking := [field for field in asked if field not in frame]:
        raise ValueError(f"frame has no column {', '.join(lacking)}; pass rows as load_suite gives them")
    if not len(frame):
        raise ValueError("frame has no rows; pass at least one")
    columns = (frame[field] for field in ("prompt", "choices", "answer", "label"))
    for place, (prompt, choices, answer, label) in enumerate(zip(*columns)):
        texts = (("prompt", prompt), ("answer", answer))
        text = next((_text_problem(field, value) for field, value in texts if not isinstance(value, str)), None)
        if choices is not None and text is None:
            options = list(choices) if isinstance(choices, tuple | np.ndarray) else choices
            text = _choices_problem(options) or (_label_problem(_whole(label), options, answer) or ("", None))[1]
        if text is not None:
            raise ValueError(f"frame, row {place}: {text}")


def _whole(label: Any) -> object:
    return None if label is pd.NA else int(label) if isinstance(label, np.integer) else whole_label(label)
