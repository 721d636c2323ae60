"""The mixture of low-rank experts as two dense products with the gates between, and its rescaled backward.

A Stronger Mixture of Low-Rank Experts, section 2.3 of the reference: the forward pass uses the gate g, while the
gradient that flows into a chosen expert's output is scaled by g^p in place of g. p = 1 is ordinary autograd and
p = 1/2 the authors' rule. The gate's own gradient is the same for every p.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class RescaledMixture(torch.autograd.Function):
    """(hidden, gates, U, p, y) -> Σ_e g_e U_eᵀ hidden_e with the experts' backward path scaled by g^p.

    Added onto y (N, out) in place where y is not None. Ranks stand before experts: gates are then multiplied and
    summed along the experts, of which there are more.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, gates: Tensor, up: Tensor, power: float, y: Tensor | None = None) -> Tensor:
        # hidden (N, r, E), gates (N, E), up (r·E, out)
        ctx.save_for_backward(hidden, gates, up)
        ctx.power, ctx.onto = power, y is not None
        weighed = (hidden * gates.unsqueeze(1)).flatten(1)  # (N, r·E)
        if y is None:
            return weighed @ up  # (N, out)
        ctx.mark_dirty(y)
        return y.addmm_(weighed, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, gates, up = ctx.saved_tensors
        grad = grads[0].to(up.dtype)  # autocast hands back the reduced type of its product
        pulled = (grad @ up.T).view_as(hidden)  # (N, r, E): U_e dy
        scale = gates
        if ctx.power != 1.0:
            scale = gates.clamp_min(0) ** ctx.power
        if ctx.power == 0.0:  # 0⁰ = 1 would wake the experts that were not chosen
            scale = (gates > 0).to(gates.dtype)
        scale = scale.unsqueeze(1)  # (N, 1, E)
        into_hidden, into_gates = (scale * pulled).to(hidden.dtype), (pulled * hidden).sum(1).to(gates.dtype)
        into_up = (hidden * scale).flatten(1).to(up.dtype).T @ grad
        return into_hidden, into_gates, into_up, None, grads[0] if ctx.onto else None


def up_mixture(hidden: Tensor, gates: Tensor, up: Tensor, power: float = 1.0, y: Tensor | None = None) -> Tensor:
    """Σ_e g_e U_eᵀ hidden_e for hidden (N, r, E), gates (N, E), up (r·E, out) -> (N, out), added onto y if given."""
    if power != 1.0 or y is not None:
        return RescaledMixture.apply(hidden, gates, up, power, y)
    return (hidden * gates.unsqueeze(1)).flatten(1) @ up


def mixture(x: Tensor, gates: Tensor, A: Tensor, B: Tensor, power: float = 1.0) -> Tensor:
    """Σ_e g_e B_e A_e x for x (N, in), gates (N, E), A (E, r, in), B (E, out, r) -> (N, out)."""
    hidden = (x @ down_factors(A).T).unflatten(-1, (A.shape[1], A.shape[0]))  # (N, r, E)
    return up_mixture(hidden, gates, up_factors(B), power)


def down_factors(A: Tensor) -> Tensor:
    """A (E, r, in) -> (r·E, in), ranks first."""
    return A.transpose(0, 1).flatten(0, 1)


def up_factors(B: Tensor) -> Tensor:
    """B (E, out, r) -> (r·E, out), ranks first."""
    return B.permute(2, 0, 1).flatten(0, 1)
