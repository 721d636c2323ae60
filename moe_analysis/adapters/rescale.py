"""The mixture of low-rank experts as two dense products with the gates between, and its rescaled backward.

A Stronger Mixture of Low-Rank Experts, section 2.3 of the reference: the forward pass uses the gate g, while the
gradient that flows into a chosen expert's output is scaled by g^p in place of g. p = 1 is ordinary autograd and
p = 1/2 the authors' rule. The gate's own gradient is the same for every p.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .fused import Onto, add_product
from .transforms import transformed


class RescaledMixture(torch.autograd.Function):
    """(hidden, gates, U, p, y, dtype) -> Σ_e g_e U_eᵀ hidden_e with the experts' backward path scaled by g^p.

    Added onto y in place where y is not None, the product with U computed in dtype. Ranks stand before
    experts: gates are then multiplied and summed along the experts, of which there are more.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "token rank expert"],
        gates: Float[Tensor, "token expert"],
        up: Float[Tensor, "rank*expert out"],
        power: float,
        y: Float[Tensor, "token out"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "token out"]:
        ctx.save_for_backward(hidden, gates, up)
        ctx.power, ctx.onto, ctx.dtype = power, y is not None, dtype or up.dtype
        weighed = (hidden * gates.unsqueeze(1)).flatten(1)  # (N, r·E)
        if y is None:
            return weighed @ up
        ctx.mark_dirty(y)
        return add_product(y, weighed.to(dtype), up.to(dtype))

    @staticmethod
    def backward(
        ctx: Any, *grads: Float[Tensor, "token out"]
    ) -> tuple[
        Float[Tensor, "token rank expert"],
        Float[Tensor, "token expert"],
        Float[Tensor, "rank*expert out"],
        None,
        Float[Tensor, "token out"] | None,
        None,
    ]:
        hidden, gates, up = ctx.saved_tensors
        grad = grads[0].to(ctx.dtype)  # autocast hands back the reduced type of its product
        pulled = (grad @ up.to(ctx.dtype).T).to(up.dtype).view(hidden.shape)  # (N, r, E): U_e dy
        scale = backward_scale(gates, ctx.power).unsqueeze(1)  # (N, 1, E)
        into_hidden, into_gates = (scale * pulled).to(hidden.dtype), (pulled * hidden).sum(1).to(gates.dtype)
        into_up = ((hidden * scale).reshape(hidden.shape[0], up.shape[0]).to(ctx.dtype).T @ grad).to(up.dtype)
        if ctx.power != 1.0 and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            into_hidden, into_gates, into_up = Once.apply(into_hidden, into_gates, into_up, ctx.power)
        return into_hidden, into_gates, into_up, None, grads[0] if ctx.onto else None, None


class TransformedMixture(torch.autograd.Function):
    """`RescaledMixture` for torch.func's transforms and forward-mode derivatives, beside no frozen layer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        hidden: Float[Tensor, "token rank expert"],
        gates: Float[Tensor, "token expert"],
        up: Float[Tensor, "rank*expert out"],
        power: float,
        y: None = None,
        dtype: None = None,
    ) -> Float[Tensor, "token out"]:
        return (hidden * gates.unsqueeze(1)).flatten(1) @ up

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Float[Tensor, "token out"]) -> None:
        *saved, ctx.power, _, _ = inputs
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)
        ctx.onto, ctx.dtype = False, saved[2].dtype

    backward = staticmethod(RescaledMixture.backward)

    @staticmethod
    def jvp(
        ctx: Any,
        of_hidden: Float[Tensor, "token rank expert"],
        of_gates: Float[Tensor, "token expert"],
        of_up: Float[Tensor, "rank*expert out"],
        *_: Any,
    ) -> Float[Tensor, "token out"]:
        """The forward pass has one derivative, whatever the power; only what is made of a gradient is rescaled."""
        hidden, gates, up = ctx.saved_tensors
        weighed = hidden * of_gates.unsqueeze(1) + of_hidden * gates.unsqueeze(1)
        return weighed.flatten(1) @ up + (hidden * gates.unsqueeze(1)).flatten(1) @ of_up


class Once(torch.autograd.Function):
    """Three gradients by the rescaled rule, as they are; refuses to be differentiated by a backward pass.

    That pass would go through the mixture's own output by the rescaled rule too, and so give neither the derivative of
    the rescaled gradient nor that of the plain one. A forward-mode derivative gives the first and is let through.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        into_hidden: Float[Tensor, "token rank expert"],
        into_gates: Float[Tensor, "token expert"],
        into_up: Float[Tensor, "rank*expert out"],
        power: float,
    ) -> tuple[Float[Tensor, "token rank expert"], Float[Tensor, "token expert"], Float[Tensor, "rank*expert out"]]:
        return into_hidden.view_as(into_hidden), into_gates.view_as(into_gates), into_up.view_as(into_up)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.power = inputs[-1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        raise ValueError(
            f"gate_backward_power = {ctx.power} gives a gradient that cannot be differentiated "
            "again by a backward pass; set it to 1.0, or use torch.func.jvp of torch.func.grad"
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor, ...]:
        return tuple(tangent.view_as(tangent) for tangent in tangents[:3])


def backward_scale(gates: Float[Tensor, "*tokens expert"], power: float) -> Float[Tensor, "*tokens expert"]:
    """g^p of the chosen experts, 0 of the others, whose 0^p would be 1 for p = 0 and have no derivative for p < 1."""
    if power == 1.0:
        return gates
    chosen = gates > 0
    return chosen.to(gates.dtype) if power == 0.0 else torch.where(chosen, gates, 1.0) ** power * chosen


def up_mixture(
    hidden: Float[Tensor, "token rank expert"],
    gates: Float[Tensor, "token expert"],
    up: Float[Tensor, "rank*expert out"],
    power: float = 1.0,
    onto: Onto | None = None,
) -> Float[Tensor, "token out"]:
    """Σ_e g_e U_eᵀ hidden_e, added onto y if given."""
    if power == 1.0 and onto is None:
        return (hidden * gates.unsqueeze(1)).flatten(1) @ up
    derived = transformed() and not torch.compiler.is_compiling()
    return (TransformedMixture if derived else RescaledMixture).apply(hidden, gates, up, power, *(onto or (None, None)))


def down_factors(A: Float[Tensor, "expert rank in"]) -> Float[Tensor, "rank*expert in"]:
    """The rows of all experts below each other, ranks first."""
    return A.transpose(0, 1).flatten(0, 1)


def up_factors(B: Float[Tensor, "expert out rank"]) -> Float[Tensor, "rank*expert out"]:
    """The columns of all experts as rows below each other, ranks first."""
    return B.permute(2, 0, 1).flatten(0, 1)
