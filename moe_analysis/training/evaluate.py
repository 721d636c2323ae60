"""Accuracy by exact likelihood: the most likely choice, or greedy exact match where there are no choices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..tasks.batches import Example, collate, encode

TOKENS_ON_CPU, TOKENS_PER_BATCH = 4096, 16_384  # a processor's caches hold no more; other devices want more


def candidates(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a text to score: every choice of a row, or its answer alone; columns row, candidate, gold, right.

    gold marks the labelled choice, right every choice with the answer's text: published data repeats some.
    """
    lines = []
    for row, (choices, answer, label) in enumerate(zip(frame["choices"], frame["answer"], frame["label"])):
        options = [answer] if choices is None else choices
        gold = 0 if choices is None else int(label)
        lines += [(row, option, index == gold, option == answer) for index, option in enumerate(options)]
    return pd.DataFrame(lines, columns=["row", "candidate", "gold", "right"])


def batches_of(examples: Sequence[Example], device: torch.device) -> Iterator[np.ndarray]:
    """`length_batches` of as many tokens as suit the device."""
    lengths = np.array([len(example.input_ids) for example in examples])
    return length_batches(lengths, TOKENS_ON_CPU if device.type == "cpu" else TOKENS_PER_BATCH)


def length_batches(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Positions in batches of similar length, longest first, at most `tokens` with padding in each."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


@torch.no_grad()
def score(model: nn.Module, examples: list[Example], intuition: np.ndarray | None, pad: int) -> pd.DataFrame:
    """Of each example's answer, its end token included: log_likelihood, tokens, and whether greedy decoding gives it.

    Greedy decoding reproduces an answer exactly when every one of its tokens is the most likely one after the
    prompt and the answer's own beginning, so one forward pass decides it and nothing is generated.
    """
    device = next(model.parameters()).device
    results = np.zeros((len(examples), 3))
    for rows in batches_of(examples, device):
        chosen = None if intuition is None else intuition[rows]
        batch = {key: value.to(device) for key, value in collate([examples[i] for i in rows], pad, chosen).items()}
        labels = batch.pop("labels")[:, 1:]
        kept = labels != -100  # (batch, sequence - 1)
        logits = model(**batch).logits[:, :-1][kept].float()  # (answer tokens, vocabulary)
        target, owner = labels[kept], kept.nonzero()[:, 0]
        values = logits.log_softmax(-1).gather(-1, target[:, None])[:, 0].double()
        wrong = (logits.argmax(-1) != target).double()
        sums = torch.zeros(len(rows), 3, dtype=torch.double, device=device)
        sums.index_add_(0, owner, torch.stack([values, torch.ones_like(values), wrong], dim=-1))
        results[rows] = sums.cpu().numpy()
    frame = pd.DataFrame(results, columns=["log_likelihood", "tokens", "wrong"])
    return frame.assign(tokens=frame["tokens"].astype(int), exact=frame.pop("wrong") == 0)


def evaluate(
    model: nn.Module, tokenizer: Any, frame: pd.DataFrame, intuition: np.ndarray | None = None, max_length: int = 256
) -> pd.DataFrame:
    """Accuracy and loss of every data set of `frame`; `evaluate_rows` has them row by row.

    intuition: (rows, clusters) for models that route by it. Returns columns dataset, group, kind ("choices" or
    "exact match"), rows, loss (nats an answer token of the gold answer) and accuracy in [0, 1].
    Choices are ranked by the summed log-likelihood of their text and the end token. A model that has diverged gives no
    likelihoods: its rows count as wrong, and its losses are not numbers.

    >>> evaluate(base, tokenizer, test)[["dataset", "kind", "rows"]]
                      dataset         kind  rows
    0               add_small  exact match     3
    1      add_small_one_over  exact match     3
    2                where_is  exact match     3
    3  where_is_one_step_late  exact match     3
    """
    return by_dataset(evaluate_rows(model, tokenizer, frame, intuition, max_length))


def evaluate_rows(
    model: nn.Module, tokenizer: Any, frame: pd.DataFrame, intuition: np.ndarray | None = None, max_length: int = 256
) -> pd.DataFrame:
    """How each row of `frame` was answered, in its order; arguments and rules as for `evaluate`.

    Returns columns dataset, group, kind, row (a number that follows from the row's texts), correct, correct_norm,
    log_likelihood and tokens (of the gold answer). correct_norm ranks the choices by their log-likelihood a character
    instead of its sum, so that long choices are not at a loss; free answers have one rule only.
    """
    lines = candidates(frame)
    asked = frame.iloc[lines["row"]].assign(answer=lines["candidate"].to_numpy())
    examples = encode(asked, tokenizer, max_length)
    training = model.training
    model.eval()
    try:
        scores = score(model, examples, None if intuition is None else intuition[lines["row"]], tokenizer.pad_token_id)
    finally:
        model.train(training)
    lines = pd.concat([lines, scores], axis=1)
    lines["right"] &= lines["log_likelihood"].notna()
    lines["exact"] &= lines["log_likelihood"].notna()
    gold = lines[lines["gold"]].set_index("row")
    free = frame["choices"].isna().to_numpy()
    length = lines["candidate"].str.len().clip(lower=1)
    return pd.DataFrame({
        "dataset": frame["dataset"].to_numpy(),
        "group": frame["group"].to_numpy(),
        "kind": np.where(free, "exact match", "choices"),
        "row": row_numbers(frame),
        "correct": np.where(free, gold["exact"], best_is_right(lines, lines["log_likelihood"])),
        "correct_norm": np.where(free, gold["exact"], best_is_right(lines, lines["log_likelihood"] / length)),
        "log_likelihood": gold["log_likelihood"].to_numpy(),
        "tokens": gold["tokens"].to_numpy(),
    })  # fmt: skip


def best_is_right(lines: pd.DataFrame, values: pd.Series) -> np.ndarray:
    """(rows,) Whether the candidate with the largest value, the first of equals, has the answer's text."""
    best = values.fillna(-np.inf).groupby(lines["row"]).idxmax()
    return lines.loc[best, "right"].to_numpy()


def row_numbers(frame: pd.DataFrame) -> np.ndarray:
    """(rows,) int64 hashes of what a row asks: equal numbers mean the same question in any suite, run and machine."""
    texts = (repr((row.dataset, row.prompt, None if row.choices is None else list(row.choices), row.answer)).encode()
             for row in frame[["dataset", "prompt", "choices", "answer"]].itertuples())  # fmt: skip
    return np.array([int.from_bytes(hashlib.sha256(text).digest()[:8], "little", signed=True) for text in texts],
                    dtype=np.int64)  # fmt: skip


def by_dataset(rows: pd.DataFrame) -> pd.DataFrame:
    """The table of `evaluate` out of the rows of `evaluate_rows`."""
    table = rows.groupby(["dataset", "group", "kind"], sort=False, as_index=False).agg(
        rows=("correct", "size"), accuracy=("correct", "mean"),
        log_likelihood=("log_likelihood", lambda values: values.sum(skipna=False)), tokens=("tokens", "sum"),
    )  # fmt: skip
    table["loss"] = -table["log_likelihood"] / table["tokens"]
    return table[["dataset", "group", "kind", "rows", "loss", "accuracy"]]


def outcomes_frame(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of `evaluate_rows` of several suites in one frame, with the suite in front and 1 or 0 for right or wrong."""
    frame = pd.concat([part.assign(suite=suite) for suite, part in rows.items()], ignore_index=True)
    return frame[["suite", *frame.columns.drop("suite")]].astype({"correct": "uint8", "correct_norm": "uint8"})
