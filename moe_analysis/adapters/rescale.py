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
    """(hidden, gates, B, p) -> Σ_e g_e B_e hidden_e with the experts' backward path scaled by g^p."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, gates: Tensor, up: Tensor, power: float) -> Tensor:
        # hidden (N, E, r), gates (N, E), up (E·r, out)
        ctx.save_for_backward(hidden, gates, up)
        ctx.power = power
        return (hidden * gates.unsqueeze(-1)).flatten(1) @ up  # (N, out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        hidden, gates, up = ctx.saved_tensors
        grad = grads[0].to(up.dtype)  # autocast hands back the reduced type of its product
        pulled = (grad @ up.T).view_as(hidden)  # (N, E, r): B_eᵀ dy
        # 0⁰ = 1 would wake the experts that were not chosen
        scale = torch.where(gates > 0, gates.clamp_min(0) ** ctx.power, 0).unsqueeze(-1)  # (N, E, 1)
        into_hidden, into_gates = (scale * pulled).to(hidden.dtype), (pulled * hidden).sum(-1).to(gates.dtype)
        return into_hidden, into_gates, (hidden * scale).flatten(1).to(up.dtype).T @ grad, None


def mixture(x: Tensor, gates: Tensor, A: Tensor, B: Tensor, power: float = 1.0) -> Tensor:
    """Σ_e g_e B_e A_e x for x (N, in), gates (N, E), A (E, r, in), B (E, out, r) -> (N, out)."""
    experts, rank, _ = A.shape
    hidden = x @ A.flatten(0, 1).T  # (N, E·r)
    up = B.transpose(1, 2).flatten(0, 1)  # (E·r, out)
    if power != 1.0:
        return RescaledMixture.apply(hidden.unflatten(-1, (experts, rank)), gates, up, power)
    return (hidden.unflatten(-1, (experts, rank)) * gates.unsqueeze(-1)).flatten(1) @ up
