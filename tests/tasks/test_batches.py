"""Tokens of a prompt as any tokenizer makes them, what fills up a batch, and the intuition of its rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from moe_analysis.tasks.batches import padding_of, prompt_ids, scores_by_row

WORDS = ["[PAD]", "[CLS]", "[SEP]", "is", "ice", "cold"]
SCORES = np.random.default_rng(0).random((3, 4)).astype("float32")


def tokenizer(around: str = "$A", **special: str) -> PreTrainedTokenizerFast:
    """Of six words; around says what it puts before and behind a text."""
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[PAD]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = [("[CLS]", 1), ("[SEP]", 2)]
    made.post_processor = processors.TemplateProcessing(single=around, special_tokens=marks)
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


@pytest.mark.parametrize("special", [{}, {"eos_token": "[SEP]"}, {"eos_token": "[CLS]"}], ids=["none", "same", "other"])
@pytest.mark.parametrize("behind", ["", "[SEP]", "[SEP] [CLS]"])
@pytest.mark.parametrize("before", ["", "[CLS]"])
def test_a_prompt_keeps_what_a_tokenizer_puts_before_it_and_nothing_behind_it(
    before: str, behind: str, special: dict
) -> None:
    made = tokenizer(f"{before} $A {behind}".strip(), **special)
    first = [1] if before else []
    assert prompt_ids(["is ice cold", "cold"], made) == [[*first, 3, 4, 5], [*first, 5]]
    assert prompt_ids([" ", "cold"], made) == [first, [*first, 5]]


@pytest.mark.parametrize(
    ("special", "expected"),
    [({"pad_token": "ice", "eos_token": "cold"}, 4), ({"eos_token": "cold"}, 5), ({}, 0)],
    ids=["padding", "end", "neither"],
)
def test_a_batch_is_filled_up_with_padding_else_with_the_end_else_with_the_first_token(
    special: dict, expected: int
) -> None:
    assert padding_of(tokenizer(**special)) == expected


@pytest.mark.parametrize(
    "given",
    [SCORES, SCORES.astype(float), SCORES.tolist(), torch.tensor(SCORES, requires_grad=True), pd.DataFrame(SCORES)],
    ids=["array", "float64", "lists", "tensor", "table"],
)
def test_intuition_may_be_any_table_of_numbers(given: object) -> None:
    found = scores_by_row(given, 3)
    assert found is not None and found.dtype == np.float32
    np.testing.assert_array_equal(found, SCORES)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (SCORES[:2], r"shape \(2, 4\), but there are 3 rows"),
        (np.vstack([SCORES, SCORES]), r"shape \(6, 4\), but there are 3 rows"),
        (SCORES[:, 0], r"shape \(3,\)"),
        (SCORES[..., None], r"shape \(3, 4, 1\)"),
        (np.where(SCORES.min() < SCORES, SCORES, np.nan), r"holds NaN or infinity, as 1 of 3 rows do"),
        ([["a"], ["b"], ["c"]], "holds no numbers"),
        ([[1.0], [2.0, 3.0], [4.0]], "holds no numbers"),
    ],
    ids=["fewer", "more", "a column", "three axes", "NaN", "texts", "ragged"],
)
def test_intuition_of_other_rows_or_without_a_number_is_refused(given: object, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"intuition.* {expected}|intuition {expected}"):
        scores_by_row(given, 3)
