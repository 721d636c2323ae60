"""Accuracy by exact likelihood: the most likely choice, or greedy exact match if there are no choices.

One forward pass computes a prompt once and gives the likelihood of every answer to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ..model_limits import check_causal, check_reads
from ..tasks.batches import Question, encode_questions, end_of, extent, padding_of, scores_by_row
from ..tasks.packing import layout
from ..tasks.prompts import form_named
from ..tasks.rows import check_frame
from .answers import Way, evaluating, read, way_for

TOKENS_ON_CPU, TOKENS_PER_BATCH = 4096, 16_384  # a processor's caches hold no more; other devices need more
READ_ON_CPU = 512  # of rows read at a few places: less padding, and scores over a vocabulary that stay in cache


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

    Choices are ranked by likelihood. A prompt is computed once for all its choices if the model's attention allows it
    (`way_for` tries), otherwise once for each; the numbers agree up to rounding. If a model has diverged, its rows count
    as wrong, and its losses are NaN.

    Args:
        model: a causal language model, adapted or not; its mode (training or evaluation) is not changed.
        tokenizer: the model's own.
        frame: rows of a suite.
        intuition: (rows, clusters) for models that route by it, one line per row of `frame`.
        max_length: tokens of a prompt and one answer; a longer prompt loses its beginning.
        prompt_form: how a row is asked, a name in `tasks.prompts.PROMPT_FORMS`.

    Returns:
        Columns dataset, group, kind ("choices" or "exact match"), rows, loss (nats per answer token of the gold
        answer, end token included), accuracy, acc and acc_norm. The last two are lm-evaluation-harness's names: the
        share of rows whose best choice is right by summed likelihood and by likelihood per character of the choice,
        NaN for exact match. accuracy is acc, or that of greedy decoding if there are no choices. In the form
        "options" the end token's likelihood is part of the sums, as it was from the start; in the others it is not.

    Raises:
        ValueError: for an unknown form, rows that cannot be asked (no text, a label that is not the answer's), an answer
            longer than max_length, an intuition of other rows, a model that is not a causal one, and rows with more
            tokens than it has places for, or with tokens that it does not know.

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
    lines = answer_lines(model, tokenizer, frame, intuition, max_length, prompt_form)
    known = lines["log_likelihood"].notna() & (lines["with_end"].notna() | ~lines["ended"])
    lines["right"], lines["exact"] = lines["right"] & known, lines["exact"] & known
    gold = lines[lines["gold"]].set_index("row")
    free = frame["choices"].isna().to_numpy()
    return pd.DataFrame(
        {
            "dataset": frame["dataset"].to_numpy(),
            "group": frame["group"].to_numpy(),
            "kind": np.where(free, "exact match", "choices"),
            "row": row_numbers(frame),
            "correct": np.where(free, gold["exact"], best_is_right(lines, "ranked")),
            "correct_norm": np.where(free, gold["exact"], best_is_right(lines, "per_character")),
            "log_likelihood": gold["with_end"].to_numpy(),
            "tokens": gold["tokens"].to_numpy(),
        }
    )


def choice_likelihoods(
    model: nn.Module, tokenizer: Any, frame: pd.DataFrame, max_length: int = 256, prompt_form: str = "options"
) -> pd.DataFrame:
    """The likelihood of every choice of some rows; arguments and errors as for `evaluate`.

    Returns:
        One row per choice: row (its place in `frame`), prompt, choice, log_likelihood (nats, summed over its tokens, with
        the end token in the form "options"), per_character (that by the characters of the choice), right (whether it is
        the answer) and best (whether it has the highest log_likelihood of its row).

    Raises:
        ValueError: for rows without choices, and as `evaluate`.

    Example:
        >>> found = choice_likelihoods(base, tokenizer, ma.load_suite("embedded", datasets=["review_mood"]).head(1))
        >>> found[["choice", "right"]].values.tolist(), int(found["best"].sum())
        ([['bad', False], ['mixed', True], ['good', False]], 1)
    """
    if frame["choices"].isna().any():
        raise ValueError("frame has rows without choices, which cannot be ranked; pass only rows with choices")
    lines = answer_lines(model, tokenizer, frame, None, max_length, prompt_form)
    return pd.DataFrame(
        {
            "row": lines["row"],
            "prompt": frame["prompt"].to_numpy()[lines["row"]],
            "choice": [choice for choices in frame["choices"] for choice in choices],
            "log_likelihood": lines["ranked"],
            "per_character": lines["per_character"],
            "right": lines["right"],
            "best": lines.groupby("row")["ranked"].transform("max") == lines["ranked"],
        }
    )


def answer_lines(
    model: nn.Module, tokenizer: Any, frame: pd.DataFrame, intuition: np.ndarray | None, max_length: int, form: str
) -> pd.DataFrame:
    """The columns of `answers_of` and of `score`; ended, whether the end token was scored; ranked and per_character, the
    likelihoods that the form ranks by."""
    with_end = form_named(form).ranks_with_end
    check_frame(frame)
    scores = scores_by_row(intuition, len(frame))
    questions, lines = encode_questions(frame, tokenizer, max_length, form), answers_of(frame)
    longest, highest = extent(questions, end_of(tokenizer))
    check_reads(model, longest - 1, highest, max_length)  # the last token is asked for, not read
    lines["ended"] = lines["gold"] | with_end  # the loss is that of the gold answer with its end token
    needed = iter(lines["ended"])
    ended = [[next(needed) for _ in question.answers] for question in questions]
    with evaluating(model):
        check_causal(model)
        found = score(model, questions, scores, padding_of(tokenizer), end_of(tokenizer), ended)
    ranked = found["with_end" if with_end else "log_likelihood"]
    per_character = ranked / lines["characters"].clip(lower=1)
    return pd.concat([found, lines], axis=1).assign(ranked=ranked, per_character=per_character)


def best_is_right(lines: pd.DataFrame, value: str) -> np.ndarray:
    """(rows,) Whether the candidate with the largest value, the first of equals, has the answer's text."""
    best = lines[value].fillna(-np.inf).groupby(lines["row"]).idxmax()
    return lines.loc[best, "right"].to_numpy()


def row_numbers(frame: pd.DataFrame) -> np.ndarray:
    """(rows,) int64 hashes of a row's question: equal numbers mean the same question in any suite, run and machine."""
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


def length_batches(lengths: Sequence[int], device: torch.device, on_cpu: int = TOKENS_ON_CPU) -> Iterator[np.ndarray]:
    """Positions in batches of similar length, longest first; a padded batch has no more tokens than suit the device."""
    tokens = on_cpu if device.type == "cpu" else TOKENS_PER_BATCH
    order = np.argsort(-np.array(lengths, dtype=int), kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // lengths[order[start]])
        yield order[start : start + size]
        start += size


@torch.no_grad()
def score(
    model: nn.Module,
    questions: Sequence[Question],
    intuition: np.ndarray | None,
    pad: int,
    end: list[int],
    ended: Sequence[Sequence[bool]] | None = None,
    way: Way | None = None,
) -> pd.DataFrame:
    """The likelihood of every answer.

    Greedy decoding reproduces an answer exactly when every one of its tokens, the end included, is the most likely one
    after the prompt and the answer's own beginning, so one forward pass decides it and nothing is generated.

    Args:
        model: A causal language model in evaluation mode.
        questions: Tokenized prompts and answers.
        intuition: (questions, clusters) for models that route by it.
        pad: The id that fills up a batch.
        end: The end token, or nothing if a tokenizer has none.
        ended: For every question and answer, whether its end token is scored; None: of all.
        way: None: the fastest that gives this model the right numbers.

    Returns:
        One line per answer of every question, in order: row, log_likelihood of the answer's text and with_end of the
        text and the end token, in nats, tokens (end token included), exact. Where the end token is not scored, with_end
        is not a number, and tokens and exact leave it out.
    """
    device = next(model.parameters()).device
    ended = [[True] * len(question.answers) for question in questions] if ended is None else ended
    way = way_for(model, questions, intuition, pad) if way is None else way
    rows = layout(questions, end, ended, way.packed)
    first = np.cumsum([0, *(len(question.answers) for question in questions)])  # of each question's answers
    sums = np.zeros((first[-1], 4))
    for chosen in length_batches([len(row) for row in rows], device, READ_ON_CPU):
        some = [rows[index] for index in chosen]
        targets = np.array([(first[row.question] + target[0], target[3]) for row in some for target in row.targets])
        values, right = read(model, some, intuition, pad, way)
        owner, is_end = targets.reshape(-1, 2).T
        np.add.at(sums, owner, np.stack([np.where(is_end, 0.0, values), values, np.ones_like(values), ~right], axis=-1))
    frame = pd.DataFrame(sums, columns=["log_likelihood", "with_end", "tokens", "wrong"])
    frame["row"] = np.repeat(np.arange(len(questions)), np.diff(first))
    known = np.array([one for ends in ended for one in ends], dtype=bool) | (not end)
    frame["with_end"] = frame["with_end"].where(known)
    return frame.assign(tokens=frame["tokens"].astype(int), exact=frame.pop("wrong") == 0)
