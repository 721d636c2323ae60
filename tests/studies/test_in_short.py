"""What came out of a study: the first decided result with its interval and unit, then how many statements have which verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moe_analysis.evidence import Claim, Effect, described
from moe_analysis.evidence.verdict import FAILS, HOLDS, IN_PART, OF_OURS, OF_PAPERS
from moe_analysis.studies.in_short import SAID, in_short

THEOREM = Claim("toy_sum", "arithmetic", "1 + 1 = 2", 2, 2, 0.0, True)
WRONG = Claim("toy_wrong", "arithmetic", "1 + 1 = 3", 2, 3, 1.0, False)
AHEAD = Claim(
    "toy_ahead", "a table", "A is ahead of B.", compares="A - B", endpoint="accuracy, all tasks", paper_effect=0.02
)
CLEAR, OPEN = Effect([0.03, 0.02, 0.04]), Effect([0.03, -0.02, 0.04])
FOUND = AHEAD.with_effect(CLEAR)
TOLD = '"A is ahead of B" is reproduced: +3 points of accuracy [0.52, 5.5]'


def said(*claims: Claim) -> str:
    return in_short([described(claim) for claim in claims])


def test_every_verdict_of_the_rule_has_its_words() -> None:
    assert SAID.keys() == {*OF_PAPERS, *OF_OURS, IN_PART, HOLDS, FAILS}


@pytest.mark.parametrize(
    "claims, told",
    [
        ([], ""),
        ([FOUND], f"{TOLD}."),
        ([AHEAD.untestable("no run of B")], '"A is ahead of B" cannot be tested here (no run of B).'),
        ([THEOREM, WRONG], '"1 + 1 = 2" holds. Of 2 statements, 1 holds and 1 fails.'),
        ([THEOREM] * 2, '"1 + 1 = 2" holds. Both statements hold.'),
        ([THEOREM] * 3, '"1 + 1 = 2" holds. All 3 statements hold.'),
        (
            [AHEAD.untestable("no run")] * 2,
            '"A is ahead of B" cannot be tested here (no run). Neither statement can be tested here.',
        ),
        (
            [AHEAD.untestable("no run")] * 4,
            '"A is ahead of B" cannot be tested here (no run). None of the 4 statements can be tested here.',
        ),
        ([THEOREM, WRONG, FOUND], f"{TOLD}. Of 3 statements, 1 holds, 1 is reproduced and 1 fails."),
        ([AHEAD.untestable("no run"), FOUND], f"{TOLD}. Of 2 statements, 1 is reproduced and 1 cannot be tested here."),
    ],
)
def test_the_first_measurement_is_quoted_and_the_verdicts_are_counted(claims, told) -> None:
    assert said(*claims) == told


def test_a_part_is_quoted_beside_what_became_of_the_other_parts() -> None:
    whole = AHEAD.with_parts([FOUND, AHEAD.with_effect(OPEN)])
    told = f"{TOLD} (of 2 parts 1 reproduced, 1 undecided)."
    assert said(whole) == told


def test_a_claim_of_the_paper_is_told_before_ours() -> None:
    ours = replace(AHEAD, source="beyond a table", kind=None, statement="A is better").with_effect(CLEAR)
    assert said(ours, FOUND).startswith(TOLD)


def test_a_decided_result_is_told_before_an_undecided_one_of_the_same_kind() -> None:
    undecided = replace(AHEAD, statement="A is better").with_effect(OPEN)
    assert said(undecided, FOUND).startswith(TOLD)
    ours = replace(AHEAD, source="beyond a table", kind=None).with_effect(CLEAR)
    assert said(ours, undecided).startswith('"A is better" is undecided')


@pytest.mark.parametrize(
    "compares, endpoint, told",
    [
        ("1 - A / B", "share of the training loss", "+3 % [0.52, 5.5]"),
        ("A - B", "loss, nats per answer token", "+0.03 nats [0.0052, 0.055]"),
        ("A - B", "share of tokens", "+3 percentage points [0.52, 5.5]"),
        ("A - B", "effective rank, mean over layers", "+0.03 effective rank [0.0052, 0.055]"),
    ],
)
def test_an_effect_has_the_unit_of_what_is_compared(compares: str, endpoint: str, told: str) -> None:
    assert told in said(replace(AHEAD, compares=compares, endpoint=endpoint).with_effect(CLEAR))
