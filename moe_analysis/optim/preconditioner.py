"""The Riemannian preconditioner of low-rank factors, for whole stacks of experts at once.

For W = B A the metric of Zhang & Pilanci (2024) turns the gradients into

    dA = (Bᵀ B + δ I)⁻¹ ∇A        dB = ∇B (A Aᵀ + δ I)⁻¹

(A Stronger Mixture of Low-Rank Experts, section 2.2 of the reference). The change of W that follows does not depend on
how W was split into factors, up to the damping δ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SMALL = torch.float32  # half types have no factorization, and too few digits for one


def wide(tensor: Tensor) -> Tensor:
    """A tensor in float32 or better; of half types a copy."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.to(SMALL)


def gram(factors: Sequence[Tensor], transposed: bool) -> Tensor:
    """A Aᵀ of stacks (E, r, in), or Bᵀ B of stacks (E, out, r) when transposed -> (ΣE, r, r), in float32 or better."""
    products = []
    for factor in factors:
        factor = wide(factor)
        products.append(factor.mT @ factor if transposed else factor @ factor.mT)
    return torch.cat(products)


def damped_inverse(grams: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """((G + δI)⁻¹ (n, r, r), failed (n,)) for symmetric G (n, r, r), by one batched Cholesky factorization.

    The inverse is formed as L⁻ᵀ L⁻¹, so it is positive definite whatever was rounded and a step along it descends. A
    matrix that cannot be factored is marked in `failed` and has the identity for its inverse, as in the authors' code.
    """
    identity = torch.eye(grams.shape[-1], dtype=grams.dtype, device=grams.device)
    lower, info = torch.linalg.cholesky_ex(grams + damping * identity)
    failed = info != 0
    lower = torch.where(failed[:, None, None], identity, lower)
    inverse = torch.linalg.solve_triangular(lower, identity.expand_as(lower), upper=False)  # L⁻¹
    return (inverse.mT @ inverse).contiguous(), failed  # LAPACK's column order would slow every product that follows


def product_type(inverse: Tensor, gradient: Tensor) -> torch.dtype:
    """The type in which the two are multiplied: never a half type, as the inverse of B = 0 is 1/δ, ∞ in float16."""
    return torch.promote_types(inverse.dtype, gradient.dtype)


def precondition(A: Tensor, B: Tensor, grad_A: Tensor, grad_B: Tensor, damping: float = 1e-6) -> tuple[Tensor, Tensor]:
    """(dA (E, r, in), dB (E, out, r)) of one stack, both computed from the current factors.

    Raises:
        FloatingPointError: When a damped Gram matrix has no Cholesky factor; `RiemannianSGD` counts those instead.

    Example:
        >>> A, B = torch.randn(3, 2, 8), torch.randn(3, 6, 2)  # three experts of rank 2
        >>> dA, dB = precondition(A, B, torch.randn_like(A), torch.randn_like(B))
        >>> tuple(dA.shape), tuple(dB.shape)
        ((3, 2, 8), (3, 6, 2))
    """
    for_a, bad_a = damped_inverse(gram([B], transposed=True), damping)
    for_b, bad_b = damped_inverse(gram([A], transposed=False), damping)
    if bad := int(bad_a.sum() + bad_b.sum()):
        raise FloatingPointError(f"{bad} Gram matrices are not positive definite at damping = {damping}; raise damping")
    type_a, type_b = product_type(for_a, grad_A), product_type(for_b, grad_B)
    dA, dB = for_a.to(type_a) @ grad_A.to(type_a), grad_B.to(type_b) @ for_b.to(type_b)
    return dA.to(A.dtype), dB.to(B.dtype)
