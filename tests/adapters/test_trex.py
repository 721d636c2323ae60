"""T-REX: which experts exist, how the two routers share the routing, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.adapters import RoutingContext, TRex, TRexConfig

from .cases import randomize

IN, OUT = 6, 5


def layer_of(**options) -> TRex:
    layer = TRex(IN, OUT, TRexConfig(**options)).double()
    randomize(layer)
    return layer


def inputs(layer: TRex, batch: int = 2, length: int = 3) -> tuple[torch.Tensor, RoutingContext]:
    scores = torch.rand(batch, layer.config.clusters, dtype=torch.float64)
    return torch.randn(batch, length, IN, dtype=torch.float64), RoutingContext(scores)


@settings(max_examples=30, deadline=None)
@given(num_down=st.integers(1, 5), num_up=st.integers(1, 5), seed=st.integers(0, 1000))
def test_mix_and_match_is_the_sum_of_all_pairs_as_rank_one_experts(num_down, num_up, seed):
    torch.manual_seed(seed)
    layer = layer_of(num_down=num_down, num_up=num_up)
    x, context = inputs(layer)
    delta, routing = layer(x, context)
    experts = torch.einsum("oj,in->ijon", layer.B, layer.A)  # (I, J, out, in), every b_j a_iᵀ
    update = torch.einsum("btij,ijon->bton", routing.gates, experts) * torch.sigmoid(100 * layer.output_logit)
    assert torch.allclose(delta, torch.einsum("bton,btn->bto", update, x), rtol=1e-10, atol=1e-12)


def test_gates_are_i_major():
    """Expert (i, j) is row i·J + j of the router and score i·J + j of the intuition."""
    layer = layer_of(num_down=2, num_up=3)
    x, context = inputs(layer)
    context.intuition = torch.zeros_like(context.intuition)
    context.intuition[:, 1 * 3 + 2] = 1.0
    without = layer.route(x, RoutingContext(torch.zeros_like(context.intuition))).gates
    moved = layer.route(x, context).gates - without
    assert (moved[..., 1, 2] > 0).all()
    assert moved.count_nonzero() == moved[..., 1, 2].numel()


def test_diagonal_pairing_equals_mix_and_match_with_only_its_diagonal_routed():
    diagonal = layer_of(num_down=3, num_up=3, pairing="diagonal")
    x, context = inputs(diagonal)
    delta, routing = diagonal(x, context)
    assert routing.gates.shape == (2, 3, 3)  # (batch, tokens, I)
    mixed = (x @ diagonal.A.T).unsqueeze(-2) @ torch.diag_embed(routing.gates)
    expected = mixed.squeeze(-2) @ diagonal.B.T * torch.sigmoid(100 * diagonal.output_logit)
    assert torch.allclose(delta, expected, rtol=1e-12, atol=1e-13)


def test_a_fresh_layer_gives_every_expert_half_of_the_average_weight_one():
    """ω starts at 0.5 and the router at zero: 32 experts, each 32 · 0.5 / 32, and half of 4 times the intuition."""
    layer = TRex(IN, OUT, TRexConfig(num_down=4, num_up=8)).double()
    x, context = inputs(layer)
    alone = layer.route(x).gates
    assert torch.allclose(alone, torch.full_like(alone, 0.5), rtol=1e-12)
    guided = layer.route(x, context).gates.flatten(-2)
    assert torch.allclose(guided, 0.5 + 2.0 * context.intuition.unsqueeze(1), rtol=1e-12)


def test_all_weight_on_the_router_makes_the_intuition_irrelevant():
    layer = layer_of(num_down=2, num_up=2)
    layer.omega_logit.data.fill_(10.0)
    x, context = inputs(layer)
    other = RoutingContext(-3 * context.intuition)
    assert torch.equal(layer(x, context)[0], layer(x, other)[0])
    assert layer.route(x, context).gates.sum((-1, -2)).allclose(torch.tensor(32.0, dtype=torch.float64))


def test_no_weight_on_the_router_leaves_four_times_the_intuition():
    layer = layer_of(num_down=2, num_up=2)
    layer.omega_logit.data.fill_(-10.0)
    x, context = inputs(layer)
    expected = 4 * context.intuition.view(2, 1, 2, 2).expand(2, 3, 2, 2)
    assert torch.allclose(layer.route(x, context).gates, expected, rtol=1e-12)


def test_a_closed_output_gate_closes_the_layer():
    layer = layer_of(num_down=2, num_up=2)
    layer.output_logit.data.fill_(-100.0)
    x, context = inputs(layer)
    assert layer(x, context)[0].abs().max() < 1e-30


def test_omega_stays_between_nothing_and_everything():
    layer = layer_of(num_down=2, num_up=2)
    layer.omega_logit.data.fill_(0.01)
    assert layer.omega.item() == pytest.approx(1 / (1 + math.exp(-1)), rel=1e-12)


def test_the_ablation_of_intuition_equals_a_prior_of_zero():
    with_prior, without = layer_of(num_down=2, num_up=3), layer_of(num_down=2, num_up=3, intuition=False)
    without.load_state_dict(with_prior.state_dict())
    x, context = inputs(with_prior)
    zero = RoutingContext(torch.zeros_like(context.intuition))
    assert torch.equal(without(x)[0], without(x, context)[0])
    assert torch.allclose(without(x)[0], with_prior(x)[0], rtol=1e-12)
    assert torch.allclose(without(x)[0], with_prior(x, zero)[0], rtol=1e-12)


def test_the_ablation_of_the_router_routes_by_the_prompt_alone():
    layer = layer_of(num_down=2, num_up=3, router=False)
    assert not hasattr(layer, "router")
    x, context = inputs(layer)
    gates = layer.route(x, context).gates
    assert torch.equal(gates, gates[:, :1].expand_as(gates))  # one routing a sample, whatever the token


def test_the_mapper_turns_any_number_of_clusters_into_experts():
    layer = layer_of(num_down=2, num_up=2, intuition_mapper=True, num_clusters=9)
    x, context = inputs(layer)
    assert context.intuition.shape == (2, 9)
    plain = layer_of(num_down=2, num_up=2)
    plain.load_state_dict({key: value for key, value in layer.state_dict().items() if key != "mapper.weight"})
    mapped = RoutingContext(context.intuition @ layer.mapper.weight.T)
    assert torch.allclose(layer(x, context)[0], plain(x, mapped)[0], rtol=1e-12)


def test_the_mapper_is_trained():
    """The authors leave theirs frozen by mistake."""
    layer = layer_of(num_down=2, num_up=2, intuition_mapper=True)
    x, context = inputs(layer)
    layer(x, context)[0].square().sum().backward()
    assert layer.mapper.weight.grad.any()
    assert any(parameter is layer.mapper.weight for parameter in layer.router_parameters())


def test_each_sample_is_routed_by_its_own_intuition_at_every_token():
    layer = layer_of(num_down=2, num_up=3)
    x, context = inputs(layer, batch=3, length=4)
    together = layer(x, context)[0]
    for sample in range(3):
        for token in range(4):
            one = x[sample : sample + 1, token : token + 1]
            alone = layer(one, RoutingContext(context.intuition[sample : sample + 1]))[0]
            assert torch.allclose(together[sample, token], alone[0, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("length", [1, 3])
def test_flattened_tokens_are_routed_as_the_sample_they_came_from(length):
    layer = layer_of(num_down=2, num_up=3)
    x, context = inputs(layer, length=length)
    delta, routing = layer(x.flatten(0, 1), context)
    expected, whole = layer(x, context)
    assert torch.allclose(delta, expected.flatten(0, 1), rtol=1e-12, atol=1e-14)
    assert torch.allclose(routing.gates, whole.gates.flatten(0, 1), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "shape, rows",
    [((4, 3, IN), 4), ((1, 3, IN), 1), ((4, 1, 3, IN), 4), ((3, IN), 3), ((1, IN), 1), ((IN,), 1), ((0, 3, IN), 0)],
    ids=str,
)
def test_rows_that_belong_to_no_sample_are_refused_with_both_numbers(shape, rows):
    layer = layer_of(num_down=2, num_up=3)
    message = f"intuition has 2 rows but the layer's input has {rows}; pass one row per sample"
    for call in (layer, layer.route):
        with pytest.raises(ValueError, match=message):
            call(torch.randn(*shape, dtype=torch.float64), RoutingContext(torch.rand(2, 6)))


def test_no_samples_belong_to_no_rows():
    layer = layer_of(num_down=2, num_up=3)
    with pytest.raises(ValueError, match="intuition has 0 rows but the layer's input has 4"):
        layer(torch.randn(4, IN, dtype=torch.float64), RoutingContext(torch.rand(0, 6)))


FORMS = {
    "array": np.asarray,
    "float32": np.float32,
    "list": torch.Tensor.tolist,
    "frame": pd.DataFrame,
    "rows": lambda rows: list(rows.numpy()),
    "tensors": tuple,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("assigned", [False, True], ids=["given", "assigned"])
def test_an_intuition_of_another_kind_is_the_tensor_of_its_numbers(form, assigned):
    layer = layer_of(num_down=2, num_up=3)
    x, context = inputs(layer)
    rows = context.intuition.float().double()  # float32 can hold them
    expected = layer(x, RoutingContext(rows))[0]
    given = RoutingContext(form(rows))
    if assigned:
        given = RoutingContext()
        given.intuition = form(rows)
    assert torch.allclose(layer(x, given)[0], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("wrong", ["0.5 0.5", [["a", "b"]], [[0.5], [0.5, 0.25]], 3])
def test_an_intuition_that_is_no_table_is_refused_by_name(wrong):
    layer = layer_of(num_down=2, num_up=3)
    with pytest.raises(ValueError, match="intuition"):
        layer(inputs(layer)[0], RoutingContext(wrong))


def test_an_intuition_of_the_wrong_width_names_both_widths_and_two_remedies():
    layer = layer_of(num_down=3, num_up=4)
    x, _ = inputs(layer)
    message = (
        r"num_down\*num_up = 12 but intuition has 32 clusters; "
        r"pass intuition_mapper=True or cluster with k=12"
    )
    with pytest.raises(ValueError, match=message):
        layer(x, RoutingContext(torch.rand(2, 32)))


def test_a_mapper_of_another_width_says_which_field_to_set():
    layer = layer_of(num_down=2, num_up=2, intuition_mapper=True)
    with pytest.raises(ValueError, match="expects 32 clusters but intuition has 9; set num_clusters=9"):
        layer(inputs(layer)[0], RoutingContext(torch.rand(2, 9)))


def test_a_diagonal_layer_counts_its_experts_once():
    layer = layer_of(num_down=3, num_up=3, pairing="diagonal")
    with pytest.raises(ValueError, match="num_down = 3 but intuition has 9 clusters"):
        layer(inputs(layer)[0], RoutingContext(torch.rand(2, 9)))


def test_an_intuition_per_token_is_refused():
    layer = layer_of(num_down=2, num_up=2)
    with pytest.raises(ValueError, match="intuition"):
        layer(inputs(layer)[0], RoutingContext(torch.rand(2, 3, 4)))


def test_a_context_without_intuition_is_an_error_and_not_a_silent_zero():
    layer = layer_of(num_down=2, num_up=2)
    with pytest.raises(ValueError, match=r"intuition = None; pass intuition=\(batch, clusters\)"):
        layer(inputs(layer)[0], RoutingContext())


BAD = [
    ({"pairing": "outer"}, "pairing = 'outer' is unknown; choose one of mix_and_match, diagonal"),
    ({"num_down": 0}, "num_down = 0 and num_up = 8 must both be at least 1"),
    ({"pairing": "diagonal", "num_down": 3, "num_up": 4}, "num_down = num_up, not num_down = 3 and num_up = 4"),
    ({"router": False, "intuition": False}, "router and intuition are both False"),
    ({"intuition_mapper": True, "intuition": False}, "intuition_mapper=True needs intuition=True"),
    ({"num_down": 2, "num_up": 2, "num_clusters": 7}, r"num_down\*num_up = 4 but intuition has 7 clusters"),
]


@pytest.mark.parametrize("options, message", BAD, ids=[str(options) for options, _ in BAD])
def test_a_configuration_that_cannot_be_is_refused_by_name_and_value(options, message):
    with pytest.raises(ValueError, match=message):
        TRex(IN, OUT, TRexConfig(**options))


@settings(max_examples=25, deadline=None)
@given(num_down=st.integers(1, 4), num_up=st.integers(1, 4), seed=st.integers(0, 100))
def test_a_single_update_has_at_most_the_rank_of_the_smaller_side(num_down, num_up, seed):
    torch.manual_seed(seed)
    layer = layer_of(num_down=num_down, num_up=num_up)
    context = RoutingContext(torch.rand(1, num_down * num_up, dtype=torch.float64))
    gates = layer.route(torch.randn(1, IN, dtype=torch.float64), context).gates[0]
    update = layer.B @ gates.T @ layer.A
    assert torch.linalg.matrix_rank(update) <= min(num_down, num_up)


@pytest.mark.parametrize("shape", [(), (6,), (2, 1, 6), (2, 3, 6)])
def test_an_intuition_that_is_no_table_is_refused_by_its_shape(shape):
    layer = layer_of(num_down=2, num_up=3)
    with pytest.raises(ValueError, match=r"intuition has the shape \(.*; pass \(batch, clusters\)"):
        layer(inputs(layer)[0], RoutingContext(torch.rand(shape)))


@pytest.mark.parametrize("clusters", [0, -1])
@pytest.mark.parametrize("mapper", [False, True])
def test_a_number_of_clusters_below_one_is_refused(clusters, mapper):
    with pytest.raises(ValueError, match=f"num_clusters = {clusters} must be at least 1"):
        TRexConfig(num_clusters=clusters, intuition_mapper=mapper).check()
