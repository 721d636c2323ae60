"""A data set of the Hugging Face hub (or of a local folder in its format) as rows of a suite."""

from __future__ import annotations

from string import ascii_uppercase
from typing import Any

from .look_alikes import resembling
from .rows import Located, Problem, SuiteError, shorten

NAMES = {
    "prompt": ("prompt", "question"),
    "answer": ("answer", "answerKey"),
    "choices": ("choices", "options"),
}
SPLIT_OF = {"train": "train", "test": "test"}
HELD_OUT = ("validation", "dev")


def read_hub(source: str) -> tuple[list[Located], list[Problem]]:
    """The rows behind "<repo>[:<config>]", and those whose answer may mean two of their choices.

    `prompt` may be called question, `choices` options; choices in the {"text", "label"} form, an answer that is an
    index into the choices and an answerKey are turned into the contract's answer and label. An answerKey is always one
    of the labels, even where a choice has its text; where the choices are a plain list without labels, the letter A is
    the first of them. The splits train and test are read; validation replaces a missing test. `dataset` defaults to the
    repository's own name, `group` to "hub".

    Raises:
        SuiteError: When it cannot be loaded or has no such columns.
    """
    repo, _, config = source.partition(":")
    splits = _load(repo, config or None)
    parts = {SPLIT_OF[name]: data for name, data in splits.items() if name in SPLIT_OF}
    for name in HELD_OUT:
        if "test" not in parts and name in splits:
            parts["test"] = splits[name]
    if not parts:
        raise SuiteError(f"hub:{source} has the splits {sorted(splits)}; train, test or validation is needed")
    default = {"dataset": "_".join(filter(None, (repo.rstrip("/").split("/")[-1], config))), "group": "hub"}
    rows, problems = [], []
    for split, data in parts.items():
        columns = _columns(data.column_names, source)
        for number, row in enumerate(data, start=1):
            here = Located({**default, "split": split}, f"hub:{source}", f"{split} row {number}")
            try:
                here.row |= _mapped(row, columns)
            except ValueError as error:
                problems.append(here.problem("answer", str(error)))
            else:
                rows.append(here)
    return rows, problems


def _load(repo: str, config: str | None) -> dict[str, Any]:
    import datasets

    try:
        return dict(datasets.load_dataset(repo, config))
    except Exception as error:  # the library raises its own, the hub's, the network's and the parser's errors
        raise SuiteError(
            f"hub:{repo}{':' + config if config else ''} could not be loaded ({type(error).__name__}: "
            f"{shorten(str(error), 160)}); check the name and the connection, or pass a folder of JSONL files"
        ) from error


def _columns(present: list[str], source: str) -> dict[str, str]:
    columns = {field: next((name for name in NAMES[field] if name in present), None) for field in NAMES}
    lacking = [field for field in ("prompt", "answer") if columns[field] is None]
    if lacking:
        alike = resembling(present, NAMES[lacking[0]])
        raise SuiteError(
            f"hub:{source} has the columns {present} and none of them is "
            f"{' or '.join(NAMES[lacking[0]])}{alike}; rename the column and save it as JSONL"
        )
    own = {field: field for field in ("dataset", "group", "label") if field in present}
    return own | {field: name for field, name in columns.items() if name is not None}


def _mapped(row: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """The fields of a row. Raises ValueError for an answer that may be the key of one choice and mean another one."""
    mapped = {field: row[name] for field, name in columns.items()}
    choices, answer, keys = mapped.get("choices"), mapped["answer"], None
    if isinstance(choices, dict):
        keys, choices = choices.get("label"), choices.get("text")
        mapped["choices"] = choices
    if not isinstance(choices, list):
        return mapped
    place = _place(answer, choices)
    if isinstance(keys, list) and len(keys) == len(choices) and str(answer) in (names := [str(key) for key in keys]):
        keyed = names.index(str(answer))
        if columns["answer"] != "answerKey" and place is not None and choices[place] != choices[keyed]:
            raise ValueError(
                f"answer = {shorten(answer)} is the key of choice {shorten(choices[keyed])}, but may also mean choice "
                f"{shorten(choices[place])}; call the column answerKey if it holds keys, or write the choices as a list"
            )
        mapped["label"], mapped["answer"] = keyed, choices[keyed]
    elif keys is None and columns["answer"] == "answerKey" and (places := _without_labels(answer, choices)):
        meant = [choices[one] for one in places] + ([answer] if place is not None else [])
        if any(one != meant[0] for one in meant):
            raise ValueError(
                f"answerKey = {shorten(answer)} may mean {' or '.join(map(shorten, meant))}, because the choices have no "
                'labels; write them as {"text": [...], "label": [...]}, or give the text of the right one as answer'
            )
        mapped["label"], mapped["answer"] = places[0], meant[0]
    elif isinstance(answer, int) and place is not None:
        mapped["label"], mapped["answer"] = place, choices[place]
    elif mapped.get("label") is None and place is not None and choices.count(answer) == 1:
        mapped["label"] = place
    return mapped


def _without_labels(key: Any, choices: list[Any]) -> list[int]:
    """The choices of a plain list that a key of text may mean: A is the first; numbers count from 0 or from 1."""
    if not isinstance(key, str) or len(key) > 9:
        return []
    if len(key) == 1 and key.upper() in ascii_uppercase:
        places = [ascii_uppercase.index(key.upper())]
    else:
        places = [int(key) - 1, int(key)] if key.isdecimal() else []
    return [place for place in places if 0 <= place < len(choices)]


def _place(answer: Any, choices: list[Any]) -> int | None:
    """Which choice an answer is without any keys: an index, or the first with its text."""
    if isinstance(answer, str):
        return choices.index(answer) if answer in choices else None
    is_index = isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices)
    return answer if is_index else None
