"""One adapted linear layer with as few passes over the wide tensors as there can be.

A mixture of low-rank experts touches the layer's input once, to bring it down to the experts and the router, and its
output once. Here both happen beside the frozen layer's own products: the input gradient of the frozen weight and of the
down factors is accumulated in one tensor, and the update is added onto the frozen layer's output in place. What lies
between the two is small and is left to autograd.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .calls import plain, untouched
from .transforms import transformed


class FrozenAndDown(torch.autograd.Function):
    """(x, W, b, D, c) -> x Wᵀ + b and x Dᵀ + c for a frozen W; b and c may be None."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, down_bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        # x (N, in), W (out, in), D (K, in)
        ctx.save_for_backward(x, weight, down)
        return F.linear(x, weight, bias), F.linear(x, down, down_bias)  # (N, out), (N, K)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down = ctx.saved_tensors
        (into_y, into_z), needs = grads, ctx.needs_input_grad
        into_x = None
        if needs[0]:
            into_x = into_y @ weight
            into_x = into_x.addmm(into_z, down) if transformed() else into_x.addmm_(into_z, down)
        into_down = into_z.T @ x if needs[3] else None
        return into_x, None, into_y.sum(0) if needs[2] else None, into_down, into_z.sum(0) if needs[4] else None


class AddUp(torch.autograd.Function):
    """(y, u, U) -> y + u U, written into y (N, out); u (N, m), U (m, out)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, inner: Tensor, up: Tensor) -> Tensor:
        ctx.mark_dirty(y)
        ctx.save_for_backward(inner, up)
        return y.addmm_(inner, up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        inner, up = ctx.saved_tensors
        return grads[0], grads[0] @ up.T, inner.T @ grads[0]


def down_products(
    x: Tensor,
    experts: Tensor,
    heads: Sequence[nn.Module],
    dropout: nn.Module,
    base: nn.Linear | None,
    bias: Tensor | None = None,
    out_bias: Tensor | None = None,
) -> tuple[Tensor, list[Tensor], Tensor | None]:
    """What the layer's input x (..., in) is brought down to, its N tokens in rows.

    Args:
        experts: down factors E (K, in), which read x after dropout.
        heads: linear layers of M_h rows, which read x before it. Those that are plain share one product with the
            experts where there is no dropout; any other is called on x.
        base: the frozen layer, `fusible`, or None.
        bias: (K,), added to what the experts make. out_bias: (out,), added to the frozen layer's output.

    Returns:
        x Eᵀ (N, K), what each head makes of x (N, M_h), and the frozen layer's output (N, out) or None.
    """
    flat, dropped = x.reshape(-1, x.shape[-1]), not inert(dropout)
    read: list[Any] = [head for head in heads if plain(head)]
    weights = [part for part in (None if dropped else experts, *(head.weight for head in read)) if part is not None]
    down = weights[0] if len(weights) == 1 else torch.cat(weights) if weights else experts[:0]  # (K + Σ M_h, in)
    down_bias = joined_bias(None if dropped else experts, bias, read)
    y = None
    if base is None:
        z = F.linear(flat, down, down_bias)
    else:
        y_bias = base.bias if out_bias is None else out_bias if base.bias is None else base.bias + out_bias
        y, z = FrozenAndDown.apply(flat, base.weight, y_bias, down, down_bias)
    # one operation, whose backward pass is one concatenation
    parts = list(z.split([len(weight) for weight in weights], dim=1)) if len(weights) > 1 else [z]
    hidden = F.linear(dropout(x).reshape(flat.shape), experts, bias) if dropped else parts.pop(0)
    made = [parts.pop(0) if head in read else head(x) for head in heads]
    return hidden, [part.reshape(flat.shape[0], part.shape[-1]) for part in made], y


def joined_bias(experts: Tensor | None, bias: Tensor | None, heads: Sequence[nn.Linear]) -> Tensor | None:
    """(K + Σ M_h,), zero where the experts or a head have none; None where nobody has one."""
    if (bias is None or experts is None) and all(head.bias is None for head in heads):
        return None
    parts: list[Tensor] = [
        head.weight.new_zeros(len(head.weight)) if head.bias is None else head.bias for head in heads
    ]
    if experts is not None:
        parts.insert(0, experts.new_zeros(len(experts)) if bias is None else bias)
    return torch.cat(parts)


def inert(dropout: nn.Module) -> bool:
    """Whether calling the dropout would give back its input."""
    return untouched(dropout, nn.Identity) or (untouched(dropout, nn.Dropout) and not dropout.training)


def up_product(inner: Tensor, up: Tensor, y: Tensor | None) -> Tensor:
    """inner (N, m) times up (m, out), added onto y (N, out) in place where there is one."""
    return inner @ up if y is None else AddUp.apply(y, inner, up)


def fusible(base: nn.Module, x: Tensor, adapter: nn.Module) -> bool:
    """Whether a layer and the adapter beside it can take the fused path: a frozen nn.Linear of the same dtype.

    Autocast, torch's transforms, and whatever makes a layer more than its weights need the layer called as it is.
    """
    if transformed() or not plain(base):
        return False
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
        return False
    trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    return not trained and x.dtype == base.weight.dtype == next(adapter.parameters()).dtype
