"""Accuracy by exact likelihood: the most likely choice, or greedy exact match where there are no choices."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from ..tasks.batches import encode_questions, end_of
from ..tasks.prompts import form_named
from .answers import evaluating
from .likelihoods import score


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

    Choices are ranked by likelihood. A prompt is computed once for all its choices where the model's attention allows
    it (`likelihoods.way_for` tries), and once for each elsewhere: the same numbers to rounding. A model that has
    diverged gives none: its rows count as wrong, and its losses are not numbers.

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
    with_end = form_named(prompt_form).ranks_with_end
    questions, lines = encode_questions(frame, tokenizer, max_length, prompt_form), answers_of(frame)
    needed = iter(lines["gold"] | with_end)  # the loss is that of the gold answer with its end token
    ended = [[next(needed) for _ in question.answers] for question in questions]
    with evaluating(model):
        found = score(model, questions, intuition, tokenizer.pad_token_id, end_of(tokenizer), ended)
    lines = pd.concat([found, lines], axis=1)
    known = lines["log_likelihood"].notna() & (lines["with_end"].notna() | ~(lines["gold"] | with_end))
    lines["right"], lines["exact"] = lines["right"] & known, lines["exact"] & known
    ranked = lines["with_end" if with_end else "log_likelihood"]
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
