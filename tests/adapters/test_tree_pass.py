"""S'MoRE's trees as one operation: the same numbers as by autograd, and autograd wherever somebody looks inside."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from moe_analysis.adapters import RoutingContext, Smore, tree_pass

from .cases import build, example

USUAL = [
    {"r": 2},
    {"r": [3, 2], "num_experts": [4, 3], "key_dim": [5, 6], "down_dim": 7, "balance_coef": 0.5},
    {"r": [2, 3, 1], "num_experts": [4, 3, 5], "fanout": [2, 3, 2], "activation": "relu", "balance_coef": 0.5},
    {"r": 2, "num_experts": [4, 4, 4], "fanout": [2, 2, 2], "shared_pool": True, "alpha": 6.0},
    {"r": 2, "expert_bias": False, "balance_coef": 0.0},
    {"r": 3, "num_experts": [4], "fanout": [2], "alpha": 2.0},
]
OTHERS = [
    {"gate": "noisy_topk"},
    {"gate": "dense", "fanout": [4, 4]},
    {"gate_arch": "linear"},
    {"router": "bottom_up"},
    {"router_activation": "tanh"},
    {"activation": "prelu"},
    {"activation_position": "child"},
    {"fanout": [2, 1]},
]


def mask() -> torch.Tensor:
    real = torch.ones(example().shape[:2], dtype=torch.bool)
    real[0, 3:] = False
    return real


def computed(layer: Smore, x: torch.Tensor, real: torch.Tensor | None) -> list[torch.Tensor]:
    """Update, gates, balance loss, and the gradients of a loss of all three."""
    x, layer = x.clone().requires_grad_(), copy.deepcopy(layer)
    delta, routing = layer(x, RoutingContext(token_mask=real))
    balance = torch.zeros((), dtype=x.dtype) if routing.balance_loss is None else routing.balance_loss
    weights = torch.linspace(-1, 1, delta.numel(), dtype=x.dtype).view(delta.shape)
    kept = delta if real is None else delta[real]
    loss = (weights if real is None else weights[real]).mul(kept).sum() + 10 * balance + routing.gates.square().sum()
    return [delta, routing.gates, balance, *torch.autograd.grad(loss, [x, *layer.parameters()])]


@pytest.fixture
def by_autograd(monkeypatch):
    """A function that computes a layer's trees step by step."""

    def run(*args):
        with monkeypatch.context() as patch:
            patch.setattr("moe_analysis.adapters.smore.by_hand", lambda *_: False)
            return computed(*args)

    return run


@pytest.fixture
def grown(monkeypatch) -> list[Smore]:
    """The layers whose trees were computed as one operation."""
    seen, whole = [], tree_pass.grown
    monkeypatch.setattr("moe_analysis.adapters.smore.grown", lambda *args: (seen.append(args[0]), whole(*args))[1])
    return seen


@pytest.mark.parametrize("real", [None, mask()], ids=["all", "padded"])
@pytest.mark.parametrize("options", USUAL, ids=str)
def test_trees_as_one_operation_have_the_values_and_gradients_of_autograd(options, real, by_autograd, grown):
    layer, x = build("smore", options), example()
    ours, expected = computed(layer, x, real), by_autograd(layer, x, real)
    assert len(grown) == 1
    for one, other in zip(ours, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-11)


def test_what_stands_at_padding_does_not_reach_the_balance_loss(grown):
    layer, x, real = build("smore", {"r": 2}), example(), mask()
    spoiled = x.masked_fill(~real.unsqueeze(-1), torch.nan)
    losses = [layer(one, RoutingContext(token_mask=real))[1].balance_loss for one in (x, spoiled)]
    assert len(grown) == 2 and torch.equal(*losses) and losses[0] > 0


def test_a_mask_that_changes_is_counted_anew():
    layer, x, real = build("smore", {"r": 2}), example(), mask()
    context = RoutingContext(token_mask=torch.ones_like(real))
    expected = [layer(x, RoutingContext(token_mask=one))[1].balance_loss for one in (torch.ones_like(real), real)]
    assert torch.equal(layer(x, context)[1].balance_loss, expected[0]) and not torch.equal(*expected)
    context.token_mask.copy_(real)  # written over
    assert torch.equal(layer(x, context)[1].balance_loss, expected[1])
    context.token_mask = torch.ones_like(real)  # another
    assert torch.equal(layer(x, context)[1].balance_loss, expected[0])


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_another_kind_of_tree_is_left_to_autograd(options, grown):
    build("smore", {"r": 2, **options})(example())
    assert not grown


@pytest.mark.parametrize(
    "part", ["gates.0", "gates.1.mlp", "gates.0.mlp.0", "gates.1.mlp.1", "gates.0.mlp.2", "activations.1"]
)
def test_a_hook_on_any_part_of_a_tree_is_called(part, grown):
    layer, calls = build("smore", {"r": 2}), []
    layer.get_submodule(part).register_forward_hook(lambda *_: calls.append(part))
    layer(example())
    assert calls and not grown


def test_a_counter_of_operations_finds_those_of_the_gates_at_the_gates(grown):
    layer, x = build("smore", {"r": 2}), example()
    with FlopCounterMode(display=False) as counter:
        layer(x)
    counts = counter.get_flop_counts()
    assert not grown and all(sum(counts[f"Smore.gates.{place}"].values()) for place in range(2))


def test_a_subclass_that_mixes_otherwise_is_asked(grown):
    class Own(Smore):
        def aggregate(self, *args, **kwargs):
            output, choices = super().aggregate(*args, **kwargs)
            return 2 * output, choices

    layer = build("smore", {"r": 2})
    own = Own(layer.in_features, layer.out_features, layer.config).to(torch.float64)
    own.load_state_dict(layer.state_dict())
    for one in (layer, own):
        nn.init.zeros_(one.W_proj_bias)
    x = example()
    assert torch.allclose(own(x)[0], 2 * layer(x)[0]) and grown == [layer]
