"""Second derivatives are the derivatives of the gradient that the backward pass gives, by central differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from moe_analysis.adapters import Adapter

from .cases import CASES, IN, OUT, build, case_id, context_for, example

STEP = 1e-6
PLAIN = [case for case in CASES if case[1].get("gate_backward_power", 1.0) == 1.0]
RELU = ("smore", {"r": 2, "activation": "relu", "fanout": [2, 4]})
RESCALED = [
    *(("moelora", {"r": 2, "num_experts": 4, "top_k": 2, "gate_backward_power": power}) for power in (0.5, 0.0)),
    ("moelora", {"r": 2, "num_experts": 3, "gate_backward_power": 0.25}),
    ("hydralora", {"r": 2, "gate_backward_power": 0.5}),
    ("momor", {"r": 2, "gate_backward_power": 0.5}),
]


class Loss:
    """A loss of the output of a frozen layer and its adapter, and of the balance loss."""

    def __init__(self, layer: Adapter, fused: bool) -> None:
        self.layer, self.fused = layer, fused
        self.base = nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False)
        self.x, self.context = example().requires_grad_(), context_for(layer.config)
        self.leaves = [self.x, *layer.parameters()]

    def __call__(self) -> Tensor:
        torch.manual_seed(3)  # the noise of noisy top-k
        y, routing = self.layer(self.x, self.context, self.base if self.fused else None)
        if not self.fused:
            y = y + self.base(self.x)
        loss = y.square().sum() + (y * torch.linspace(-1, 1, OUT, dtype=y.dtype)).sum()
        return loss if routing.balance_loss is None else loss + 10 * routing.balance_loss

    def gradient(self, create_graph: bool = False) -> list[Tensor]:
        return list(torch.autograd.grad(self(), self.leaves, create_graph=create_graph, materialize_grads=True))

    @torch.no_grad()
    def move(self, directions: list[Tensor], step: float) -> None:
        for leaf, direction in zip(self.leaves, directions, strict=True):
            leaf.add_(direction, alpha=step)


def dot(left: list[Tensor], right: list[Tensor]) -> Tensor:
    return torch.stack([(one * other).sum() for one, other in zip(left, right, strict=True)]).sum()


@pytest.mark.parametrize("fused", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", [*PLAIN, RELU], ids=case_id)
def test_a_gradient_differentiated_again_changes_as_the_gradient_does(case, training, fused):
    torch.manual_seed(7)
    loss = Loss(build(*case).train(training), fused)
    seen, moved = ([torch.randn_like(leaf) / leaf.numel() ** 0.5 for leaf in loss.leaves] for _ in range(2))
    products = torch.autograd.grad(dot(loss.gradient(create_graph=True), seen), loss.leaves, materialize_grads=True)
    slope = dot(list(products), moved)  # of gradient · seen along moved
    values = []
    for step in (STEP, -2 * STEP):
        loss.move(moved, step)
        values.append(dot(loss.gradient(), seen))
    expected = (values[0] - values[1]) / (2 * STEP)
    assert slope.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("case", [*CASES, *RESCALED], ids=case_id)
def test_a_gradient_with_a_graph_is_the_gradient_without(case):
    torch.manual_seed(7)
    loss = Loss(build(*case).train(), fused=True)
    for plain, graphed in zip(loss.gradient(), loss.gradient(create_graph=True), strict=True):
        assert torch.allclose(plain, graphed, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fused", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("case", RESCALED, ids=case_id)
def test_a_rescaled_gradient_refuses_a_second_backward_pass(case, fused):
    loss = Loss(build(*case), fused)
    gradient = loss.gradient(create_graph=True)
    with pytest.raises(
        ValueError, match=r"gate_backward_power = 0\.\d+ gives a gradient that cannot be differentiated"
    ):
        gradient[0].sum().backward()
