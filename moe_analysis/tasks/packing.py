"""Questions laid out for a causal language model: one row per prompt with all its answers, or one row per answer.

A packed row contains the prompt once. Every answer after it sees the prompt and itself, and its positions continue
from the prompt's end, so the prompt is computed once. The last token of an answer is not needed as input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .batches import Question

PADDING = -1  # the segment of padding, which sees itself alone: a softmax over nothing is not a number


@dataclass
class Row:
    """One row of a batch, and what is read from it.

    Attributes:
        question: Which question it belongs to.
        tokens: Ids, those of the prompt first.
        segments: 0 for tokens of the prompt, 1, 2, … for those of each answer.
        positions: As the model counts them.
        reads: Places whose scores over the vocabulary are read.
        targets: (answer, index into `reads`, token id, whether it is the end token) of every token to be scored.
    """

    question: int
    tokens: list[int]
    segments: list[int]
    positions: list[int]
    reads: list[int]
    targets: list[tuple[int, int, int, bool]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)


def row_of(question: Question, number: int, answers: Sequence[int], end: list[int], ended: Sequence[bool]) -> Row:
    """The prompt of a question with some of its answers behind it.

    Args:
        question: A tokenized question.
        number: What the row calls it.
        answers: Which of its answers.
        end: The end token, or nothing if a tokenizer has none.
        ended: For each of these answers, whether the end token behind it is scored.

    Example:
        >>> row = row_of(Question([5, 6], [[7, 8], [9]]), 0, [0, 1], end=[2], ended=[False, True])
        >>> row.tokens, row.positions, row.segments
        ([5, 6, 7, 9], [0, 1, 2, 2], [0, 0, 1, 2])
        >>> row.reads  # after the prompt, which speaks of both answers' first tokens, after 7, and after 9
        [1, 2, 3]
    """
    length = len(question.prompt)
    row = Row(number, list(question.prompt), [0] * length, list(range(length)), [length - 1])
    for segment, (answer, with_end) in enumerate(zip(answers, ended, strict=True), 1):
        ids = question.answers[answer]
        scored = ids + end if with_end else ids
        place = 0
        for step, token in enumerate(scored):
            row.targets.append((answer, place, token, step >= len(ids)))
            if step + 1 < len(scored):
                place = len(row.reads)
                row.reads.append(len(row))
                row.tokens.append(token)
                row.segments.append(segment)
                row.positions.append(length + step)
    return row


def layout(questions: Sequence[Question], end: list[int], ended: Sequence[Sequence[bool]], packed: bool) -> list[Row]:
    """Rows of all questions, in their order: one row per question if packed, else one per answer."""
    rows = []
    for number, (question, ends) in enumerate(zip(questions, ended, strict=True)):
        every = range(len(question.answers))
        groups = [list(every)] if packed else [[answer] for answer in every]
        rows += [row_of(question, number, group, end, [ends[answer] for answer in group]) for group in groups]
    return rows


def packed_batch(rows: Sequence[Row], pad: int, mask_dtype: torch.dtype = torch.bool) -> dict[str, Tensor]:
    """What a model reads of packed rows, padded on the right.

    Args:
        rows: Rows of `layout`.
        pad: Id of the padding.
        mask_dtype: torch.bool for a mask that is True where a token is seen, else the type of an additive one.

    Returns:
        input_ids and position_ids (batch, sequence), attention_mask (batch, 1, sequence, sequence).
    """
    ids, positions = padded([row.tokens for row in rows], pad), padded([row.positions for row in rows], 0)
    segments = padded([row.segments for row in rows], PADDING)
    query, key = segments[:, :, None], segments[:, None, :]
    width = ids.shape[1]
    seen = torch.ones(width, width, dtype=torch.bool).tril() & ((key == 0) | (key == query)) & (query != PADDING)
    seen |= torch.eye(width, dtype=torch.bool)  # (batch, sequence, sequence)
    if mask_dtype != torch.bool:
        seen = torch.zeros(seen.shape, dtype=mask_dtype).masked_fill_(~seen, torch.finfo(mask_dtype).min)
    return {"input_ids": ids, "position_ids": positions, "attention_mask": seen[:, None]}


def plain_batch(rows: Sequence[Row], pad: int) -> dict[str, Tensor]:
    """input_ids and attention_mask (batch, sequence) of rows with one answer each, padded on the right."""
    ids = padded([row.tokens for row in rows], pad)
    return {"input_ids": ids, "attention_mask": padded([[1] * len(row) for row in rows], 0)}


def padded(lists: Sequence[list[int]], value: int) -> Tensor:
    """(lists, longest) filled up on the right."""
    lengths = np.array([len(one) for one in lists])
    table = np.full((len(lists), lengths.max()), value, dtype=np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(lists)
    return torch.from_numpy(table)


def reads_of(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """(row, place) of every hidden state whose scores are read, row by row."""
    row = np.repeat(np.arange(len(rows)), [len(row.reads) for row in rows])
    return torch.from_numpy(row), torch.tensor([place for row in rows for place in row.reads])
