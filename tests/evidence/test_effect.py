"""A measured effect: its interval is Student's or the bootstrap's, and its power is what simulation says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from moe_analysis.evidence.bootstrap import paired_bootstrap
from moe_analysis.evidence.effect import Effect


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=9).filter(lambda values: np.std(values) > 1e-6),
    st.sampled_from([0.8, 0.95, 0.99]),
)
def test_over_seeds_interval_and_p_are_those_of_a_t_test(gaps, confidence) -> None:
    found, effect = ttest_1samp(gaps, 0.0), Effect(gaps)
    np.testing.assert_allclose(effect.interval(confidence), found.confidence_interval(confidence), atol=1e-12)
    assert effect.p() == pytest.approx(found.pvalue)


def test_over_tasks_and_seeds_they_are_those_of_the_paired_bootstrap() -> None:
    first, second = np.random.default_rng(0).normal(0.1, 1.0, (2, 6, 4))
    effect, found = Effect(first - second), paired_bootstrap(first, second)
    np.testing.assert_allclose([effect.value, *effect.interval(), effect.p()], found[:4], rtol=1e-9)
    assert effect.over == "6 tasks and 4 seeds"


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_an_effect_of_the_visible_size_is_seen_in_80_of_100_designs(seeds: int) -> None:
    """The spread is known here, as it is of the seeds' own sample on average: the rule of thumb for planning."""
    rng = np.random.default_rng(seeds)
    pilot = Effect(np.array([-1.0, 1.0]) * np.sqrt(0.5))  # a spread of exactly 1
    visible = pilot.visible(seeds=seeds)
    lows = [Effect(gaps).interval()[0] for gaps in rng.normal(visible, 1.0, (4000, seeds))]
    assert np.mean(np.array(lows) > 0) == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize(
    ("tasks", "seeds", "by_task", "by_seed"), [(27, 3, 1.0, 0.1), (7, 3, 0.1, 1.0), (8, 8, 1.0, 1.0)]
)
@pytest.mark.parametrize("confidence", [0.95, 0.983])
def test_over_tasks_and_seeds_the_visible_size_is_seen_in_80_of_100_designs_too(
    tasks: int, seeds: int, by_task: float, by_seed: float, confidence: float
) -> None:
    """Whichever of the two varies more; noise beside them is small, as it counts in both standard errors."""
    rng = np.random.default_rng(seeds)
    designs = [
        rng.normal(0, by_task, (tasks, 1)) + rng.normal(0, by_seed, (1, seeds)) + rng.normal(0, 0.1, (tasks, seeds))
        for _ in range(400)
    ]
    spreads = [centered(np.arange(count)) * spread for count, spread in ((tasks, by_task), (seeds, by_seed))]
    known = Effect(spreads[0][:, None] + spreads[1])  # both spreads as they truly are
    lows = np.array([Effect(gaps).interval(confidence)[0] for gaps in designs])
    assert np.mean(lows + known.visible(confidence) > 0) == pytest.approx(0.8, abs=0.06)


def centered(values: np.ndarray) -> np.ndarray:
    """With mean 0 and a spread of exactly 1."""
    return (values - values.mean()) / values.std(ddof=1)


@given(
    st.lists(st.floats(-1, 1), min_size=3, max_size=6).filter(lambda values: np.std(values) > 1e-3),
    st.floats(0.01, 1.0),
)
def test_the_seeds_that_would_do_are_the_fewest_that_see_the_size(gaps, size) -> None:
    effect = Effect(gaps)
    seeds = effect.seeds_for(size)
    if seeds is None:
        assert effect.visible(seeds=10_000) > size
    else:
        assert effect.visible(seeds=seeds) <= size and (seeds == 2 or effect.visible(seeds=seeds - 1) > size)


def test_where_tasks_differ_no_number_of_seeds_may_do() -> None:
    between_tasks = np.tile(np.linspace(-1, 1, 5)[:, None], (1, 4)) + 0.001 * np.arange(4)
    effect = Effect(between_tasks)
    assert effect.seeds_for(0.1) is None and effect.seeds_for(2.0) is not None


def test_noise_of_tasks_falls_with_the_number_of_seeds() -> None:
    """Tasks on which the effect is the same, 8 tasks and 8 seeds: what their means differ by is noise, and the seeds that
    would do see the effect."""
    rng = np.random.default_rng(0)
    left = rng.normal(size=(8, 8))
    left -= left.mean(0) + left.mean(1, keepdims=True) - left.mean()
    left *= 7 / np.sqrt((left**2).sum())  # noise of exactly 1, and what it gives to the means of 8
    pilot = Effect(left + (centered(np.arange(8.0))[:, None] + centered(np.arange(8.0))) / np.sqrt(8))
    seeds = pilot.seeds_for(0.3)
    assert seeds is not None and pilot.visible() > 0.3
    seen = [Effect(rng.normal(0.3, 1.0, (8, seeds))).interval()[0] > 0 for _ in range(300)]
    assert 0.75 < np.mean(seen) < 0.98, "noise counts in both standard errors, so the number is on the safe side"


def test_the_other_way_round_the_interval_is_mirrored() -> None:
    effect = Effect([0.1, 0.2, 0.4])
    low, high = effect.interval()
    np.testing.assert_allclose(Effect(-effect.values).interval(), (-high, -low))


@pytest.mark.parametrize(
    ("gaps", "fault"),
    [
        ([0.1], "one seed has no spread"),
        ([[0.1, 0.2]], "one task has no spread"),
        ([[0.1], [0.2]], "one seed has no spread"),
        ([0.1, np.nan, np.inf], "2 of 3 differences are not finite numbers"),
    ],
)
def test_gaps_without_an_interval_say_why(gaps, fault) -> None:
    assert Effect(gaps).fault == fault
    for call in (Effect(gaps).interval, Effect(gaps).p, Effect(gaps).visible, lambda: Effect(gaps).seeds_for(0.1)):
        with pytest.raises(ValueError, match=f"no interval: {fault}"):
            call()


@pytest.mark.parametrize("gaps", [0.1, [], np.zeros((2, 2, 2))])
def test_gaps_of_another_shape_are_refused(gaps) -> None:
    with pytest.raises(ValueError, match="pass \\(seeds,\\) or \\(tasks, seeds\\)"):
        Effect(gaps)


def test_equal_methods_have_p_1_and_methods_that_differ_alike_at_every_seed_p_0() -> None:
    assert Effect(np.zeros(4)).p() == 1.0 and Effect(np.full(4, 0.5)).p() == 0.0
    assert Effect(np.full(4, 0.5)).interval() == (0.5, 0.5)
