"""T-REX Theorem 4.2 in our reading, and the fits that it is measured with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.theory import trex_approximation as approximation
from moe_analysis.theory import verify
from moe_analysis.theory.mixture_fit import fit_mixture, mixture_gates, mixture_of, regrouped, shared_update
from moe_analysis.theory.tucker import best_gates, check_targets, hooi, hosvd, mode_tails, projection_error

CHEAPEST_FIRST = ["mix_and_match", "diagonal", "moe_lora", "lora"]


def test_every_claim_of_the_theorem_holds_and_says_that_the_reading_is_ours():
    table = verify("trex_theorem_4_2_*")
    assert len(table) == 4
    assert table["holds"].all(), table.loc[~table["holds"], ["name", "measured"]].to_string()
    assert table["statement"].str.startswith("our reading:").all()


def test_a_bound_that_forgets_the_rank_limit_is_found_wrong(monkeypatch):
    honest = approximation.search_single_target
    monkeypatch.setattr(
        approximation,
        "search_single_target",
        lambda target, num_down, num_up, **rest: honest(target, num_down + 1, num_up + 1, **rest),
    )
    claim = approximation.trex_theorem_4_2_single_target()
    assert not claim.holds and claim.measured[2] > 1e-6  # one vector more passes below the tail


def test_routings_that_are_not_the_best_are_found_wrong(monkeypatch):
    monkeypatch.setattr(approximation, "best_gates", lambda targets, A, B: best_gates(targets, A, B) * 1.01)
    assert not approximation.trex_theorem_4_2_family_with_fixed_factors().holds


def test_an_order_that_does_not_fall_is_found_wrong(monkeypatch):
    honest = approximation.approximation_errors
    monkeypatch.setattr(approximation, "approximation_errors", lambda *a, **k: honest(*a, **k).iloc[::-1])
    assert not approximation.trex_theorem_4_2_nested_systems().holds


def test_a_smaller_system_that_the_larger_does_not_hold_is_found_wrong(monkeypatch):
    honest = approximation.realised_updates
    monkeypatch.setattr(
        approximation, "realised_updates", lambda A, B, gates, *rest: honest(A, B, np.roll(gates, 1, axis=1), *rest)
    )
    claim = approximation.trex_theorem_4_2_nested_systems()
    assert not claim.holds and claim.residual > 0.1


def test_the_order_of_the_check_does_not_come_from_where_its_fits_start(monkeypatch):
    monkeypatch.setattr(approximation, "regrouped", lambda *_: pytest.fail("started from the smaller system"))
    assert approximation.trex_theorem_4_2_nested_systems().holds


def test_fits_that_do_not_reach_their_systems_least_error_are_found_wrong(monkeypatch):
    honest = approximation.fit_mixture
    monkeypatch.setattr(approximation, "fit_mixture", lambda *given: honest(*given, sweeps=0))
    assert not approximation.trex_theorem_4_2_nested_systems().holds


def test_a_search_for_shared_factors_that_does_nothing_is_found_wrong(monkeypatch):
    monkeypatch.setattr(approximation, "hooi", hosvd)
    assert not approximation.trex_theorem_4_2_shared_factors().holds


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_no_routing_does_better_than_the_closed_form(num_down, num_up, seed):
    rng = np.random.default_rng(seed)
    targets, A, B = (rng.standard_normal(shape) for shape in [(3, 6, 5), (num_down, 5), (6, num_up)])
    G = best_gates(targets, A, B)
    least = ((targets - B @ G.transpose(0, 2, 1) @ A) ** 2).sum()
    assert least == pytest.approx(projection_error(targets, A, B), rel=1e-9, abs=1e-9)
    other = G + 0.1 * rng.standard_normal(G.shape)
    assert ((targets - B @ other.transpose(0, 2, 1) @ A) ** 2).sum() >= least - 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_hooi_falls_from_hosvd_and_stays_above_the_mode_tails(num_down, num_up, seed):
    targets = np.random.default_rng(seed).standard_normal((4, 6, 5))
    fit = hooi(targets, num_down, num_up)
    total = (targets**2).sum()
    assert (np.diff(fit.history) <= 1e-12 * total).all()
    assert max(mode_tails(targets, num_down, num_up)) <= fit.error + 1e-12 * total
    assert hosvd(targets, num_down, num_up).error <= sum(mode_tails(targets, num_down, num_up)) + 1e-12 * total


def test_one_target_makes_shared_factors_a_truncated_singular_value_decomposition():
    target = np.random.default_rng(0).standard_normal((1, 6, 5))
    tail = (np.linalg.svd(target[0], compute_uv=False)[2:] ** 2).sum()
    assert hooi(target, 2, 4).error == pytest.approx(tail)
    assert shared_update(target, 2).error == pytest.approx(tail)


def test_a_family_with_shared_directions_is_fitted_without_error_by_as_many_vectors():
    rng = np.random.default_rng(1)
    targets = rng.standard_normal((9, 6, 3)) @ rng.standard_normal((3, 7))
    assert hooi(targets, 3, 6).error == pytest.approx(0, abs=1e-20)
    assert hooi(targets, 2, 6).error > 1e-3


def test_more_vectors_than_features_change_nothing():
    targets = np.random.default_rng(2).standard_normal((2, 3, 4))
    assert hooi(targets, 9, 9).error == pytest.approx(0, abs=1e-20)


def test_alternating_least_squares_recovers_a_mixture_and_never_rises():
    rng = np.random.default_rng(3)
    A, B, gates = (rng.standard_normal(shape) for shape in [(2, 2, 7), (2, 6, 2), (9, 2)])
    targets = mixture_of(A, B, gates)
    fits = [
        fit_mixture(targets, rng.standard_normal(A.shape), rng.standard_normal(B.shape), sweeps=300) for _ in range(3)
    ]
    assert min(fit.error for fit in fits) < 1e-6 * (targets**2).sum()
    for fit in fits:
        assert (np.diff(fit.history) <= 1e-9 * (targets**2).sum()).all()
        assert ((targets - mixture_of(fit.A, fit.B, fit.gates)) ** 2).sum() == pytest.approx(fit.error)


def test_a_larger_mixture_starts_no_worse_than_the_smaller_one_it_grew_from():
    rng = np.random.default_rng(4)
    targets = rng.standard_normal((5, 6, 7))
    small = shared_update(targets, 4)
    A, B = regrouped(small, 3, 2, rng)
    assert A.shape == (3, 2, 7) and B.shape == (3, 6, 2)
    A, B = regrouped(small, 2, 2, rng)
    started = targets - mixture_of(A, B, mixture_gates(targets, A, B))
    assert (started**2).sum() <= small.error


@pytest.mark.parametrize("kind", approximation.FAMILIES)
@pytest.mark.parametrize("count", approximation.COUNTS)
def test_no_system_costs_more_than_the_budget(kind, count):
    targets = approximation.target_family(kind, targets=6, out_features=8, in_features=10)
    each = {"factors": 0, "factors+gates": 6, "factors+router": 10}[count]
    frame = approximation.approximation_errors(targets, 150, num_experts=2, count=count, restarts=0)
    assert list(frame["method"]) == CHEAPEST_FIRST[::-1]
    assert (frame["parameters"] + each * frame["gates"] <= 150).all()
    assert frame["relative_error"].between(0, 1).all()
    assert list(frame["bound"]) == ["exact"] + ["upper bound"] * 3


def test_errors_are_the_same_for_the_same_seed():
    targets = approximation.target_family("clustered", 6, 8, 10)
    first, second = (approximation.approximation_errors(targets, 72, 2, restarts=1, seed=3) for _ in range(2))
    assert first.equals(second)


def test_the_budget_buys_the_most_experts_of_each_system():
    size = approximation.sizes(8 * 36, (12, 16, 20), 4, "factors")
    assert size == {"lora": (8,), "moe_lora": (4, 2), "diagonal": (8,), "mix_and_match": (8, 8)}
    with_router = approximation.sizes(8 * 36, (12, 16, 20), 4, "factors+router")
    assert with_router["mix_and_match"] == (3, 3) and with_router["diagonal"] == (5,)


def test_bad_input_is_refused_with_its_remedy():
    with pytest.raises(ValueError, match="are not enough for 4 experts of rank 1; pass at least 144"):
        approximation.sizes(100, (12, 16, 20), 4, "factors")
    with pytest.raises(ValueError, match="restarts = 0 and nested = False leave no starting point"):
        approximation.approximation_errors(np.ones((2, 4, 4)), 40, 1, restarts=0, nested=False)
    with pytest.raises(ValueError, match="count = 'all' is unknown"):
        approximation.sizes(1000, (12, 16, 20), 4, "all")
    with pytest.raises(ValueError, match="kind = 'odd' is unknown; choose one of shared"):
        approximation.target_family("odd")
    with pytest.raises(ValueError, match="pass \\(targets, out_features, in_features\\)"):
        check_targets(np.ones((3, 4)))
    with pytest.raises(ValueError, match="NaN"):
        check_targets(np.full((1, 2, 2), np.nan))
