from __future__ import annotations

import pytest

from moe_analysis.commands.terminal import seconds_of


@pytest.mark.parametrize(
    "text, seconds", [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1d", 86_400), ("0.5h", 1800)]
)
def test_a_time_is_read_as_it_is_typed(text: str, seconds: float) -> None:
    assert seconds_of("--for", text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 h", "2h x", "-2h", "0h", "two hours", "2H"])
def test_a_text_that_is_no_time_is_refused_with_the_option_and_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match=r"--for = .* is not a time; write 2h"):
        seconds_of("--for", text)
