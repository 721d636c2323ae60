"""From a row of a suite to the text, the tokens and the batch that a causal language model reads."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from .prompts import PromptForm, form_named, render
from .rows import SuiteWarning

LEAST_PROMPT = 2  # tokens of a prompt that always stay


@dataclass
class Example:
    """One tokenized row. Tokens before `prompt_length` are read, those from there on are to be answered."""

    input_ids: list[int]
    prompt_length: int


@dataclass
class Question:
    """One tokenized row with all that it may be answered with: `prompt`, and `answers` without their end token."""

    prompt: list[int]
    answers: list[list[int]]


def answers_fit(frame: pd.DataFrame, tokenizer: Any, max_length: int, prompt_form: str = "options") -> np.ndarray:
    """(rows,) True where `encode` can keep the answer, and every choice there is, whole."""
    form = form_named(prompt_form)
    options = [form.answers(row) for row in rows_of(frame)]
    lengths = [len(ids) for ids in answer_ids([text for row in options for text in row], form, tokenizer)]
    rows = np.repeat(np.arange(len(options)), [len(row) for row in options])
    longest = np.zeros(len(options), dtype=int)
    np.maximum.at(longest, rows, lengths)
    return longest + 1 + LEAST_PROMPT <= max_length  # 1 for the end token


def warn_of_long_answers(left_out: pd.Series, max_length: int) -> None:
    """One SuiteWarning that counts the rows whose answers do not fit; `left_out` holds the data set of each."""
    if len(left_out):
        listed = ", ".join(f"{count} of {name}" for name, count in left_out.value_counts().items())
        warnings.warn(
            f"rows left out because max_length = {max_length} cannot hold their answers: {listed}",
            SuiteWarning,
            stacklevel=1,
        )


def encode(
    frame: pd.DataFrame, tokenizer: Any, max_length: int, cut_answers: bool = False, prompt_form: str = "options"
) -> list[Example]:
    """Tokenize prompt and answer of every row, the end token after the answer.

    A text longer than `max_length` tokens loses the beginning of its prompt (but not the first token, which may be the
    tokenizer's beginning token), so that question, options and answer stay.

    Raises:
        ValueError: When an answer alone does not fit, unless `cut_answers` lets it lose its end, and for an unknown
            form.
    """
    texts = [render(row, prompt_form) for row in rows_of(frame)]
    prompts = prompt_ids([prompt for prompt, _ in texts], tokenizer)
    answers = answer_ids([answer for _, answer in texts], form_named(prompt_form), tokenizer)
    end = end_of(tokenizer)
    examples = []
    for prompt, answer, name in zip(prompts, answers, frame["dataset"]):
        if cut_answers:
            answer = answer[: max_length - len(end) - LEAST_PROMPT]
        prompt = cut(prompt, len(answer), len(end), max_length, name)
        examples.append(Example(prompt + answer + end, len(prompt)))
    return examples


def encode_questions(
    frame: pd.DataFrame, tokenizer: Any, max_length: int, prompt_form: str = "options"
) -> list[Question]:
    """Tokenize the prompt of every row once, and every choice of it, or the answer if there are no choices.

    All choices of a row share its prompt, which is cut as in `encode` to leave the longest of them its room.

    Raises:
        ValueError: As `encode` does.
    """
    form, rows = form_named(prompt_form), rows_of(frame)
    prompts = prompt_ids([form.prompt(row) for row in rows], tokenizer)
    options = [form.answers(row) for row in rows]
    flat = iter(answer_ids([text for row in options for text in row], form, tokenizer))
    answers = [[next(flat) for _ in row] for row in options]
    end = len(end_of(tokenizer))
    return [
        Question(cut(prompt, max(map(len, choices)), end, max_length, name), choices)
        for prompt, choices, name in zip(prompts, answers, frame["dataset"])
    ]


def rows_of(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return frame[[name for name in ("prompt", "choices", "answer", "label") if name in frame]].to_dict("records")


def end_of(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def padding_of(tokenizer: Any) -> int:
    """The id that fills up a batch, whose tokens are ignored: the padding's or, without one, the end's, else 0."""
    return next((one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None), 0)


def prompt_ids(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Token ids with the tokenizer's beginning token and without what it puts after every text, an end token say."""
    if not texts:
        return []
    found = tokenizer(texts, verbose=False)["input_ids"]  # the caller cuts or refuses what is too long
    longest = max(range(len(texts)), key=lambda place: len(texts[place]))  # one of blanks has no token of its own
    behind = added_behind(texts[longest], found[longest], tokenizer)
    return [ids[: len(ids) - behind] for ids in found]


def added_behind(text: str, ids: list[int], tokenizer: Any) -> int:
    """How many of a text's tokens the tokenizer has put after it."""
    bare = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    for before in range(len(ids) - len(bare) + 1) if bare else ():
        if ids[before : before + len(bare)] == bare:
            return len(ids) - before - len(bare)
    return len(ids[-1:]) if ids[-1:] == end_of(tokenizer) else 0  # the text itself is read in another way


def answer_ids(texts: list[str], form: PromptForm, tokenizer: Any) -> list[list[int]]:
    """Token ids of answers as they follow the end of a prompt, without an end token.

    An answer is tokenized after the last mark of its prompt, which is then taken off: some tokenizers would put a
    space of their own before a text that stands alone.
    """
    if not texts:
        return []
    mark = tokenizer(form.tail, add_special_tokens=False)["input_ids"]
    behind = tokenizer([form.tail + text for text in texts], add_special_tokens=False)["input_ids"]
    if all(ids[: len(mark)] == mark for ids in behind):
        return [ids[len(mark) :] for ids in behind]
    return tokenizer(texts, add_special_tokens=False)["input_ids"]  # the mark melts into what follows


def cut(prompt: list[int], answer: int, end: int, max_length: int, dataset: str) -> list[int]:
    """The prompt without so much of its beginning that `answer` and `end` more tokens fit; its first token stays.

    Raises:
        ValueError: For an answer that leaves a prompt no room.
    """
    room = max_length - answer - end
    if room < LEAST_PROMPT:
        raise ValueError(f"max_length = {max_length} is too short for an answer of {answer} tokens in {dataset}")
    return prompt if len(prompt) <= room else prompt[:1] + prompt[len(prompt) - room + 1 :]


def extent(questions: list[Question], end: list[int]) -> tuple[int, int]:
    """(tokens of the longest row, highest token id) of questions with any of their answers and the end token."""
    longest = max((len(one.prompt) + max(map(len, one.answers)) for one in questions), default=0)
    parts = (ids for one in questions for ids in (one.prompt, *one.answers))
    return longest + len(end), max(max((max(ids) for ids in parts if ids), default=0), *end, 0)


def collate(examples: list[Example], pad: int, intuition: np.ndarray | None = None) -> dict[str, torch.Tensor]:
    """Pad on the right: input_ids, attention_mask, labels (batch, sequence), -100 where nothing is to be answered.

    intuition (batch, clusters) is passed on as float32 under its own name.
    """
    width = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), width), pad)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        ids[row, :length] = torch.tensor(example.input_ids)
        labels[row, example.prompt_length : length] = ids[row, example.prompt_length : length]
        mask[row, :length] = 1
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    if intuition is not None:
        batch["intuition"] = torch.as_tensor(intuition, dtype=torch.float32)
    return batch


def scores_by_row(intuition: Any, rows: int) -> np.ndarray | None:
    """(rows, clusters) float32 of a user's intuition: an array, a tensor, a table or lists; None stays None.

    Raises:
        ValueError: For another shape or number of rows, and for an entry that is not a finite number.
    """
    if intuition is None:
        return None
    values = intuition.detach().float().cpu() if isinstance(intuition, torch.Tensor) else intuition
    try:
        scores = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"intuition holds no numbers ({error}); pass an array of (rows, clusters)") from error
    if scores.ndim != 2 or len(scores) != rows:
        raise ValueError(
            f"intuition has shape {scores.shape}, but there are {rows} rows; pass one line of scores for each row, in "
            "their order: clusters.intuition(embed(frame['prompt']))"
        )
    if (bad := np.flatnonzero(~np.isfinite(scores).all(axis=1))).size:
        raise ValueError(
            f"intuition[{bad[0]}] holds NaN or infinity, as {len(bad)} of {rows} rows do; embed these prompts again"
        )
    return scores
