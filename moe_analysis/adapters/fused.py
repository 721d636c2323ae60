"""One adapted linear layer with as few passes over the wide tensors as there can be.

A mixture of low-rank experts touches the layer's input once, to bring it down to the experts and the router, and its
output once. Here both happen beside the frozen layer's own products: the input gradient of the frozen weight and of the
down factors is accumulated in one tensor, and the update is added onto the frozen layer's output in place. What lies
between the two is small and is left to autograd.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenAndDown(torch.autograd.Function):
    """(x, W, b, D, c) -> x Wᵀ + b and x Dᵀ + c for a frozen W; b and c may be None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor,
                down_bias: Tensor | None) -> tuple[Tensor, Tensor]:  # fmt: skip
        # x (N, in), W (out, in), D (K, in)
        ctx.save_for_backward(x, weight, down)
        return F.linear(x, weight, bias), F.linear(x, down, down_bias)  # (N, out), (N, K)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, down = ctx.saved_tensors
        (into_y, into_z), needs = grads, ctx.needs_input_grad
        into_x = (into_y @ weight).addmm_(into_z, down) if needs[0] else None
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


def down_products(x: Tensor, experts: Tensor, router: Tensor | None, dropout: nn.Module, base: nn.Linear | None,
                  bias: Tensor | None = None, out_bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
    """x (N, in) -> (x Eᵀ (N, K), x Rᵀ (N, M), the frozen layer's output (N, out) or None).

    experts E (K, in) read x after dropout and router R (M, in) before it; without dropout one product makes both.
    bias (K + M,) is added to what they make, in that order, and out_bias (out,) to the frozen layer's output.
    """
    width, dropped = experts.shape[0], dropout.training and isinstance(dropout, nn.Dropout)
    parts = [part for part in (None if dropped else experts, router) if part is not None]
    down = parts[0] if len(parts) == 1 else torch.cat(parts) if parts else experts[:0]  # (K + M, in), or (M, in)
    down_bias = bias[width:] if bias is not None and dropped else bias
    y = None
    if base is None:
        z = F.linear(x, down, down_bias)
    else:
        y_bias = base.bias if out_bias is None else out_bias if base.bias is None else base.bias + out_bias
        y, z = FrozenAndDown.apply(x, base.weight, y_bias, down, down_bias)
    if dropped:
        return F.linear(dropout(x), experts, None if bias is None else bias[:width]), z, y
    if router is None:
        return z, z[:, :0], y
    hidden, routed = z.split([width, router.shape[0]], dim=1)  # one operation, whose backward pass is one concatenation
    return hidden, routed, y


def up_product(inner: Tensor, up: Tensor, y: Tensor | None) -> Tensor:
    """inner (N, m) times up (m, out), added onto y (N, out) in place where there is one."""
    return inner @ up if y is None else AddUp.apply(y, inner, up)


def fusible(base: nn.Module, x: Tensor, adapter: nn.Module) -> bool:
    """Whether a layer and the adapter beside it can take the fused path: a frozen nn.Linear of the same dtype.

    Autocast, hooks on the layer and torch.compile need the layer called as it is.
    """
    if type(base) is not nn.Linear or torch.compiler.is_compiling():
        return False
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
        return False
    if base._forward_hooks or base._forward_pre_hooks or base._backward_hooks or base._backward_pre_hooks:
        return False
    trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    return not trained and x.dtype == base.weight.dtype == next(adapter.parameters()).dtype
