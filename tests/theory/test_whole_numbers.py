"""Numbers that may be counted without a tolerance, and those that may not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.theory.whole_numbers import LARGEST, whole_numbers


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-LARGEST, LARGEST), max_size=9))
def test_whole_numbers_come_back_as_integers_from_float64(numbers):
    assert whole_numbers(np.array(numbers, dtype=np.float64)).tolist() == numbers
    assert whole_numbers(torch.tensor(numbers, dtype=torch.float64)).tolist() == numbers


def test_integers_and_truth_values_are_whole_already():
    assert whole_numbers(torch.tensor([[2, 3]])).tolist() == [[2, 3]]
    assert whole_numbers(np.array([True, False])).tolist() == [1, 0]


@pytest.mark.parametrize("value", [0.5, 1 + 2.0**-52, np.nan, np.inf, -np.inf, 2.0**53 + 2])
def test_what_rounding_can_have_made_is_refused_by_its_value(value):
    with pytest.raises(ValueError, match=r"1 of 3 values are not whole numbers of at most 9007199254740992; the first"):
        whole_numbers(np.array([1.0, value, 2.0]))


def test_a_narrower_type_holds_fewer_whole_numbers():
    assert whole_numbers(torch.tensor([2.0**24])).tolist() == [2**24]
    with pytest.raises(ValueError, match="of at most 16777216; .*in float32 only"):
        whole_numbers(torch.tensor([2.0**25]))
