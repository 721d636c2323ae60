"""From a row of a suite to the text, the tokens and the batch that a causal language model reads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from .rows import SuiteWarning


def render(row: Mapping[Any, Any]) -> tuple[str, str]:
    """The text put before the model and the text it must answer with.

    In: one row of a suite (`prompt`, `choices`, `answer`). Out: `(prompt_text, answer_text)`; the tokenizer adds
    the beginning token before the first, the end token belongs after the second. The answer starts with its space,
    so that the two can be tokenised apart and joined.
    """
    choices = row["choices"]
    options = "" if choices is None else "\nOptions: " + ", ".join(choices)
    return f"{row['prompt']}{options}\nAnswer:", f" {row['answer']}"


PROMPT_ENDS = ("\nOptions: ", "\nAnswer:")  # what `render` puts behind a prompt, in this order
LEAST_PROMPT = 2  # tokens of a prompt that always stay


@dataclass
class Example:
    """One tokenised row. Tokens before `prompt_length` are read, those from there on are to be answered."""

    input_ids: list[int]
    prompt_length: int


def answers_fit(frame: pd.DataFrame, tokenizer: Any, max_length: int) -> np.ndarray:
    """(rows,) True where `encode` can keep the answer, and every choice there is, whole."""
    options = [[answer] if choices is None else choices for choices, answer in zip(frame["choices"], frame["answer"])]
    texts = [f" {option}" for row in options for option in row]
    lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    rows = np.repeat(np.arange(len(options)), [len(row) for row in options])
    longest = np.zeros(len(options), dtype=int)
    np.maximum.at(longest, rows, lengths)
    return longest + 1 + LEAST_PROMPT <= max_length  # 1 for the end token


def warn_of_long_answers(left_out: pd.Series, max_length: int) -> None:
    """One SuiteWarning that counts the rows whose answers do not fit; `left_out` holds the data set of each."""
    if len(left_out):
        listed = ", ".join(f"{count} of {name}" for name, count in left_out.value_counts().items())
        warnings.warn(f"rows left out because max_length = {max_length} cannot hold their answers: {listed}",
                      SuiteWarning, stacklevel=1)  # fmt: skip


def encode(frame: pd.DataFrame, tokenizer: Any, max_length: int, cut_answers: bool = False) -> list[Example]:
    """Tokenise prompt and answer of every row, the end token after the answer.

    A text longer than `max_length` tokens loses the beginning of its prompt (but not the first token, which may be
    the tokenizer's beginning token), so that question, options and answer stay. Raises ValueError when an answer
    alone does not fit, unless `cut_answers` lets it lose its end.
    """
    texts = [render(row) for row in frame[["prompt", "choices", "answer"]].to_dict("records")]
    prompts = tokenizer([prompt for prompt, _ in texts])["input_ids"]
    answers = tokenizer([answer for _, answer in texts], add_special_tokens=False)["input_ids"]
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    examples = []
    for position, (prompt, answer) in enumerate(zip(prompts, answers)):
        prompt = prompt[:-1] if end and prompt[-1:] == end else prompt  # some tokenizers close every text
        if cut_answers:
            answer = answer[: max_length - len(end) - LEAST_PROMPT]
        room = max_length - len(answer) - len(end)
        if room < LEAST_PROMPT:
            name = frame["dataset"].iloc[position]
            raise ValueError(f"max_length = {max_length} is too short for an answer of {len(answer)} tokens in {name}")
        if len(prompt) > room:
            prompt = prompt[:1] + prompt[len(prompt) - room + 1 :]
        examples.append(Example(prompt + answer + end, len(prompt)))
    return examples


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
