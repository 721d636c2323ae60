"""Muon, the optimizer of the compact backbone's pre-training: momentum made orthogonal before it is a step.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). PyTorch's own
`torch.optim.Muon` computes the orthogonalisation in bfloat16, which costs more than the model's backward pass on
processors that emulate it; this one stays in the parameters' precision and treats equal shapes as one stack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

# Coefficients of the quintic iteration x -> a x + b x^3 + c x^5 on the singular values, from the source.
QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Matrices (n, rows, columns) with their singular values moved close to 1 (between about 0.7 and 1.2)."""
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT  # (n, small, small)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for the two-dimensional weights of hidden layers.

    The step is scaled by 0.2 sqrt(longer side), so that learning rate and weight decay mean what they do in AdamW.
    """

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        params = list(params)
        if wrong := [tuple(p.shape) for p in params if p.ndim != 2]:
            raise ValueError(f"params hold shapes {wrong}; Muon takes matrices only, give the rest to AdamW")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            stacks = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    stacks[p.shape].append(p)
            for (rows, columns), params in stacks.items():
                updates = []
                for p in params:
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(buffer, group["momentum"]))
                scale = group["lr"] * 0.2 * max(rows, columns) ** 0.5
                for p, update in zip(params, orthogonalize(torch.stack(updates)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=scale)
