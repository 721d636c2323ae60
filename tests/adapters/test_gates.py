"""Properties of the gates and of their balance losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from moe_analysis.adapters import MoeLora, MoeLoraConfig, RoutingContext, Sira, SiraConfig, gates

from .cases import IN, build

few = settings(max_examples=40, deadline=None)


def tables(rows: int | None = None):
    """Logits (tokens, E), 2 to 6 experts, no two logits of a token equal: a tie has no k largest."""
    shape = st.tuples(st.just(rows) if rows else st.integers(1, 6), st.integers(2, 6))
    numbers = st.integers(-300, 300).map(lambda value: value / 100)
    return shape.flatmap(lambda s: npst.arrays(np.float64, s, elements=numbers)).map(
        lambda logits: torch.from_numpy(logits + np.linspace(0, 1e-3, logits.shape[1]))
    )


def routed(logits: torch.Tensor, token_mask=None, training: bool = False, **options):
    """The routing of a layer whose router's logits are the given ones."""
    width = logits.shape[-1]
    layer = MoeLora(width, 3, MoeLoraConfig(r=1, num_experts=width, **options)).double().train(training)
    layer.router.weight.data = torch.eye(width, dtype=torch.float64)
    return layer.route(logits, token_mask)


@few
@given(logits=tables(), data=st.data(), gate=st.sampled_from(["softmax", "switch", "noisy_topk"]))
def test_exactly_k_gates_are_not_zero_and_they_belong_to_the_largest_logits(logits, data, gate):
    k = data.draw(st.integers(1, logits.shape[1]))
    weights = routed(logits, gate=gate, top_k=k).gates
    assert ((weights > 0).sum(-1) == k).all()
    chosen = logits.topk(k, dim=-1).indices
    assert (weights.gather(-1, chosen) > 0).all()


@few
@given(logits=tables(), data=st.data(), gate=st.sampled_from(["softmax", "noisy_topk"]))
def test_renormalized_gates_sum_to_one(logits, data, gate):
    k = data.draw(st.integers(1, logits.shape[1]))
    sums = routed(logits, gate=gate, top_k=k).gates.sum(-1)
    assert torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


@few
@given(logits=tables(), data=st.data())
def test_kept_gates_keep_their_softmax_value_without_renormalising(logits, data):
    k = data.draw(st.integers(1, logits.shape[1]))
    weights = routed(logits, top_k=k, normalize_gates=False).gates
    kept = weights > 0
    assert torch.allclose(weights[kept], logits.softmax(-1)[kept], rtol=1e-12, atol=0)


@few
@given(logits=tables())
def test_a_dense_gate_is_the_softmax_and_has_no_balance_loss(logits):
    routing = routed(logits, gate="dense")
    assert torch.allclose(routing.gates, logits.softmax(-1), rtol=1e-12, atol=1e-15)
    assert routing.balance_loss is None


@few
@given(logits=tables(), temperature=st.floats(-2, 2))
def test_all_gates_ignore_a_constant_added_to_the_logits(logits, temperature):
    for gate in gates.GATES:
        shifted = routed(logits + temperature, gate=gate).gates
        assert torch.allclose(shifted, routed(logits, gate=gate).gates, rtol=0, atol=1e-12)


def gate_gradient(gate: str, k: int, **options) -> torch.Tensor:
    logits = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    weights = routed(logits, gate=gate, top_k=k, balance_coef=0.0, **options).gates
    (weights * torch.randn_like(weights)).sum().backward()
    return logits.grad


def test_a_single_switch_expert_keeps_a_gradient():
    assert (gate_gradient("switch", 1).abs().sum(-1) > 1e-6).all()


def test_a_single_renormalized_expert_has_none():
    assert gate_gradient("softmax", 1).abs().max() < 1e-15


@few
@given(k=st.integers(1, 4), scale=st.floats(0.01, 2.0))
def test_balanced_routing_costs_k_times_the_coefficient(k, scale):
    """Every expert chosen equally often with equal mean probability: E · Σ (k/E)(1/E) = k."""
    row = torch.tensor([0.3, 0.2, 0.1, 0.0], dtype=torch.float64)
    logits = torch.stack([row.roll(shift) for shift in range(4)])
    loss = routed(logits, gate="switch", top_k=k, balance_coef=scale).balance_loss
    assert loss.item() == pytest.approx(scale * k, rel=1e-12)


@few
@given(logits=tables(rows=1), data=st.data())
def test_tokens_that_all_agree_cost_at_least_as_much_as_balanced_ones(logits, data):
    k = data.draw(st.integers(1, logits.shape[1]))
    loss = routed(logits.repeat(3, 1), gate="switch", top_k=k, balance_coef=1.0).balance_loss
    assert loss.item() >= k * (1 - 1e-12)


def test_the_switch_loss_pushes_the_crowded_expert_down():
    logits = torch.tensor([[1.0, 0.0, -0.5]] * 4, dtype=torch.float64, requires_grad=True)
    routed(logits, gate="switch", top_k=1).balance_loss.backward()
    assert (logits.grad[:, 0] > 0).all() and (logits.grad[:, 1:] < 0).all()


@few
@given(
    logits=tables(rows=6),
    mask=st.lists(st.booleans(), min_size=6, max_size=6).filter(any),
    gate=st.sampled_from(["switch", "noisy_topk"]),
)
def test_balance_losses_ignore_padding(logits, mask, gate):
    keep = torch.tensor(mask)
    padded = routed(logits.view(2, 3, -1), keep.view(2, 3), gate=gate, top_k=1).balance_loss
    bare = routed(logits[keep], gate=gate, top_k=1).balance_loss
    assert torch.allclose(padded, bare, rtol=1e-12, atol=1e-15)


def test_in_training_the_noisy_balance_loss_ignores_padding_too():
    logits, mask = torch.randn(1, 6, 4, dtype=torch.float64), torch.tensor([[1, 1, 1, 1, 0, 0]])
    losses = []
    for filler in (0.0, 5.0):
        logits[0, 4:, 0] = filler
        torch.manual_seed(3)
        losses.append(routed(logits, mask, training=True, gate="noisy_topk", top_k=2).balance_loss.item())
    assert losses[0] == losses[1]


def test_a_mask_of_another_length_is_refused_with_both_counts():
    with pytest.raises(ValueError, match="token_mask has 4 tokens but the layer's input has 6"):
        routed(torch.randn(2, 3, 4, dtype=torch.float64), torch.ones(2, 2), gate="switch", top_k=1)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_smooth_load_is_the_chance_of_staying_chosen_under_fresh_noise(k):
    """Monte Carlo over the noise of one expert at a time, the others' noise held."""
    clean = torch.tensor([0.5, 0.1, -0.3, 0.2], dtype=torch.float64)
    scale = torch.tensor([0.7, 0.3, 1.1, 0.5], dtype=torch.float64)
    noisy = clean + scale * torch.tensor([0.4, -1.2, 0.9, 0.1], dtype=torch.float64)
    exact = gates.smooth_load(clean, noisy, scale, k)
    draws = 40_000
    for expert in range(4):
        others = noisy.repeat(draws, 1)
        others[:, expert] = clean[expert] + scale[expert] * torch.randn(draws, dtype=torch.float64)
        chosen = (others.topk(k, dim=-1).indices == expert).any(-1).double().mean()
        assert chosen.item() == pytest.approx(exact[expert].item(), abs=5 * 0.5 / draws**0.5)


def test_noise_is_drawn_in_training_only():
    logits = torch.randn(50, 6, dtype=torch.float64)
    calm = [routed(logits, gate="noisy_topk", top_k=2).gates for _ in range(2)]
    noisy = [routed(logits, training=True, gate="noisy_topk", top_k=2).gates for _ in range(2)]
    assert torch.equal(*calm)
    assert not torch.equal(*noisy)


def test_the_noise_has_the_standard_deviation_that_it_reports():
    clean = torch.zeros(100_000, dtype=torch.float64)
    noisy, scale = gates.noisy_logits(clean, torch.full_like(clean, 0.3), training=True)
    assert scale.tolist() == pytest.approx([np.log1p(np.exp(0.3)) + 1e-2] * len(clean), rel=1e-12)
    assert noisy.std().item() == pytest.approx(scale[0].item(), rel=0.02)


def test_the_noisy_loss_is_the_sum_of_both_squared_variations():
    weights, load = torch.rand(7, 4, dtype=torch.float64), torch.rand(7, 4, dtype=torch.float64)
    expected = sum(np.var(v, ddof=1) / np.mean(v) ** 2 for v in (weights.numpy().sum(0), load.numpy().sum(0)))
    assert gates.noisy_loss(weights, load, None).item() == pytest.approx(expected, rel=1e-8)


def test_perfect_balance_has_no_noisy_loss():
    weights = torch.eye(4, dtype=torch.float64)
    assert gates.noisy_loss(weights, weights, None).item() == 0.0


def test_the_balance_loss_does_not_depend_on_the_number_of_tokens():
    logits = torch.randn(5, 4, dtype=torch.float64)
    for gate in ("switch", "noisy_topk"):
        once, twice = (routed(rows, gate=gate, top_k=2).balance_loss for rows in (logits, logits.repeat(2, 1)))
        assert torch.allclose(once, twice, rtol=1e-8)


@pytest.mark.parametrize("gate, expected", [("softmax", 0.0), ("switch", 1e-2), ("noisy_topk", 1e-2), ("dense", 0.0)])
def test_each_gate_has_its_own_default_coefficient(gate, expected):
    top_k = None if gate == "dense" else 2
    assert MoeLoraConfig(num_experts=4, top_k=top_k, gate=gate).balance_weight == expected


BAD = [
    ({"gate": "sparse"}, r"gate = 'sparse' is unknown; choose one of softmax, switch, noisy_topk, dense"),
    ({"num_experts": 0}, r"num_experts = 0 must be at least 1"),
    ({"top_k": 9}, r"top_k = 9 must be between 1 and num_experts = 8"),
    ({"top_k": 0}, r"top_k = 0 must be between 1 and num_experts = 8"),
    ({"gate": "dense", "top_k": 2}, r"dense gate keeps every expert, but top_k = 2 of 8; leave top_k out"),
    ({"gate": "dense", "balance_coef": 0.1}, r"dense gate has no balance loss, but balance_coef = 0.1"),
    ({"gate": "noisy_topk", "balance_coef": 0.1}, r"noisy top-k needs top_k < num_experts = 8"),
    ({"gate_backward_power": 1.5}, r"gate_backward_power = 1.5 must be in \[0, 1\]"),
    ({"balance_coef": -1.0, "gate": "switch"}, r"balance_coef = -1.0"),
    ({"r": 0}, r"r = 0 must be at least 1"),
    ({"dropout": 1.0}, r"dropout = 1.0 must be in \[0, 1\)"),
]


@pytest.mark.parametrize("options, message", BAD, ids=[str(options) for options, _ in BAD])
def test_a_configuration_that_cannot_be_is_refused_by_name_value_and_remedy(options, message):
    with pytest.raises(ValueError, match=message):
        MoeLora(6, 5, MoeLoraConfig(**options))


def test_sira_with_fewer_experts_than_it_keeps_says_so():
    with pytest.raises(ValueError, match="top_k = 6 must be between 1 and num_experts = 4"):
        Sira(6, 5, SiraConfig(num_experts=4))


def test_the_mask_of_the_context_reaches_the_balance_loss():
    layer = MoeLora(6, 5, MoeLoraConfig(num_experts=4, top_k=1, gate="switch")).double()
    x, mask = torch.randn(2, 3, 6, dtype=torch.float64), torch.tensor([[1, 1, 0], [1, 0, 0]])
    masked = layer(x, RoutingContext(token_mask=mask))[1].balance_loss
    assert torch.allclose(masked, layer(x[mask.bool()])[1].balance_loss, rtol=1e-12)
    assert not torch.allclose(masked, layer(x)[1].balance_loss)


def test_a_batch_of_padding_alone_has_a_finite_balance_loss():
    logits, nothing = torch.randn(1, 3, 4, dtype=torch.float64), torch.zeros(1, 3)
    for gate in ("switch", "noisy_topk"):
        assert routed(logits, nothing, gate=gate, top_k=2).balance_loss.item() == 0.0


def test_an_unnormalized_noisy_gate_is_refused():
    for config in (MoeLoraConfig(gate="noisy_topk", top_k=2, normalize_gates=False), SiraConfig(gate="noisy_topk")):
        with pytest.raises(ValueError, match="normalize_gates = False has no meaning for gate = 'noisy_topk'"):
            config.check()


@pytest.mark.parametrize("masked", [False, True])
def test_balance_losses_of_more_tokens_than_float16_can_count_are_those_of_float64(masked):
    logits = torch.randn(200_000, 1, 2).half()
    mask = torch.arange(len(logits)) > 0 if masked else None
    chosen = logits.argmax(-1, keepdim=True)
    weights = torch.zeros_like(logits).scatter(-1, chosen, 1.0)
    for loss in (
        lambda dtype: gates.switch_loss(logits.softmax(-1).to(dtype), weights, mask),
        lambda dtype: gates.tree_switch_loss(logits.softmax(-1).to(dtype), chosen, mask),
        lambda dtype: 1 + gates.noisy_loss(weights.to(dtype), logits.softmax(-1).to(dtype), mask),
    ):
        assert loss(torch.float16).item() == pytest.approx(loss(torch.float64).item(), rel=1e-3)


@pytest.mark.parametrize("options", [{}, {"activation": "identity"}], ids=["by hand", "by autograd"])
def test_a_tree_of_float16_has_the_balance_loss_of_float64(options):
    layer, x = build("smore", {"r": 1, "num_experts": [2, 2], **options}, torch.float16), torch.randn(9_000, IN).half()
    with torch.no_grad():
        half = layer(x)[1].balance_loss
        exact = layer.double()(x.double())[1].balance_loss
    assert half.item() == pytest.approx(exact.item(), rel=0.02)


def test_the_noise_of_float16_has_finite_gradients_where_it_is_small():
    clean = torch.tensor([[4.0, 0.0, -4.0]], dtype=torch.float16, requires_grad=True)
    scale = torch.full((1, 3), 1e-2, dtype=torch.float16, requires_grad=True)
    gates.smooth_load(clean, clean + 0.0, scale, 1).sum().backward()
    assert clean.grad.isfinite().all() and scale.grad.isfinite().all()


@pytest.mark.parametrize("name", ["moelora", "momor", "smore"])
def test_a_mask_that_is_no_table_is_refused(name):
    layer = build(name, {"r": 2, "gate": "switch"})
    with pytest.raises(ValueError, match="token_mask is a str; pass a tensor or an array"):
        layer(torch.randn(3, IN, dtype=torch.float64), RoutingContext(token_mask="all"))
