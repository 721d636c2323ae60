"""Accuracy by exact likelihood: the most likely choice, or greedy exact match where there are no choices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """Accuracy and loss of every data set of `frame`.

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
    ranked = lines["log_likelihood"].fillna(-np.inf).groupby(lines["row"])
    best = lines.loc[ranked.idxmax()].set_index("row")
    gold = lines[lines["gold"]].set_index("row")
    free = frame["choices"].isna().to_numpy()
    rows = pd.DataFrame({
        "dataset": frame["dataset"].to_numpy(),
        "group": frame["group"].to_numpy(),
        "kind": np.where(free, "exact match", "choices"),
        "correct": np.where(free, gold["exact"].to_numpy(), best["right"].to_numpy()).astype(float),
        "log_likelihood": gold["log_likelihood"].to_numpy(),
        "tokens": gold["tokens"].to_numpy(),
    })  # fmt: skip
    table = rows.groupby(["dataset", "group", "kind"], sort=False, as_index=False).agg(
        rows=("correct", "size"), accuracy=("correct", "mean"),
        log_likelihood=("log_likelihood", lambda values: values.sum(skipna=False)), tokens=("tokens", "sum"),
    )  # fmt: skip
    table["loss"] = -table["log_likelihood"] / table["tokens"]
    return table[["dataset", "group", "kind", "rows", "loss", "accuracy"]]
