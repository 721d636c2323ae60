"""Accuracy by exact likelihood: the most likely choice, or greedy exact match where there are no choices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..tasks.batches import Example, Question, collate, encode_questions, end_of
from ..tasks.prompts import form_named

TOKENS_ON_CPU, TOKENS_PER_BATCH = 4096, 16_384  # a processor's caches hold no more; other devices want more


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
def score(
    model: nn.Module, questions: Sequence[Question], intuition: np.ndarray | None, pad: int, end: list[int]
) -> pd.DataFrame:
    """One line per answer of every question, in order: row, log_likelihood, with_end, tokens, exact.

    log_likelihood is that of the answer's text after the prompt and with_end that of the text and the end token, in
    nats; tokens counts the end token. Greedy decoding reproduces an answer exactly when every one of its tokens, the
    end included, is the most likely one after the prompt and the answer's own beginning, so one forward pass decides
    it and nothing is generated.
    """
    device = next(model.parameters()).device
    examples = [
        Example(question.prompt + answer + end, len(question.prompt))
        for question in questions
        for answer in question.answers
    ]
    owners = np.repeat(np.arange(len(questions)), [len(question.answers) for question in questions])
    results = np.zeros((len(examples), 4))
    for rows in batches_of(examples, device):
        chosen = None if intuition is None else intuition[owners[rows]]
        batch = {key: value.to(device) for key, value in collate([examples[i] for i in rows], pad, chosen).items()}
        labels = batch.pop("labels")[:, 1:]
        kept = labels != -100  # (batch, sequence - 1)
        logits = model(**batch).logits[:, :-1][kept].float()  # (answer tokens, vocabulary)
        target, owner = labels[kept], kept.nonzero()[:, 0]
        values = logits.log_softmax(-1).gather(-1, target[:, None])[:, 0].double()
        wrong = (logits.argmax(-1) != target).double()
        last = torch.cat([owner[1:] != owner[:-1], owner.new_ones(1, dtype=torch.bool)]) & bool(end)
        sums = torch.zeros(len(rows), 4, dtype=torch.double, device=device)
        sums.index_add_(0, owner, torch.stack([values * ~last, values, torch.ones_like(values), wrong], dim=-1))
        results[rows] = sums.cpu().numpy()
    frame = pd.DataFrame(results, columns=["log_likelihood", "with_end", "tokens", "wrong"])
    return frame.assign(row=owners, tokens=frame["tokens"].astype(int), exact=frame.pop("wrong") == 0)


def answers_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One line per choice of a row, or its answer alone: gold, right, characters.

    gold marks the labeled choice, right every choice with the answer's text: published data repeats some.
    """
    lines = []
    for choices, answer, label in zip(frame["choices"], frame["answer"], frame["label"]):
        options = [answer] if choices is None else choices
        gold = 0 if choices is None else int(label)
        lines += [(index == gold, option == answer, len(option)) for index, option in enumerate(options)]
    return pd.DataFrame(lines, columns=["gold", "right", "characters"])


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    frame: pd.DataFrame,
    intuition: np.ndarray | None = None,
    max_length: int = 256,
    prompt_form: str = "options",
) -> pd.DataFrame:
    """Accuracy and loss of every data set of `frame`; `evaluate_rows` has them row by row.

    Choices are ranked by likelihood. A model that has diverged gives none: its rows count as wrong, and its losses are
    not numbers.

    Args:
        model: a causal language model, adapted or not; it is left in the mode it was in.
        tokenizer: the model's own.
        frame: rows of a suite.
        intuition: (rows, clusters) for models that route by it.
        max_length: tokens of a prompt and one answer; a longer prompt loses its beginning.
        prompt_form: how a row is asked, a name in `tasks.prompts.PROMPT_FORMS`.

    Returns:
        Columns dataset, group, kind ("choices" or "exact match"), rows, loss (nats per answer token of the gold
        answer, end token included), accuracy, acc and acc_norm. The last two are lm-evaluation-harness's names: the
        share of rows whose best choice is right by summed likelihood and by likelihood per character of the choice,
        NaN for exact match. accuracy is acc, or that of greedy decoding where there are no choices. In the form
        "options" the end token's likelihood is part of the sums, as it was from the start; in the others it is not.

    Raises:
        ValueError: for an unknown form, and for an answer longer than max_length.

    Example:
        >>> evaluate(base, tokenizer, test)[["dataset", "kind", "rows"]]
                          dataset         kind  rows
        0               add_small  exact match     3
        1      add_small_one_over  exact match     3
        2                where_is  exact match     3
        3  where_is_one_step_late  exact match     3
    """
    return by_dataset(evaluate_rows(model, tokenizer, frame, intuition, max_length, prompt_form))


def evaluate_rows(
    model: nn.Module,
    tokenizer: Any,
    frame: pd.DataFrame,
    intuition: np.ndarray | None = None,
    max_length: int = 256,
    prompt_form: str = "options",
) -> pd.DataFrame:
    """How each row of `frame` was answered, in its order; arguments and rules as for `evaluate`.

    Returns columns dataset, group, kind, row (a number that follows from the row's texts), correct, correct_norm,
    log_likelihood and tokens (of the gold answer). correct_norm ranks the choices by their log-likelihood per character
    instead of its sum, so that long choices are not at a loss; free answers have one rule only.
    """
    questions = encode_questions(frame, tokenizer, max_length, prompt_form)
    training = model.training
    model.eval()
    try:
        lines = score(model, questions, intuition, tokenizer.pad_token_id, end_of(tokenizer))
    finally:
        model.train(training)
    lines = pd.concat([lines, answers_of(frame)], axis=1)
    known = lines["with_end"].notna()
    lines["right"], lines["exact"] = lines["right"] & known, lines["exact"] & known
    ranked = lines["with_end" if form_named(prompt_form).ranks_with_end else "log_likelihood"]
    gold = lines[lines["gold"]].set_index("row")
    free = frame["choices"].isna().to_numpy()
    return pd.DataFrame(
        {
            "dataset": frame["dataset"].to_numpy(),
            "group": frame["group"].to_numpy(),
            "kind": np.where(free, "exact match", "choices"),
            "row": row_numbers(frame),
            "correct": np.where(free, gold["exact"], best_is_right(lines, ranked)),
            "correct_norm": np.where(
                free, gold["exact"], best_is_right(lines, ranked / lines["characters"].clip(lower=1))
            ),
            "log_likelihood": gold["with_end"].to_numpy(),
            "tokens": gold["tokens"].to_numpy(),
        }
    )


def best_is_right(lines: pd.DataFrame, values: pd.Series) -> np.ndarray:
    """(rows,) Whether the candidate with the largest value, the first of equals, has the answer's text."""
    best = values.fillna(-np.inf).groupby(lines["row"]).idxmax()
    return lines.loc[best, "right"].to_numpy()


def row_numbers(frame: pd.DataFrame) -> np.ndarray:
    """(rows,) int64 hashes of what a row asks: equal numbers mean the same question in any suite, run and machine."""
    texts = (
        repr((row.dataset, row.prompt, None if row.choices is None else list(row.choices), row.answer)).encode()
        for row in frame[["dataset", "prompt", "choices", "answer"]].itertuples()
    )
    return np.array(
        [int.from_bytes(hashlib.sha256(text).digest()[:8], "little", signed=True) for text in texts], dtype=np.int64
    )


def by_dataset(rows: pd.DataFrame) -> pd.DataFrame:
    """The table of `evaluate` out of the rows of `evaluate_rows`."""
    ranked = rows["kind"].eq("choices")
    rows = rows.assign(
        accuracy=rows["correct"].astype(float),
        acc=rows["correct"].astype(float).where(ranked),
        acc_norm=rows["correct_norm"].astype(float).where(ranked),
    )
    table = rows.groupby(["dataset", "group", "kind"], sort=False, as_index=False).agg(
        rows=("accuracy", "size"),
        accuracy=("accuracy", "mean"),
        acc=("acc", "mean"),
        acc_norm=("acc_norm", "mean"),
        log_likelihood=("log_likelihood", lambda values: values.sum(skipna=False)),
        tokens=("tokens", "sum"),
    )
    table["loss"] = -table["log_likelihood"] / table["tokens"]
    return table[["dataset", "group", "kind", "rows", "loss", "accuracy", "acc", "acc_norm"]]


def outcomes_frame(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of `evaluate_rows` of several suites in one frame, with the suite in front and 1 or 0 for right or wrong."""
    frame = pd.concat([part.assign(suite=suite) for suite, part in rows.items()], ignore_index=True)
    return frame[["suite", *frame.columns.drop("suite")]].astype({"correct": "uint8", "correct_norm": "uint8"})
