"""Dimensions used by routings, spans at equal parameters, and the counts of Fig. 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.studies.subspace import parameters, used
from moe_analysis.studies.subspace import span as subspace
from moe_analysis.theory.trex import realised_updates


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 99))
def test_the_used_dimension_is_the_number_of_directions_that_routings_combine(rank, seed):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((12, rank)))[0].T  # (rank, 12)
    gates = (np.linalg.qr(rng.standard_normal((40, rank)))[0] @ basis).reshape(40, 3, 4)
    found = used.used_dimension(gates)
    assert (found["tokens"], found["experts"]) == (40, 12)
    assert [found[f"rank_{tolerance:g}"] for tolerance in used.TOLERANCES] == [rank] * 3
    assert found["effective_rank"] == pytest.approx(rank)  # equal weight by construction


def test_the_used_dimension_is_that_of_the_updates_themselves():
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((3, 9)), rng.standard_normal((8, 4))
    gates = rng.standard_normal((50, 5)) @ rng.standard_normal((5, 12))
    updates = realised_updates(A, B, gates.reshape(50, 3, 4)).reshape(50, -1)
    assert used.used_dimension(gates)["rank_1e-06"] == np.linalg.matrix_rank(updates) == 5


def test_tokens_with_one_routing_use_one_direction_and_none_after_centring():
    found = used.used_dimension(np.tile(np.float32([0.1, 0.2, 0.7]), (30, 1)))
    assert found["rank_1e-06"] == 1 and found["centred_rank_1e-06"] == 0
    assert found["effective_rank"] == pytest.approx(1) and found["centred_effective_rank"] == 0
    assert found["top_share"] == pytest.approx(1)


def test_softmax_routings_lose_one_direction_by_centring():
    gates = torch.softmax(torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64), -1)
    found = used.used_dimension(gates)
    assert (found["rank_1e-06"], found["centred_rank_1e-06"]) == (6, 5)


def test_a_rank_finer_than_the_recorded_precision_is_missing_rather_than_invented():
    gates = np.random.default_rng(0).random((20, 4)).astype(np.float16)
    found = used.used_dimension(gates)
    assert found["rank_1e-06"] is None and found["rank_0.01"] == 4


def test_a_reduced_matrix_has_the_singular_values_of_the_whole():
    gates = np.random.default_rng(3).random((300, 2, 3))
    whole = np.linalg.svd(gates.reshape(300, 6), compute_uv=False)
    np.testing.assert_allclose(used.routing_spectrum(gates), whole)


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (np.ones(4), "pass \\(tokens, experts\\)"),
        (np.ones((0, 4)), "with tokens in it"),
        (np.array([[1.0, np.nan]]), "NaN or infinite"),
    ],
)
def test_routings_that_cannot_be_measured_are_refused(gates, message):
    with pytest.raises(ValueError, match=message):
        used.used_dimension(gates)


def test_trained_factors_span_the_product_of_their_ranks():
    rng = np.random.default_rng(4)
    A, B = torch.randn(4, 9, generator=torch.Generator().manual_seed(0), requires_grad=True), rng.random((8, 3))
    B[:, 2] = B[:, 0]
    assert used.trained_span(A, B) == {"rank_a": 4, "rank_b": 2, "experts": 12, "span": 8}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_the_span_of_a_mixture_needs_no_full_matrices(experts, rank, seed):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((experts, rank, 7)), rng.standard_normal((experts, 5, rank))
    if experts > 1:
        A[-1], B[-1] = A[0], 2 * B[0]
    full = np.linalg.matrix_rank((B @ A).reshape(experts, -1))
    assert used.trained_span(A, B)["span"] == full == max(1, experts - 1)


def test_factors_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="are not factors"):
        used.trained_span(np.ones((2, 3, 4)), np.ones((3, 4, 3)))


def test_the_plot_frame_holds_every_size_and_measures_what_is_predicted():
    frame = subspace.rank_plot_frame(max_rank=3)
    assert len(frame) == 9 * len(subspace.KINDS)
    assert (frame["measured"] == frame["predicted"]).all()
    full, repeated = (frame[frame["kind"] == kind] for kind in ("independent", "repeated"))
    assert (full["measured"] == full["experts"]).all()
    assert (repeated["measured"] < repeated["experts"]).any()


def test_at_equal_factors_the_spans_are_one_e_r_and_r_squared():
    table = subspace.span_table(r=4, in_features=8, out_features=6, num_experts=2)
    assert table["span"].tolist() == [1, 2, 4, 16]
    assert table["factor_parameters"].unique().tolist() == [4 * 14]
    assert table["router_parameters"].tolist() == [0, 16, 32, 128]


def test_counting_the_router_bounds_the_lead_of_mix_and_match():
    table = subspace.span_by_budget([4096, 65536], 128, 128, num_experts=8)
    lead = table.pivot(index=["count", "budget"], columns="system", values="span")
    ratio = lead["mix_and_match"] / lead["diagonal"]
    assert ratio["factors"].tolist() == [16, 64]
    assert (ratio["factors+router"] < 3).all()


def test_sizes_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="num_experts = 4 does not divide r = 6"):
        subspace.span_table(r=6, num_experts=4)
    with pytest.raises(ValueError, match="r = 30 is larger than the layer"):
        subspace.span_table(r=30)
    with pytest.raises(ValueError, match="counts = \\['all'\\] is unknown"):
        subspace.span_by_budget([4096], 8, 8, counts=["all"])


def test_figure_one_counts_the_parameters_of_the_real_modules():
    table = parameters.figure1_parameters(20, 10).set_index("system")
    assert table.loc["LoRA", "parameters"] == 6 * 30
    assert table.loc["LoRA-MoE", "parameters"] == 6 * 30 + 6 * 20
    assert table.loc["T-REX", "parameters"] == 2 * 20 + 3 * 10 + 6 * 20 + 2
    assert table["experts"].tolist() == [1, 6, 6]
    assert (table["factor_parameters"] + table["other_parameters"] == table["parameters"]).all()
