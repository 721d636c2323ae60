"""Where tokens stand in a packed row, what each of them sees, and what is read of it."""

from __future__ import annotations

import torch

from moe_analysis.tasks.batches import Question
from moe_analysis.tasks.packing import layout, packed_batch, plain_batch, reads_of, row_of

ASKED = Question([5, 6, 7], [[10, 11], [12], []])


def test_each_answer_continues_the_prompt_and_leaves_its_last_token_out() -> None:
    row = row_of(ASKED, 4, [0, 1, 2], end=[2], ended=[True, False, True])
    assert row.tokens == [5, 6, 7, 10, 11] and row.positions == [0, 1, 2, 3, 4] and row.segments == [0, 0, 0, 1, 1]
    assert row.reads == [2, 3, 4] and row.question == 4
    assert row.targets == [
        (0, 0, 10, False),
        (0, 1, 11, False),
        (0, 2, 2, True),
        (1, 0, 12, False),
        (2, 0, 2, True),  # nothing to say but the end
    ]


def test_plain_rows_hold_what_packed_ones_do_one_answer_each() -> None:
    ended = [[True, True, True]]
    packed, plain = layout([ASKED], [2], ended, packed=True), layout([ASKED], [2], ended, packed=False)
    assert [len(rows) for rows in (packed, plain)] == [1, 3]
    scored = [(answer, token, end) for row in plain for answer, _, token, end in row.targets]
    assert [(answer, token, end) for answer, _, token, end in packed[0].targets] == scored
    assert plain_batch(plain, 0)["attention_mask"].sum(1).tolist() == [5, 4, 3]


def test_a_token_sees_the_prompt_and_the_beginning_of_its_own_answer() -> None:
    rows = layout([ASKED, Question([8], [[9]])], [2], [[True] * 3, [True]], packed=True)
    batch = packed_batch(rows, pad=0)
    seen = batch["attention_mask"][:, 0]
    assert seen[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ]
    assert seen[1].int().tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], *torch.eye(6, dtype=int)[2:].tolist()]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3], [0, 1, 0, 0, 0, 0]]
    added = packed_batch(rows, 0, torch.bfloat16)["attention_mask"][:, 0]
    assert (added.eq(0) == seen).all() and added.dtype == torch.bfloat16 and added.isfinite().all()


def test_reads_are_listed_row_by_row() -> None:
    rows = layout([ASKED, Question([8], [[9]])], [2], [[True] * 3, [True]], packed=True)
    row, place = reads_of(rows)
    assert row.tolist() == [0, 0, 0, 0, 1, 1] and place.tolist() == [2, 3, 4, 5, 0, 1]
