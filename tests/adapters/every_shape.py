"""Every system forward and backward on inputs of every form: what `test_shapes` runs with its shapes checked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn

from moe_analysis.adapters import Adapter, RoutingContext

from .cases import BATCH, CASES, IN, OUT, TOKENS, build, clusters

FORMS = {"vector": (IN,), "rows": (BATCH * TOKENS, IN), "sequences": (BATCH, TOKENS, IN)}


def contexts(layer: Adapter, form: str) -> Iterator[RoutingContext | None]:
    """None, and what the layer reads: an intuition, a mask of bits beside rows and one of numbers beside sequences."""
    yield None
    width = clusters(layer.config)
    intuition = None if width is None else torch.rand(1 if form == "vector" else BATCH, width, dtype=torch.float64)
    mask = torch.arange(BATCH * TOKENS).reshape(BATCH, TOKENS) % 4
    yield RoutingContext(intuition, {"vector": None, "rows": mask > 0, "sequences": mask}[form])


def run(layer: Adapter, shape: tuple[int, ...], context: RoutingContext | None, base: nn.Linear | None) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y, routing = layer(x, context, base)
    assert y.shape == (*shape[:-1], OUT) and isinstance(routing.gates, Tensor)
    loss = y.square().sum() + routing.gates.square().sum()
    (loss if routing.balance_loss is None else loss + routing.balance_loss).backward()


def main() -> None:
    """Print how many passes were made."""
    frozen, passes = nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False), 0
    for (name, options), (form, shape) in product(CASES, FORMS.items()):
        layer = build(name, options)
        for context, (training, base) in product(contexts(layer, form), ((False, None), (True, frozen))):
            run(layer.train(training), shape, context, base)
            passes += 1
    print(f"{passes} passes")
