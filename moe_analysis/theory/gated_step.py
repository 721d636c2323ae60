"""What one Riemannian step does to a gated expert, measured on the real mixture with the real optimizer.

An expert with a constant gate g adds g·s·BA to the frozen matrix (s = alpha / r). With Γ = Σ ∂L/∂y xᵀ (out, in) and the
backward factor g^p, its gradients are s g^p Γ Aᵀ and s g^p Bᵀ Γ, and one preconditioned step of size lr changes
g·s·BA, to first order, by

    −lr · s² · g^{1+p} · (Γ P_A + P_B Γ)        P_A, P_B: projections onto the rows of A and the columns of B

so that the exponent of g is 2 for the plain rule (p = 1) and 3/2 for the rescaled one (p = 1/2). Dividing the
preconditioned gradient by the gate, the exact remedy, makes it 1, and so does p = 0 as long as the gates are constant.

Source: A Stronger Mixture of Low-Rank Experts (gR), sections 2.2 and 2.3 of the reference; the exponents are our local
analysis of its rules.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..adapters import MoeLora, MoeLoraConfig, Routing
from ..optim import RiemannianSGD, precondition


@dataclass(frozen=True)
class Rule:
    """How gates enter a step: the backward power p, and whether the preconditioned gradient is divided by the gate."""

    power: float
    divide: bool = False

    @property
    def exponent(self) -> float:
        """Predicted exponent of g in the first-order change of the full matrix."""
        return 1 + self.power - self.divide


RULES = {"plain": Rule(1.0), "rescaled": Rule(0.5), "p = 0": Rule(0.0), "exact remedy": Rule(1.0, divide=True)}


class HeldGates(MoeLora):
    """A float64 copy of a layer's experts with given gates in place of its routing, the same for every token."""

    gates: Float[Tensor, "expert"]

    def __init__(self, layer: MoeLora, gates: Float[Tensor, "expert"]) -> None:
        super().__init__(layer.in_features, layer.out_features, copy.deepcopy(layer.config))
        self.register_buffer("gates", gates.double())
        self.double().eval()
        with torch.no_grad():
            self.A.copy_(layer.A)
            self.B.copy_(layer.B)

    def route(self, x: Float[Tensor, "*tokens in"], token_mask: Shaped[Tensor, "..."] | None = None) -> Routing:
        return Routing(self.gates.expand(*x.shape[:-1], -1))


def constant_gates(gates: Float[Tensor, "*tokens expert"]) -> Float[Tensor, "expert"]:
    """The gates of every token; ValueError when they differ between tokens, where no single g describes an expert."""
    flat = gates.detach().flatten(0, -2)
    if not torch.allclose(flat, flat[:1].expand_as(flat), rtol=1e-9, atol=0):
        raise ValueError("gates differ between tokens; fix them with HeldGates, or give every token the same input")
    return flat[0]


def first_step(
    layer: MoeLora,
    x: Float[Tensor, "token in"],
    gradient: Float[Tensor, "token out"],
    rule: str,
    relative_step: float = 1e-6,
    damping: float = 1e-6,
) -> tuple[MoeLora, Float[Tensor, "expert"], float]:
    """(a copy of the layer after one step, its gates, lr), for the loss Σ gradient · delta(x), all in float64.

    gradient: ∂L/∂y, so that the step has the gradients of the model that they come from.
    lr is chosen so that no A moves by more than relative_step of itself. Experts with gate 0 are not chosen.

    Raises:
        ValueError: For gates that differ between tokens, are negative or all zero, and where no expert has a B yet.
    """
    moved = copy.deepcopy(layer)
    moved.config.gate_backward_power = RULES[rule].power
    delta, routing = moved(x)
    gates = constant_gates(routing.gates)
    chosen = gates > 0
    if not (chosen.any() and (gates >= 0).all()):
        raise ValueError(f"gates = {gates.tolist()} must be at least 0, and one above: experts with gate 0 do not move")
    loss = (delta * gradient).sum()
    moved.A.grad, moved.B.grad = torch.autograd.grad(loss, [moved.A, moved.B])
    with torch.no_grad():
        dA, dB = precondition(moved.A, moved.B, moved.A.grad, moved.B.grad, damping)
        lr = relative_step * float((moved.A.flatten(1).norm(dim=1) / dA.flatten(1).norm(dim=1)).min())
        if not np.isfinite(lr):
            raise ValueError("every B is zero, as at the start, so A has no gradient; train the adapter first")
        if RULES[rule].divide:
            lr *= float(gates[chosen].min())
            moved.A[chosen] -= lr * dA[chosen] / gates[chosen, None, None]
            moved.B[chosen] -= lr * dB[chosen] / gates[chosen, None, None]
        else:
            RiemannianSGD(moved, lr=lr, router_lr=0.0, damping=damping).step()
    return moved, gates, lr


def full_matrix_change(
    layer: MoeLora, x: Float[Tensor, "token in"], gradient: Float[Tensor, "token out"], rule: str, **options: float
) -> Float[Tensor, "expert"]:
    """Norm of the change of every expert's g s B A under one step of `rule`, divided by lr.

    Arguments as for `first_step`, where the options are explained. The gates are the layer's own and must not differ
    between tokens. The change is never formed as a matrix: B'A' − BA = (B'−B) A' + B (A'−A) has rank 2r.
    """
    moved, gates, lr = first_step(layer, x, gradient, rule, **options)
    with torch.no_grad():
        left = torch.cat([moved.B - layer.B, layer.B], dim=2)  # (E, out, 2r)
        right = torch.cat([moved.A, moved.A - layer.A], dim=1)  # (E, 2r, in)
        return gates * layer.scaling * product_norm(left, right) / lr


def predicted_change(
    layer: MoeLora, x: Float[Tensor, "token in"], gradient: Float[Tensor, "token out"]
) -> Float[Tensor, "expert"]:
    """s² ‖Γ P_A + P_B Γ‖ of every expert: what g to the rule's exponent is multiplied with, without damping."""
    matrix = gradient.T @ x  # Γ (out, in)
    changes = []
    for A, B in zip(layer.A.detach(), layer.B.detach()):
        project_a, project_b = torch.linalg.pinv(A) @ A, B @ torch.linalg.pinv(B)  # (in, in), (out, out)
        changes.append(layer.scaling**2 * (matrix @ project_a + project_b @ matrix).norm())
    return torch.stack(changes)


def product_norm(
    left: Float[Tensor, "expert out rank"], right: Float[Tensor, "expert rank in"]
) -> Float[Tensor, "expert"]:
    """‖left_e right_e‖ of every expert, from the triangular factors of both."""
    upper, lower = torch.linalg.qr(left, mode="r").R, torch.linalg.qr(right.mT, mode="r").R
    return (upper @ lower.mT).flatten(1).norm(dim=1)


def gate_slope(gates: Float[Tensor, "expert"], change: Float[Tensor, "expert"]) -> float:
    """Exponent of g in a change, by least squares on logarithms."""
    return float(np.polyfit(np.log(gates.numpy()), np.log(change.numpy()), 1)[0])


def routed_copies(
    gates: Float[Tensor, "expert"], seed: int = 0, **options: Any
) -> tuple[MoeLora, Float[Tensor, "token in"], Float[Tensor, "token out"]]:
    """(layer, x, gradient): an unchanged MoeLora whose softmax gives copies of one expert the gates, summing to 1.

    The first feature of every token is 1 and the router reads it alone: logits log(gates), whatever the token.
    options: of the layer's configuration, such as top_k.
    """
    generator = torch.Generator().manual_seed(seed)
    layer = MoeLora(9, 11, MoeLoraConfig(r=3, num_experts=len(gates), **options)).double()
    x, gradient, A, B = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(20, 9), (20, 11), (3, 9), (11, 3)]
    )
    x[:, 0] = 1.0
    with torch.no_grad():
        layer.A.copy_(A)
        layer.B.copy_(B)
        layer.router.weight.zero_()
        layer.router.weight[:, 0] = gates.log()
    return layer, x, gradient
