"""One adapted linear layer with as few passes over the wide tensors as possible.

A mixture of low-rank experts touches the layer's input once, to bring it down to the experts and the router, and its
output once. Here both happen together with the frozen layer's own products: the input gradient of the frozen weight and
of the down factors is accumulated in one tensor, and the update is added to the frozen layer's output in place. What is
between the two is small and is left to autograd.

Adapters in float32 also work with frozen layers in half precision. The frozen layer computes in the type of its
input and an adapter in its own, but under autocast: there the adapter's products with wide tensors are in autocast's
type, as torch would have them, and what lies between is left out of autocast, which would cast every small tensor. So
x comes in the type of the wide products, and every product hands back the type of the factors that it was given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .calls import plain, untouched
from .transforms import transformed

HALF = (torch.bfloat16, torch.float16)


class Onto(NamedTuple):
    """A frozen layer's output y, which an update is to be added to, and the type of the product that does."""

    y: Float[Tensor, "token out"]
    dtype: torch.dtype


class FrozenAndDown(torch.autograd.Function):
    """(x, W, b, sizes, D…, c…) -> x Wᵀ + b and x Dᵀ + c for a frozen W, the latter in parts of these sizes.

    D and c are given in parts too, each of any shape (…, in) and (…), one behind the other; b and a part of c may be
    None. x is in the type of x Dᵀ, which is handed back in that of D; x Wᵀ is in that of x or W, the narrower.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "token in"],
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, "out"] | None,
        sizes: Sequence[int],
        *parts: Any,
    ) -> tuple[Tensor, ...]:
        weight = weight.to(min(x.dtype, weight.dtype, key=lambda dtype: dtype.itemsize))
        factors, biases = parts[: len(parts) // 2], parts[len(parts) // 2 :]
        down, down_bias = stacked(factors), joined(factors, biases)
        reduced = down.to(x.dtype)
        ctx.save_for_backward(x, weight, reduced, *factors)
        ctx.sizes, ctx.of_bias = sizes, None if bias is None else bias.dtype
        ctx.of_biases = [None if one is None else one.shape for one in biases]
        z = F.linear(x, reduced, None if down_bias is None else down_bias.to(x.dtype)).to(down.dtype)
        return product(x.to(weight.dtype), weight, bias), *z.split_with_sizes(sizes, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Float[Tensor, "token _"]) -> tuple[Tensor | None, ...]:
        x, weight, reduced, *factors = ctx.saved_tensors
        into_y, *into_parts = grads
        into_z = into_parts[0] if len(into_parts) == 1 else torch.cat(into_parts, dim=1)
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # what was saved in another type has no graph
            reduced = stacked(factors).to(x.dtype)
        wide, into_x = into_z.to(x.dtype), None
        if needs[0]:
            into_x = (into_y @ weight).to(x.dtype)
            into_x = into_x.addmm(wide, reduced) if transformed() else into_x.addmm_(wide, reduced)
        into_bias = into_y.sum(0, dtype=ctx.of_bias) if needs[2] else None
        rows = [one.shape[:-1].numel() for one in factors]
        into_down = (wide.T @ x).to(factors[0].dtype).split_with_sizes(rows)
        into_factors = [into.view_as(one) for into, one in zip(into_down, factors, strict=True)]
        into_biases: list[Tensor | None] = [None] * len(factors)
        if any(shape is not None for shape in ctx.of_biases):
            parts = into_z.sum(0).split_with_sizes(rows)
            into_biases = [
                None if shape is None else into.view(shape) for into, shape in zip(parts, ctx.of_biases, strict=True)
            ]
        return into_x, None, into_bias, None, *into_factors, *into_biases


def stacked(factors: Sequence[Float[Tensor, "... in"]]) -> Float[Tensor, "hidden in"]:
    """The rows of all factors below each other."""
    flat = [one.reshape(-1, one.shape[-1]) for one in factors]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def joined(
    factors: Sequence[Float[Tensor, "... in"]], biases: Sequence[Float[Tensor, "..."] | None]
) -> Float[Tensor, "hidden"] | None:
    """The biases of all factors behind each other: zero where one has none, None where none has one."""
    if all(bias is None for bias in biases):
        return None
    parts = [
        factor.new_zeros(factor.shape[:-1].numel()) if bias is None else bias.reshape(-1)
        for factor, bias in zip(factors, biases, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class AddUp(torch.autograd.Function):
    """(y, u, U, dtype) -> y + u U, written into y, multiplied in dtype."""

    @staticmethod
    def forward(
        ctx: Any,
        y: Float[Tensor, "token out"],
        inner: Float[Tensor, "token hidden"],
        up: Float[Tensor, "hidden out"],
        dtype: torch.dtype,
    ) -> Float[Tensor, "token out"]:
        ctx.mark_dirty(y)
        ctx.save_for_backward(inner, up)
        ctx.dtype = dtype
        return add_product(y, inner.to(dtype), up.to(dtype))

    @staticmethod
    def backward(
        ctx: Any, *grads: Float[Tensor, "token out"]
    ) -> tuple[Float[Tensor, "token out"], Float[Tensor, "token hidden"], Float[Tensor, "hidden out"], None]:
        inner, up = ctx.saved_tensors
        grad = grads[0].to(ctx.dtype)
        into_inner, into_up = grad @ up.to(ctx.dtype).T, inner.to(ctx.dtype).T @ grad
        return grads[0], into_inner.to(inner.dtype), into_up.to(up.dtype), None


def product(
    x: Float[Tensor, "token in"], factors: Float[Tensor, "hidden in"], bias: Float[Tensor, "hidden"] | None
) -> Float[Tensor, "token hidden"]:
    """x times factors transposed, computed in the type of x and handed back in that of the factors."""
    return F.linear(x, factors.to(x.dtype), None if bias is None else bias.to(x.dtype)).to(factors.dtype)


def add_product(
    y: Float[Tensor, "token out"], inner: Float[Tensor, "token hidden"], up: Float[Tensor, "hidden out"]
) -> Float[Tensor, "token out"]:
    """y += u U for factors u and U, whose type may be wider than that of y."""
    # an addition of two types is ten times as slow as one of one type
    return y.addmm_(inner, up) if y.dtype == up.dtype else y.add_((inner @ up).to(y.dtype))


def down_products(
    x: Float[Tensor, "*tokens in"],
    experts: Sequence[Float[Tensor, "... in"]],
    heads: Sequence[nn.Module],
    dropout: nn.Module,
    base: nn.Linear | None,
    biases: Sequence[Float[Tensor, "..."]] | None = None,
    out_bias: Float[Tensor, "out"] | None = None,
) -> tuple[Float[Tensor, "token hidden"], list[Float[Tensor, "token _head"]], Onto | None]:
    """What the layer's input is brought down to, its N tokens in rows.

    Args:
        experts: down factors E one below the other, (…, in) each, which read x after dropout.
        heads: linear layers of M_h rows, which read x before it. Those that are plain share one product with the
            experts if there is no dropout; any other is called on x.
        base: the frozen layer, `fusible`, or None.
        biases: (…) each, added to what the experts make. out_bias: added to the frozen layer's output.

    Returns:
        x Eᵀ, what each head makes of x, M_h wide, and the frozen layer's output or None.
    """
    flat, dropped = x.reshape(-1, x.shape[-1]), not inert(dropout)
    read: list[Any] = [head for head in heads if plain(head)]
    own: Sequence[Tensor | None] = biases or [None] * len(experts)
    factors: list[Tensor] = [head.weight for head in read]
    added: list[Tensor | None] = [head.bias for head in read]
    sizes = [len(weight) for weight in factors]
    if not dropped:
        factors, added = [*experts, *factors], [*own, *added]
        sizes.insert(0, sum(one.shape[:-1].numel() for one in experts))
    if not factors:
        factors, added, sizes = [experts[0][:0]], [None], [0]
    onto = None
    if base is None:
        # one operation, whose backward pass is one concatenation
        parts = list(F.linear(flat, stacked(factors), joined(factors, added)).split(sizes, dim=1))
    else:
        y_bias = base.bias if out_bias is None else out_bias if base.bias is None else base.bias + out_bias
        y, *parts = FrozenAndDown.apply(flat, base.weight, y_bias, sizes, *factors, *added)
        onto = Onto(y, x.dtype)
    if dropped:
        after, rows, bias = dropout(x).reshape(flat.shape), stacked(experts), joined(experts, own)
        hidden = F.linear(after, rows, bias) if base is None else product(after, rows, bias)
    else:
        hidden = parts.pop(0)
    called = x if base is None else x.to(experts[0].dtype)
    made = [parts.pop(0) if head in read else head(called) for head in heads]
    return hidden, [part.reshape(flat.shape[0], part.shape[-1]) for part in made], onto


def inert(dropout: nn.Module) -> bool:
    """Whether calling the dropout would give back its input."""
    return untouched(dropout, nn.Identity) or (untouched(dropout, nn.Dropout) and not dropout.training)


def up_product(
    inner: Float[Tensor, "token hidden"], up: Float[Tensor, "hidden out"], onto: Onto | None
) -> Float[Tensor, "token out"]:
    """inner times up, added onto the frozen layer's output in place where there is one."""
    return inner @ up if onto is None else AddUp.apply(onto.y, inner, up, onto.dtype)


Forward = Callable[..., tuple[Tensor, Any]]
MIXING: set[Forward] = set()  # what `beside_frozen` made


def beside_frozen(forward: Forward) -> Forward:
    """Decorator of an adapter's forward that leaves the wide products to this file: any type that `fusible` allows.

    Where there is a frozen layer, forward gets x in the type of its wide products and runs outside autocast. A forward
    that is not decorated is called beside a frozen layer of its own type only.
    """

    @functools.wraps(forward)
    def outside_autocast(
        adapter: nn.Module, x: Float[Tensor, "*tokens in"], context: Any = None, base: nn.Linear | None = None
    ) -> Any:
        if base is None:
            return forward(adapter, x, context)
        dtype = autocast_dtype(x)
        if dtype is None:
            return forward(adapter, x.to(next(adapter.parameters()).dtype), context, base)
        with torch.autocast(x.device.type, enabled=False):
            return forward(adapter, x.to(dtype), context, base)

    MIXING.add(outside_autocast)
    return outside_autocast


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The type that autocast computes products of x in, None if it is off."""
    device = x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if on else None


def fusible(base: nn.Module, x: Float[Tensor, "*tokens in"], adapter: nn.Module) -> bool:
    """Whether a layer and the adapter beside it can take the fused path: a frozen nn.Linear of the same type.

    Adapters of float32 whose forward is `beside_frozen` also stand beside half precision, and under autocast beside
    float32 and autocast's own type. torch's transforms, and whatever makes a layer more than its weights, need the
    layer called as it is.
    """
    if transformed() or not plain(base):
        return False
    if base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad):
        return False
    reduced, own = autocast_dtype(x), next(adapter.parameters()).dtype
    if reduced is None and x.dtype == base.weight.dtype == own:
        return True
    if own != torch.float32 or getattr(adapter.forward, "__func__", None) not in MIXING:
        return False
    if reduced is None:
        return x.dtype == base.weight.dtype and x.dtype in HALF
    return reduced in HALF and {x.dtype, base.weight.dtype} <= {reduced, torch.float32}
