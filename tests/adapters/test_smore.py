"""S'MoRE beyond the contract: what its configuration refuses, its routing, its start, its weights on disk."""

from __future__ import annotations

import pytest
import torch

from moe_analysis.adapters import MomorConfig, RoutingContext, Smore, SmoreConfig
from moe_analysis.adapters.bottom_up import distinct_best

from .cases import IN, OUT, build, example


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fanout": [5, 2]}, r"fanout\[0\] = 5 must be between 1 and num_experts\[0\] = 4"),
        ({"fanout": [2, 0]}, r"fanout\[1\] = 0 must be between 1 and"),
        ({"fanout": [2]}, r"fanout = \[2\] has 1 entries but num_experts has 2"),
        ({"r": [2, 2, 2]}, r"r = \[2, 2, 2\] has 3 entries but num_experts has 2"),
        ({"alpha": [1.0]}, r"alpha = \[1.0\] has 1 entries but num_experts has 2"),
        ({"num_experts": 4}, "num_experts = 4 must be a list"),
        ({"shared_pool": True, "num_experts": [4, 3]}, "shared_pool=True needs equal layers"),
        ({"shared_pool": True, "r": [2, 3]}, "shared_pool=True needs equal layers"),
        ({"gate": "dense", "fanout": [4, 4], "balance_coef": 0.1}, "a dense gate has no balance loss"),
        ({"gate": "dense"}, "a dense gate keeps every expert"),
        ({"gate": "noisy_topk", "fanout": [2, 4]}, "noisy top-k needs top_k < num_experts"),
        ({"router": "bottom_up", "gate": "noisy_topk"}, "router = 'bottom_up' supports only gate = 'switch'"),
        ({"activation": "gelu"}, "activation = 'gelu' is unknown; choose one of identity, tanh"),
        ({"activation_position": "child_v2"}, "activation_position = 'child_v2' is unknown"),
        ({"gate_backward_power": 0.5}, "gate_backward_power = 0.5 has no meaning for SmoreConfig"),
        ({"down_dim": 0}, "down_dim = 0 must be at least 1"),
        ({"dropout": 1.0}, "dropout = 1.0 must be in"),
    ],
)
def test_a_configuration_that_breaks_a_rule_is_refused_by_that_rule(options, message):
    with pytest.raises(ValueError, match=message):
        Smore(IN, OUT, SmoreConfig(**options))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"top_k": [2]}, r"top_k = \[2\] has 1 entries but num_experts has 2"),
        ({"top_k": [5, 2]}, "top_k = 5 must be between 1 and num_experts = 4"),
        ({"gate": "noisy"}, "gate = 'noisy' is unknown"),
        ({"gate": ["switch", "dense"]}, "a dense gate keeps every expert"),
        ({"r": 0}, "r = 0 must be at least 1"),
    ],
)
def test_a_momor_that_breaks_a_rule_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MomorConfig(**options).check()


def test_widths_and_nodes_are_the_papers():
    config = SmoreConfig(num_experts=[4, 3, 2], fanout=[2, 1, 2], r=[2, 3, 4])
    assert config.widths == [0, 8, 17, 25] and config.nodes == [4, 2, 2, 1]
    assert SmoreConfig(shared_pool=True, r=3).widths == [0, 12, 12]


@pytest.mark.parametrize("options", [{"r": 2}, {"r": 2, "gate": "noisy_topk"}, {"r": 2, "router": "bottom_up"}])
def test_padding_takes_no_part_in_the_balance_loss(options):
    layer, x = build("smore", options), example()
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    mask[:, 3:] = False
    elsewhere = x.clone()
    elsewhere[:, 3:] = torch.randn_like(elsewhere[:, 3:])
    losses = [layer(one, RoutingContext(token_mask=mask))[1].balance_loss for one in (x, elsewhere)]
    alone = layer(x[:, :3])[1].balance_loss
    assert torch.allclose(losses[0], losses[1]) and torch.allclose(losses[0], alone)
    assert not torch.allclose(losses[0], layer(x)[1].balance_loss)


@pytest.mark.parametrize(
    "options",
    [
        {"r": 2},
        {"r": 2, "router": "bottom_up"},
        {"num_experts": [4, 3, 4], "fanout": [2, 3, 2], "r": 1, "router": "bottom_up"},
    ],
)
def test_siblings_are_different_experts_and_their_scores_sum_to_one(options):
    layer = build("smore", options)
    for choice in layer(example())[1].choices:
        assert (choice.ids.sort(-1).values.diff(dim=-1) > 0).all()
        assert torch.allclose(choice.scores.sum(-1), torch.ones(1, dtype=torch.float64))


def test_gates_are_the_sums_over_paths_of_the_products_of_scores():
    layer = build("smore", {"r": 2})
    routing = layer(example())[1]
    lowest, top = routing.choices
    expected = torch.zeros(lowest.ids.shape[0], 8, dtype=torch.float64)
    for n in range(len(expected)):
        for i, upper in enumerate(top.ids[n, 0]):
            expected[n, 4 + upper] += top.scores[n, 0, i]
            for lower, score in zip(lowest.ids[n, i], lowest.scores[n, i], strict=True):
                expected[n, lower] += top.scores[n, 0, i] * score
    assert torch.allclose(routing.gates.reshape(-1, 8), expected, rtol=0, atol=1e-14)
    assert [tuple(ids.shape[-1:]) for ids in routing.tree] == [(4,), (2,)]


def test_each_sibling_takes_the_best_that_is_left():
    scores = torch.tensor([[[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.7, 0.2, 0.1]]])
    assert distinct_best(scores).tolist() == [[0, 2, 1]]


def test_a_shared_pool_is_stored_once():
    layer = Smore(IN, OUT, SmoreConfig(shared_pool=True, r=2, num_experts=[4] * 3, fanout=[2] * 3))
    assert [name for name in layer.state_dict() if name.startswith(("A.", "B."))] == ["A.0", "B.0"]


def test_a_single_noisy_expert_keeps_its_cosine_which_can_be_negative():
    layer = build("smore", {"r": 2, "num_experts": [2, 2], "fanout": [1, 1], "gate": "noisy_topk"})
    routing = layer(torch.randn(200, IN, dtype=torch.float64))[1]
    scores = torch.cat([choice.scores.flatten() for choice in routing.choices])
    assert scores.abs().max() <= 1 + 1e-12 and scores.std() > 0.01
