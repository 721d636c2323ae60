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

    Added onto y (N, out) in place where y is not None.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, gates: Tensor, up: Tensor, power: float, y: Tensor | None = None) -> Tensor:
        # hidden (N, E, r), gates (N, E), up (E·r, out)
        ctx.save_for_backward(hidden, gates, up)
        ctx.power, ctx.onto = power, y is not None
        weighed = (hidden * gates.unsqueeze(-1)).flatten(1)  # (N, E·r)
        if y is None:
            return weighed @ up  # (N, out)
        ctx.mark_dirty(y)
        return y.addmm_(weighed, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, gates, up = ctx.saved_tensors
        grad = grads[0].to(up.dtype)  # autocast hands back the reduced type of its product
        pulled = (grad @ up.T).view_as(hidden)  # (N, E, r): U_e dy
        scale = gates
        if ctx.power != 1.0:  # 0⁰ = 1 would wake the experts that were not chosen
            scale = torch.where(gates > 0, gates.clamp_min(0) ** ctx.power, 0)
        scale = scale.unsqueeze(-1)  # (N, E, 1)
        into_hidden, into_gates = (scale * pulled).to(hidden.dtype), (pulled * hidden).sum(-1).to(gates.dtype)
        into_up = (hidden * scale).flatten(1).to(up.dtype).T @ grad
        return into_hidden, into_gates, into_up, None, grads[0] if ctx.onto else None


def up_mixture(hidden: Tensor, gates: Tensor, up: Tensor, power: float = 1.0, y: Tensor | None = None) -> Tensor:
    """Σ_e g_e U_eᵀ hidden_e for hidden (N, E, r), gates (N, E), up (E·r, out) -> (N, out), added onto y if given."""
    if power != 1.0 or y is not None:
        return RescaledMixture.apply(hidden, gates, up, power, y)
    return (hidden * gates.unsqueeze(-1)).flatten(1) @ up


def mixture(x: Tensor, gates: Tensor, A: Tensor, B: Tensor, power: float = 1.0) -> Tensor:
    """Σ_e g_e B_e A_e x for x (N, in), gates (N, E), A (E, r, in), B (E, out, r) -> (N, out)."""
    hidden = (x @ A.flatten(0, 1).T).unflatten(-1, A.shape[:2])  # (N, E, r)
    return up_mixture(hidden, gates, B.transpose(1, 2).flatten(0, 1), power)
