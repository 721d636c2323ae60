"""Accuracy by exact likelihood: the most likely choice, or greedy exact match if there are no choices.

One forward pass computes a prompt once and gives the likelihood of every answer to it.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..tasks.batches import Question, encode_questions, end_of
from ..tasks.packing import Row, layout, packed_batch, plain_batch, reads_of
from ..tasks.prompts import form_named
from .answers import MOST, REFUSALS, answer_head, evaluating, gathers, scores_at

TOKENS_ON_CPU, TOKENS_PER_BATCH = 4096, 16_384  # a processor's caches hold no more; other devices need more
READ_ON_CPU = 512  # of rows read at a few places: less padding, and scores over a vocabulary that stay in cache
MASK_TYPES = {"sdpa": torch.bool, "eager": None}  # attention that accepts our mask; None: additive, as the model's
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size", "local_attention", "max_position_embeddings")
PROBED = 24, 8  # tokens of the two answers of a made-up question


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
        intuition: (rows, clusters) for models that route by it.
        max_length: tokens of a prompt and one answer; a longer prompt loses its beginning.
        prompt_form: how a row is asked, a name in `tasks.prompts.PROMPT_FORMS`.

    Returns:
        Columns dataset, group, kind ("choices" or "exact match"), rows, loss (nats per answer token of the gold
        answer, end token included), accuracy, acc and acc_norm. The last two are lm-evaluation-harness's names: the
        share of rows whose best choice is right by summed likelihood and by likelihood per character of the choice,
        NaN for exact match. accuracy is acc, or that of greedy decoding if there are no choices. In the form
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
    form = form_named(prompt_form)
    questions, lines = encode_questions(frame, tokenizer, max_length, prompt_form), answers_of(frame)
    ended = [[form.ranks_with_end] * len(question.answers) for question in questions]
    with evaluating(model):
        found = score(model, questions, None, tokenizer.pad_token_id, end_of(tokenizer), ended)
    values = found["with_end" if form.ranks_with_end else "log_likelihood"]
    best = values.groupby(found["row"]).transform("max") == values
    return pd.DataFrame(
        {
            "row": found["row"],
            "prompt": frame["prompt"].to_numpy()[found["row"]],
            "choice": [choice for choices in frame["choices"] for choice in choices],
            "log_likelihood": values,
            "per_character": values / lines["characters"].clip(lower=1),
            "right": lines["right"],
            "best": best,
        }
    )


def best_is_right(lines: pd.DataFrame, values: pd.Series) -> np.ndarray:
    """(rows,) Whether the candidate with the largest value, the first of equals, has the answer's text."""
    best = values.fillna(-np.inf).groupby(lines["row"]).idxmax()
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


@dataclass(frozen=True)
class Way:
    """How questions are put before a model.

    Attributes:
        packed: One row per question, else one per answer.
        gathered: Scores at the places that are read alone, else at all of them.
        mask_dtype: Type of the mask of packed rows.
    """

    packed: bool
    gathered: bool
    mask_dtype: torch.dtype = torch.bool


def length_batches(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Positions in batches of similar length, longest first, at most `tokens` with padding in each."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // int(lengths[order[start]]))
        yield order[start : start + size]
        start += size


def batches_of(lengths: Sequence[int], device: torch.device, on_cpu: int = TOKENS_ON_CPU) -> Iterator[np.ndarray]:
    """`length_batches` of as many tokens as suit the device."""
    return length_batches(np.array(lengths, dtype=int), on_cpu if device.type == "cpu" else TOKENS_PER_BATCH)


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
    for chosen in batches_of([len(row) for row in rows], device, READ_ON_CPU):
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


def read(
    model: nn.Module, rows: Sequence[Row], intuition: np.ndarray | None, pad: int, way: Way
) -> tuple[np.ndarray, np.ndarray]:
    """(log-likelihood, whether it is the most likely token) of every target of some rows, row by row."""
    device = next(model.parameters()).device
    batch = packed_batch(rows, pad, way.mask_dtype) if way.packed else plain_batch(rows, pad)
    if intuition is not None:
        batch["intuition"] = torch.as_tensor(intuition[[row.question for row in rows]], dtype=torch.float32)
    row, place = (index.to(device) for index in reads_of(rows))
    logits = scores(model, {name: value.to(device) for name, value in batch.items()}, row, place, way.gathered)
    before = np.cumsum([0, *(len(row.reads) for row in rows)])
    pairs = [(start + target[1], target[2]) for start, row in zip(before, rows) for target in row.targets]
    reads, tokens = torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 2).unbind(-1)
    normalizer, best = logits.logsumexp(-1), logits.argmax(-1)  # (reads,)
    values = logits[reads, tokens].double() - normalizer[reads].double()
    return values.cpu().numpy(), (best[reads] == tokens).cpu().numpy()


def scores(model: nn.Module, batch: dict[str, Tensor], row: Tensor, place: Tensor, gathered: bool) -> Tensor:
    """(reads, vocabulary) float32 at some places of a batch."""
    head = answer_head(model) if gathered else None
    with scores_at(head, row, place):
        logits = model(**batch, use_cache=False).logits
    return (logits[row, place] if head is None else logits[0]).float()


def way_for(model: nn.Module, questions: Sequence[Question], intuition: np.ndarray | None, pad: int) -> Way:
    """The fastest way to put some questions before a model that gives the numbers of plain rows.

    A packed row needs attention that takes our mask, positions that we can set, and no other way from one
    token to another, such as the state of a recurrent layer or a window. What a model's configuration does not show is
    tried: one prompt with two made-up answers is read both ways.
    """
    if not questions:
        return Way(packed=False, gathered=False)
    asked = probe(model, questions)
    first = None if intuition is None else intuition[:1]
    way = Way(packed=False, gathered=gathers(model, plain_probe(asked, first, pad, next(model.parameters()).device)))
    mask_dtype = mask_type(model, max(packed_length(one) for one in questions))
    if mask_dtype is None or all(len(one.answers) == 1 for one in questions):
        return way
    packed = replace(way, packed=True, mask_dtype=mask_dtype)
    return packed if packs(model, asked, first, pad, packed) else way


def packed_length(question: Question) -> int:
    """Tokens of a packed row, every end token among them."""
    return len(question.prompt) + sum(len(answer) + 1 for answer in question.answers)


def probe(model: Any, questions: Sequence[Question]) -> Question:
    """The shortest of some prompts, and two answers made up of tokens that the model knows."""
    first, second = PROBED
    ids = np.random.default_rng(0).integers(0, model.get_input_embeddings().weight.shape[0], first + second).tolist()
    return Question(min((one.prompt for one in questions), key=len), [ids[:first], ids[first:]])


def plain_probe(asked: Question, intuition: np.ndarray | None, pad: int, device: torch.device) -> dict[str, Tensor]:
    """A batch of one plain row, the prompt and the shorter answer."""
    batch = plain_batch(layout([asked], [], [[True, True]], packed=False)[1:], pad)
    if intuition is not None:
        batch["intuition"] = torch.as_tensor(intuition, dtype=torch.float32)
    return {name: value.to(device) for name, value in batch.items()}


def mask_type(model: Any, length: int) -> torch.dtype | None:
    """The type of mask with which packed rows of some tokens may be tried; None if a model cannot take them."""
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not hasattr(base, "config") or getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return None
    config = base.config.get_text_config()
    limits = [value for name in WINDOWS if isinstance(value := getattr(config, name, None), int)]
    attention = getattr(config, "_attn_implementation", None)
    if (
        attention not in MASK_TYPES
        or config.is_encoder_decoder
        or getattr(base, "_is_stateful", False)
        or getattr(config, "alibi", False)
        or "position_ids" not in inspect.signature(base.forward).parameters
        or any(length > limit for limit in limits)
    ):
        return None
    return MASK_TYPES[attention] or base.dtype


def packs(model: nn.Module, asked: Question, intuition: np.ndarray | None, pad: int, way: Way) -> bool:
    """Whether packed rows give the likelihoods of plain ones.

    Two wrong layouts are the measure: in one, positions do not start again at the second answer; in the other, it sees
    the first one. The right layout must change what the second answer's tokens get, against plain rows, by no more than
    a small share of what either does.
    """
    plain = layout([asked], [], [[True, True]], packed=False)
    right = layout([asked], [], [[True, True]], packed=True)[0]
    running = replace(right, positions=list(range(len(right))))
    open_ = replace(right, segments=[min(segment, 1) for segment in right.segments])
    try:
        with evaluating(model):
            expected = read(model, plain, intuition, pad, replace(way, packed=False))[0]
            found = read(model, [right, running, open_], intuition, pad, way)[0].reshape(3, -1)
    except REFUSALS:
        return False
    behind = len(asked.answers[0]) + 1  # the second answer's first token is predicted from the prompt only
    off, *wrong = np.abs(found - expected)[:, behind:].mean(1)
    return bool(off <= MOST * min(wrong))
