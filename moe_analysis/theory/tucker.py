"""Shared factors for a family of updates: every target keeps its own routing matrix, all share A and B (Tucker-2).

A fit is ΔW_t = B G_tᵀ A with G_t (I, J).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped


@dataclass(frozen=True)
class SharedFactors:
    """A and B with orthonormal vectors, their error, and the error after every sweep."""

    A: Float[np.ndarray, "num_down in"]
    B: Float[np.ndarray, "out num_up"]
    error: float
    history: tuple[float, ...]


def check_targets(targets: Shaped[np.ndarray, "target out in"]) -> Float[np.ndarray, "target out in"]:
    """The targets as float64; ValueError for another number of dimensions, none at all, or NaN."""
    values = np.asarray(targets, dtype=np.float64)
    if values.ndim != 3 or values.size == 0:
        raise ValueError(f"targets has shape {values.shape}; pass (targets, out_features, in_features)")
    if not np.isfinite(values).all():
        raise ValueError("targets holds NaN or infinite entries; remove them before fitting")
    return values


def best_gates(
    targets: Float[np.ndarray, "target out in"], A: Float[np.ndarray, "num_down in"], B: Float[np.ndarray, "out num_up"]
) -> Float[np.ndarray, "target num_down num_up"]:
    """The routing of least squared error for fixed factors, G_t = (B⁺ ΔW_t A⁺)ᵀ."""
    coordinates = np.linalg.pinv(B) @ targets @ np.linalg.pinv(A)  # (T, J, I)
    return coordinates.transpose(0, 2, 1)


def projection_error(
    targets: Float[np.ndarray, "target out in"], A: Float[np.ndarray, "num_down in"], B: Float[np.ndarray, "out num_up"]
) -> float:
    """Σ_t ‖ΔW_t − P_B ΔW_t P_A‖², P_B onto the columns of B and P_A onto the rows of A; any factors, any rank."""
    left, right = B @ np.linalg.pinv(B), np.linalg.pinv(A) @ A  # (out, out), (in, in)
    return float(((targets - left @ targets @ right) ** 2).sum())


def leading(matrix: Float[np.ndarray, "row column"], count: int) -> Float[np.ndarray, "row count"]:
    """Leading left singular vectors; `count` beyond the rows gives all of them."""
    vectors = np.linalg.svd(matrix, full_matrices=True)[0]
    return vectors[:, : min(count, matrix.shape[0])]


def unfold_out(tensor: Float[np.ndarray, "target out hidden"]) -> Float[np.ndarray, "out target*hidden"]:
    """The columns of all targets side by side."""
    return tensor.transpose(1, 0, 2).reshape(tensor.shape[1], -1)


def unfold_in(tensor: Float[np.ndarray, "target hidden in"]) -> Float[np.ndarray, "in target*hidden"]:
    """The rows of all targets side by side, as columns."""
    return tensor.transpose(2, 0, 1).reshape(tensor.shape[2], -1)


def hosvd(targets: Float[np.ndarray, "target out in"], num_down: int, num_up: int) -> SharedFactors:
    """Leading singular vectors of the two unfoldings (De Lathauwer et al. 2000); at most twice the best error."""
    A, B = leading(unfold_in(targets), num_down).T, leading(unfold_out(targets), num_up)
    error = projection_error(targets, A, B)
    return SharedFactors(A, B, error, (error,))


def hooi(
    targets: Float[np.ndarray, "target out in"],
    num_down: int,
    num_up: int,
    start: SharedFactors | None = None,
    sweeps: int = 100,
    tolerance: float = 1e-12,
) -> SharedFactors:
    """Alternate the best B for A and the best A for B (De Lathauwer et al. 2000), from HOSVD or from `start`.

    The error never rises from one sweep to the next; the problem is not convex, so the end is an upper bound.
    """
    state = start or hosvd(targets, num_down, num_up)
    A, history = state.A, [state.error]
    total = float((targets**2).sum())
    for _ in range(sweeps):
        B = leading(unfold_out(targets @ A.T), num_up)  # targets @ Aᵀ: (T, out, I)
        A = leading(unfold_in(B.T @ targets), num_down).T  # Bᵀ @ targets: (T, J, in)
        history.append(projection_error(targets, A, B))
        if history[-2] - history[-1] <= tolerance * total:
            break
    return SharedFactors(A, B, history[-1], tuple(history))


def span_of(
    down: Float[np.ndarray, "num_down in"],
    up: Float[np.ndarray, "out num_up"],
    targets: Float[np.ndarray, "target out in"],
) -> SharedFactors:
    """Orthonormal factors with the spans of given down and up vectors, to start `hooi` from."""
    A, B = leading(down.T, down.shape[0]).T, leading(up, up.shape[1])
    error = projection_error(targets, A, B)
    return SharedFactors(A, B, error, (error,))


def mode_tails(targets: Float[np.ndarray, "target out in"], num_down: int, num_up: int) -> tuple[float, float]:
    """(tail over in, tail over out): squared singular values of each unfolding beyond I and beyond J.

    The larger is a lower bound on the error of any shared factors, their sum an upper bound on that of HOSVD.
    """
    over_in = np.linalg.svd(unfold_in(targets), compute_uv=False)[num_down:]
    over_out = np.linalg.svd(unfold_out(targets), compute_uv=False)[num_up:]
    return float((over_in**2).sum()), float((over_out**2).sum())
