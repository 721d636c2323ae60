"""What came out of a study, in one sentence: quoted where there are few claims, counted where there are many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moe_analysis.evidence import Claim
from moe_analysis.evidence.verdict import FAILS, HOLDS, IN_PART, OF_OURS, OF_PAPERS
from moe_analysis.studies.in_short import SAID, in_short

THEOREM = Claim("toy_sum", "arithmetic", "1 + 1 = 2", 2, 2, 0.0, True)
WRONG = Claim("toy_wrong", "arithmetic", "1 + 1 = 3", 2, 3, 1.0, False)
AHEAD = Claim("toy_ahead", "a table", "A is ahead of B.", compares="A - B", paper_effect=0.02)


def test_every_verdict_of_the_rule_has_its_words() -> None:
    assert SAID.keys() == {*OF_PAPERS, *OF_OURS, IN_PART, HOLDS, FAILS}


@pytest.mark.parametrize(
    "claims, told",
    [
        ([], ""),
        ([replace(AHEAD, verdict="undecided")], '"A is ahead of B" is undecided.'),
        (
            [replace(AHEAD, verdict=IN_PART, note="1 reproduced, 1 undecided")],
            '"A is ahead of B" has parts with different verdicts (1 reproduced, 1 undecided).',
        ),
        ([THEOREM, WRONG], '"1 + 1 = 2" holds; "1 + 1 = 3" fails.'),
        ([THEOREM] * 3, "All 3 statements hold."),
        ([THEOREM, THEOREM, WRONG], "Of 3 statements, 2 hold and 1 fails."),
        (
            [THEOREM, WRONG, replace(AHEAD, verdict="reproduced")],
            "Of 3 statements, 1 holds, 1 is reproduced and 1 fails.",
        ),
    ],
)
def test_the_sentence_says_how_many_statements_have_which_verdict(claims, told) -> None:
    assert in_short(claims) == told
