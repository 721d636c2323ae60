"""A layer that gets no tokens (an expert that nobody chose, an empty batch) gives none, as nn.Linear does."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from moe_analysis.adapters import RoutingContext

from .cases import CASES, IN, OUT, build, case_id, clusters

GATES = [
    *(
        ("moelora", {"r": 2, "num_experts": 4, "top_k": k, "gate": gate, "balance_coef": 1.0})
        for gate in ("switch", "noisy_topk")
        for k in (1, 2)
    ),
    ("hydralora", {"r": 2, "gate": "noisy_topk", "top_k": 2, "gate_backward_power": 0.5}),
    *(
        ("smore", {"r": 2, "gate": gate, "fanout": fanout, "activation_position": position})
        for gate, fanout in (("dense", [4, 4]), ("noisy_topk", [2, 2]))
        for position in ("all", "child", "child_scored")
    ),
]


SHAPES = [(0,), (0, 5), (3, 0)]


@pytest.mark.parametrize("fused", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", [*CASES, *GATES], ids=case_id)
def test_no_tokens_give_no_output_and_gradients_of_zero(case, training, fused):
    built = build(*case).train(training)
    base = nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False) if fused else None
    width = clusters(built.config)
    for shape in SHAPES:
        layer = copy.deepcopy(built)  # a layer that has seen nothing, at every shape
        x = torch.randn(*shape, IN, dtype=torch.float64, requires_grad=True)
        intuition = None if width is None else torch.rand(shape[0], width)
        mask = torch.ones(*shape, dtype=torch.bool) if len(shape) == 2 else None
        delta, routing = layer(x, RoutingContext(intuition, mask), base)
        assert delta.shape == (*shape, OUT)
        gates = routing.gates
        assert gates.shape[: len(shape)] == shape, shape
        assert gates.flatten(len(shape)).shape[-1] == layer.num_gates, shape
        loss = delta.square().sum() + gates.sum()
        if routing.balance_loss is not None:
            assert routing.balance_loss.item() == 0.0, shape
            loss = loss + routing.balance_loss
        loss.backward()
        assert x.grad.shape == x.shape
        for name, parameter in layer.named_parameters():
            # any() sees NaN too
            assert parameter.grad is None or not parameter.grad.any(), (name, shape)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_tree_or_gates_of_no_tokens_have_the_shape_of_the_input(case):
    layer = build(*case)
    width = clusters(layer.config)
    context = RoutingContext(None if width is None else torch.rand(2, width))
    routing = layer(torch.randn(2, 0, IN, dtype=torch.float64), context)[1]
    for ids in getattr(routing, "tree", []):
        assert ids.shape[:2] == (2, 0) and ids.shape[2] > 0
