"""Rounded numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.cards.in_words import percent, signed
from moe_analysis.commands.terminal import number
from moe_analysis.run_comparison.card import gap


@given(st.floats(-2, 2), st.integers(0, 4))
def test_a_rounded_number_has_a_sign_only_if_it_is_not_zero(value: float, digits: int) -> None:
    told = [number(value, digits), number(value, digits, sign=True), signed(value, digits), percent(value, digits)]
    for text in told:
        written = float(text.removesuffix(" %"))
        assert written != 0 or text[0] == "0"
        assert written == pytest.approx(100 * value if "%" in text else value, abs=0.501 * 10**-digits)
    assert [text[0] for text in told[1:3]] == [("+" if value > 0 else "-") if float(told[1]) else "0"] * 2


def test_differences_of_runs_have_no_signed_zero() -> None:
    row = {"loss_difference": -0.0001, "loss_low": -0.0123, "loss_high": 0.0004}
    assert gap(row, "loss") == "0.000 [-0.012, 0.000]"
    assert gap(row | {"loss_low": float("nan"), "loss_high": float("nan")}, "loss") == "0.000"
    assert gap({}, "loss") == ""
