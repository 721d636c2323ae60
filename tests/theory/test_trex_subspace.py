"""T-REX Lemma 4.1 on the real modules, with the wrong formulas that it must tell apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.theory import trex, verify
from moe_analysis.theory.rank import exact_rank, integer_matrix, numerical_rank


def test_every_claim_of_the_lemma_holds():
    table = verify("trex_lemma_4_1_*")
    assert len(table) == 5
    assert table["holds"].all(), table.loc[~table["holds"], ["name", "measured", "expected"]].to_string()


def test_the_span_is_checked_for_every_size_up_to_eight_and_every_kind():
    cases = trex.span_cases(kinds=("dependent", "narrow"))
    sizes = {(case["I"], case["J"], case["kind"]) for case in cases}
    assert len(sizes) == 8 * 8 * 2
    narrow = [case for case in cases if case["kind"] == "narrow" and case["I"] > 3]
    assert all(case["measured"] < case["I"] * case["J"] for case in narrow) and narrow


def test_counting_experts_instead_of_ranks_is_found_wrong(monkeypatch):
    def counted(num_down, num_up, kind, rng):
        A, B, _, _ = original(num_down, num_up, kind, rng)
        return A, B, num_down, num_up

    original = trex.factors
    monkeypatch.setattr(trex, "factors", counted)
    claim = trex.trex_lemma_4_1_span()
    assert not claim.holds
    assert claim.measured < claim.expected


def test_a_module_that_only_pairs_equal_indices_is_found_wrong(monkeypatch):
    def diagonal_only(A, B, gates, pairing="mix_and_match"):
        keep = np.eye(*gates.shape[1:]) if gates.ndim == 3 else 1.0
        return original(A, B, gates * keep, pairing)

    original = trex.realised_updates
    monkeypatch.setattr(trex, "realised_updates", diagonal_only)
    assert not trex.trex_lemma_4_1_span().holds
    assert not trex.trex_lemma_4_1_equal_parameters().holds
    assert not trex.trex_lemma_4_1_kronecker().holds


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_the_span_is_the_product_of_the_ranks(num_down, num_up, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    rank_a = data.draw(st.integers(0, min(num_down, 4)))
    rank_b = data.draw(st.integers(0, min(num_up, 6)))
    A, B = integer_matrix(num_down, 4, rank_a, rng), integer_matrix(6, num_up, rank_b, rng)
    assert trex.span_dimension(A, B) == rank_a * rank_b


def test_the_module_applies_b_g_transposed_a():
    rng = np.random.default_rng(1)
    A, B, G = rng.standard_normal((3, 5)), rng.standard_normal((4, 2)), rng.standard_normal((6, 3, 2))
    np.testing.assert_allclose(trex.realised_updates(A, B, G), B @ G.transpose(0, 2, 1) @ A, atol=1e-13)


def test_the_diagonal_pairing_is_a_diagonal_routing_matrix():
    rng = np.random.default_rng(2)
    A, B, gates = rng.standard_normal((3, 5)), rng.standard_normal((4, 3)), rng.standard_normal((6, 3))
    diagonal = np.einsum("ki,ij->kij", gates, np.eye(3))
    np.testing.assert_allclose(
        trex.realised_updates(A, B, gates, "diagonal"), trex.realised_updates(A, B, diagonal), atol=1e-13
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_no_routing_lifts_an_update_above_the_shorter_list_of_vectors(num_down, num_up, seed):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((num_down, 7)), rng.standard_normal((8, num_up))
    updates = trex.realised_updates(A, B, rng.standard_normal((3, num_down, num_up)))
    assert [numerical_rank(update, 1e-10) for update in updates] == [min(num_down, num_up)] * 3


def test_a_routing_of_lower_rank_gives_an_update_of_that_rank():
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((4, 7)), rng.standard_normal((8, 4))
    G = np.outer(rng.standard_normal(4), rng.standard_normal(4))[None]
    assert numerical_rank(trex.realised_updates(A, B, G)[0], 1e-10) == 1


def test_experts_of_a_mixture_that_coincide_are_counted_once():
    rng = np.random.default_rng(4)
    A, B = rng.integers(-2, 3, (2, 2, 6)).astype(float), rng.integers(-2, 3, (2, 5, 2)).astype(float)
    full, doubled = trex.mixture_span_dimension(A, B), trex.mixture_span_dimension(A[[0, 1, 1]], B[[0, 1, 1]])
    assert full == doubled == exact_rank((B @ A).reshape(2, -1)) == 2


def test_a_fresh_layer_spans_nothing():
    assert trex.span_dimension(np.eye(3, 5), np.zeros((4, 2))) == 0


def test_real_factors_are_ranked_by_their_singular_values():
    rng = np.random.default_rng(5)
    A, B = rng.standard_normal((3, 5)), rng.standard_normal((6, 4))
    assert trex.span_dimension(A, B) == 12
    A[2] = 0.3 * A[0] - 0.7 * A[1]
    assert trex.span_dimension(A, B) == 8


@pytest.mark.parametrize("seed", [1, 2])
def test_the_lemma_holds_for_other_draws(seed):
    assert verify(
        ["trex_lemma_4_1_kronecker", "trex_lemma_4_1_equal_parameters", "trex_lemma_4_1_used_dimension"], seed=seed
    )["holds"].all()
