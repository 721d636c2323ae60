"""The rule: its words at their borders, how often each comes out, and what a family of claims changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.evidence.bootstrap import holm
from moe_analysis.evidence.effect import MOST_SEEDS, Effect
from moe_analysis.evidence.verdict import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    IN_PART,
    NOT_REPRODUCED,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    REPRODUCED,
    SUPPORTED,
    UNDECIDED,
    Judgement,
    exact,
    in_parts,
    judge,
    judge_family,
    not_testable,
    verdict_rates,
    word,
)

PAPER = 0.02  # points of accuracy, as in the papers' tables
SMALLEST = PAPER / 2
SPREAD = 0.01  # of the differences over seeds, as in our runs
ENOUGH = Effect(np.array([-1.0, 1.0]) * SPREAD * np.sqrt(0.5)).seeds_for(SMALLEST)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0.001, 1))
def test_every_interval_has_one_word_and_it_says_what_the_interval_excludes(low, width, smallest) -> None:
    high = low + width
    expected = REPRODUCED if low > 0 else CONTRADICTED if high < 0 else NOT_REPRODUCED if high < smallest else UNDECIDED
    assert word(low, high, smallest) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-9, 5.0, REPRODUCED),
        (0.0, 5.0, UNDECIDED),
        (-5.0, -1e-9, CONTRADICTED),
        (-5.0, 0.0, NOT_REPRODUCED),
        (-5.0, 0.00999, NOT_REPRODUCED),
        (-5.0, 0.01, UNDECIDED),
        (0.0, 0.0, NOT_REPRODUCED),
    ],
)
def test_a_border_belongs_to_the_weaker_word(low, high, expected) -> None:
    assert word(low, high, SMALLEST) == expected


@pytest.mark.parametrize("smallest", [0.0, -0.1, float("nan")])
def test_a_rule_without_a_smallest_effect_is_refused(smallest) -> None:
    for call in (lambda: word(-1.0, 1.0, smallest), lambda: judge(Effect([0.1, 0.2]), smallest)):
        with pytest.raises(
            ValueError, match="smallest = .* must be above zero: half the paper's effect, or a declared one"
        ):
            call()


def test_at_the_papers_effect_a_design_with_seeds_enough_reproduces() -> None:
    rates = verdict_rates(PAPER, SPREAD, ENOUGH, SMALLEST)
    assert rates[REPRODUCED] > 0.98 and rates[CONTRADICTED] == 0 and rates[NOT_REPRODUCED] < 0.005


def test_at_no_effect_a_design_with_seeds_enough_excludes_it_and_errs_as_often_as_it_says() -> None:
    rates = verdict_rates(0.0, SPREAD, ENOUGH, SMALLEST, draws=8000)
    assert rates[NOT_REPRODUCED] + rates[CONTRADICTED] == pytest.approx(0.8, abs=0.05)  # seeds are whole numbers
    assert rates[REPRODUCED] == pytest.approx(0.025, abs=0.006)
    assert rates[CONTRADICTED] == pytest.approx(0.025, abs=0.006)


def test_with_three_seeds_the_rule_is_undecided_and_not_wrong() -> None:
    """What few seeds cost is power, never the error rates."""
    nothing, paper = (verdict_rates(effect, SPREAD, 3, SMALLEST, draws=8000) for effect in (0.0, PAPER))
    assert nothing[UNDECIDED] > 0.75 and nothing[REPRODUCED] == pytest.approx(0.025, abs=0.006)
    assert 0.4 < paper[REPRODUCED] < 0.6 and paper[NOT_REPRODUCED] < 0.005 and paper[CONTRADICTED] < 0.005


def test_an_effect_of_exactly_the_smallest_size_is_excluded_no_more_often_than_the_level_says() -> None:
    for seeds in (3, 5, 13):
        assert verdict_rates(SMALLEST, SPREAD, seeds, SMALLEST, draws=8000)[NOT_REPRODUCED] < 0.032


def test_the_opposite_effect_contradicts() -> None:
    rates = verdict_rates(-PAPER, SPREAD, ENOUGH, SMALLEST)
    assert rates[CONTRADICTED] > 0.98 and rates[REPRODUCED] == 0


def test_the_simulated_words_are_those_of_the_rule_itself() -> None:
    gaps = np.random.default_rng(3).normal(0.01, SPREAD, (300, 4))
    judged = [judge(Effect(one), SMALLEST).verdict for one in gaps]
    rates = verdict_rates(0.01, SPREAD, 4, SMALLEST, draws=300, seed=3)
    assert rates == {verdict: judged.count(verdict) / 300 for verdict in rates} and sum(rates.values()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 1}, "seeds = 1 gives no interval"),
        ({"spread": 0.0}, "spread = 0.0 must be above zero"),
    ],
)
def test_a_plan_that_gives_no_interval_is_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        verdict_rates(**{"effect": 0.0, "spread": 0.01, "seeds": 5, "smallest": 0.01, **options})


def test_an_undecided_claim_says_what_the_design_sees_and_what_would_do() -> None:
    effect = Effect([0.02, -0.02, 0.03])
    found = judge(effect, SMALLEST)
    assert found.verdict == UNDECIDED
    assert found.note == (
        f"this design sees {effect.visible():.3g} with 80 % power; {effect.seeds_for(SMALLEST)} seeds would see 0.01"
    )
    tasks = Effect(np.linspace(-1, 1, 5)[:, None] + 0.001 * np.arange(4))
    assert judge(tasks, SMALLEST).note.endswith("no number of seeds would see 0.01 on these 5 tasks")
    apart = Effect([-1e4, 0.0, 1e4])
    assert judge(apart, SMALLEST).note.endswith(f"more than {MOST_SEEDS} seeds would see 0.01")
    assert judge(Effect([0.02, 0.021, 0.019]), SMALLEST).note == ""


def test_a_measurement_without_an_interval_is_not_testable_and_says_why() -> None:
    for gaps, reason in (
        ([0.1], "one seed has no spread"),
        ([0.1, np.nan], "1 of 2 differences are not finite numbers"),
    ):
        assert judge(Effect(gaps), SMALLEST) == not_testable(reason)
    assert not_testable("everything is within guessing").verdict == NOT_TESTABLE


def test_hypotheses_of_our_own_have_their_own_words() -> None:
    words = [
        judge(Effect(gaps), SMALLEST, own=True).verdict
        for gaps in ([0.02, 0.021, 0.019], [0.001, -0.001, 0.0], [-0.02, -0.021, -0.019], [0.02, -0.02, 0.03], [0.1])
    ]
    assert words == [SUPPORTED, NOT_SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_TESTABLE]


def test_exact_statements_hold_or_fail() -> None:
    assert (exact(True).verdict, exact(False).verdict) == (HOLDS, FAILS)


def test_parts_that_agree_give_their_verdict_and_parts_that_differ_are_counted() -> None:
    assert in_parts([REPRODUCED, REPRODUCED]) == Judgement(REPRODUCED)
    assert in_parts([REPRODUCED, CONTRADICTED, REPRODUCED]) == Judgement(IN_PART, "2 reproduced, 1 contradicted")
    with pytest.raises(ValueError, match="verdicts is empty"):
        in_parts([])


@given(st.lists(st.floats(-0.03, 0.03), min_size=1, max_size=6), st.integers(0, 99))
def test_in_a_family_an_effect_is_found_exactly_where_holms_p_is_below_5_percent(means, seed) -> None:
    rng = np.random.default_rng(seed)
    effects = {number: Effect(rng.normal(mean, 0.01, 5)) for number, mean in enumerate(means)}
    found = judge_family(effects, dict.fromkeys(effects, SMALLEST))
    corrected = holm([effect.p() for effect in effects.values()])
    assert list(found) == list(effects)
    for number, p in enumerate(corrected):
        if abs(p - 0.05) > 1e-9:
            assert (found[number].verdict in (REPRODUCED, CONTRADICTED)) == (p < 0.05)


def test_a_family_finds_an_effect_that_is_not_there_in_5_of_100_families() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(1500):
        effects = {number: Effect(rng.normal(0.0, 1.0, 5)) for number in range(4)}
        words = {one.verdict for one in judge_family(effects, dict.fromkeys(effects, 10.0)).values()}
        wrong += bool(words & {REPRODUCED, CONTRADICTED})
    assert wrong / 1500 == pytest.approx(0.05, abs=0.02)


def test_a_member_that_cannot_be_judged_counts_in_the_size_of_its_family() -> None:
    clear, none = Effect([0.02, 0.021, 0.019, 0.02]), Effect([np.nan, 0.1])
    found = judge_family({"clear": clear, "none": none}, {"clear": SMALLEST, "none": SMALLEST})
    assert found["clear"].confidence == pytest.approx(0.975) and found["none"].verdict == NOT_TESTABLE
    assert judge_family({"clear": clear}, {"clear": SMALLEST})["clear"] == judge(clear, SMALLEST, confidence=0.95)
