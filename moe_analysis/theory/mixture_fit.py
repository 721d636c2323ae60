"""Gated mixtures fitted to a family of updates: ΔW_t = Σ_e g_te B_e A_e by alternating least squares.

rank 1 is T-REX's diagonal pairing (a CP decomposition), a larger rank a LoRA-MoE with gates per target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class MixtureFit:
    """Factors and gates, the squared error, and the error after every sweep."""

    A: Float[np.ndarray, "expert rank in"]
    B: Float[np.ndarray, "expert out rank"]
    gates: Float[np.ndarray, "target expert"]
    error: float
    history: tuple[float, ...]

    @property
    def vectors(self) -> tuple[Float[np.ndarray, "num_down in"], Float[np.ndarray, "out num_down"]]:
        """All rank-1 parts side by side, E·r down and as many up vectors, expert-major."""
        return self.A.reshape(-1, self.A.shape[2]), np.concatenate(list(self.B), axis=1)


def mixture_of(
    A: Float[np.ndarray, "expert rank in"],
    B: Float[np.ndarray, "expert out rank"],
    gates: Float[np.ndarray, "target expert"],
) -> Float[np.ndarray, "target out in"]:
    """Σ_e g_te B_e A_e of every target t."""
    return np.tensordot(gates, B @ A, axes=1)


def mixture_gates(
    targets: Float[np.ndarray, "target out in"],
    A: Float[np.ndarray, "expert rank in"],
    B: Float[np.ndarray, "expert out rank"],
) -> Float[np.ndarray, "target expert"]:
    """The gates of least squared error for fixed experts."""
    experts = (B @ A).reshape(A.shape[0], -1)  # (E, out*in)
    return np.linalg.lstsq(experts.T, targets.reshape(len(targets), -1).T, rcond=None)[0].T


def _best_up(
    targets: Float[np.ndarray, "target out in"],
    A: Float[np.ndarray, "expert rank in"],
    gates: Float[np.ndarray, "target expert"],
) -> Float[np.ndarray, "expert out rank"]:
    """The up factors of least squared error for fixed down factors and gates."""
    experts, rank, width = A.shape
    seen = np.einsum("te,erw->twer", gates, A).reshape(-1, experts * rank)  # (T*in, E*r)
    wanted = targets.transpose(0, 2, 1).reshape(-1, targets.shape[1])  # (T*in, out)
    stacked = np.linalg.lstsq(seen, wanted, rcond=None)[0]  # (E*r, out)
    return stacked.reshape(experts, rank, -1).transpose(0, 2, 1)


def fit_mixture(
    targets: Float[np.ndarray, "target out in"],
    A: Float[np.ndarray, "expert rank in"],
    B: Float[np.ndarray, "expert out rank"],
    sweeps: int = 100,
    tolerance: float = 1e-10,
) -> MixtureFit:
    """Alternating least squares from the experts A, B; the first step fits the gates.

    The error never rises. The problem is not convex and for rank 1 a best fit need not exist (CP degeneracy),
    so the end is an upper bound on what such a mixture can reach: compare several starts.
    """
    total = float((targets**2).sum())
    gates = mixture_gates(targets, A, B)
    history = [float(((targets - mixture_of(A, B, gates)) ** 2).sum())]
    flipped = targets.transpose(0, 2, 1)  # (T, in, out): the same problem with the factors' roles exchanged
    for _ in range(sweeps):
        B = _best_up(targets, A, gates)
        A = _best_up(flipped, B.transpose(0, 2, 1), gates).transpose(0, 2, 1)
        A, B = _balanced(A, B)
        gates = mixture_gates(targets, A, B)
        history.append(float(((targets - mixture_of(A, B, gates)) ** 2).sum()))
        if history[-2] - history[-1] <= tolerance * total:
            break
    return MixtureFit(A, B, gates, history[-1], tuple(history))


def _balanced(
    A: Float[np.ndarray, "expert rank in"], B: Float[np.ndarray, "expert out rank"]
) -> tuple[Float[np.ndarray, "expert rank in"], Float[np.ndarray, "expert out rank"]]:
    """Experts of unit size, their scale left to the gates: without it factors drift to 0 and infinity."""
    size_a, size_b = np.linalg.norm(A, axis=(1, 2), keepdims=True), np.linalg.norm(B, axis=(1, 2), keepdims=True)
    return A / np.where(size_a > 0, size_a, 1.0), B / np.where(size_b > 0, size_b, 1.0)


def shared_update(targets: Float[np.ndarray, "target out in"], rank: int) -> MixtureFit:
    """One LoRA update of `rank` for every target: the truncated singular value decomposition of their mean; exact."""
    left, singular, right = np.linalg.svd(targets.mean(0), full_matrices=False)
    kept = min(rank, len(singular))
    A, B = right[None, :kept], (left[:, :kept] * singular[:kept])[None]  # (1, kept, in), (1, out, kept)
    gates = np.ones((len(targets), 1))
    error = float(((targets - mixture_of(A, B, gates)) ** 2).sum())
    return MixtureFit(A, B, gates, error, (error,))


def regrouped(
    fit: MixtureFit, num_experts: int, rank: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "expert rank in"], Float[np.ndarray, "expert out rank"]]:
    """The rank-1 parts of `fit` dealt out to experts; missing ones are drawn at random."""
    down, up = fit.vectors
    need = num_experts * rank
    if len(down) < need:
        down = np.concatenate([down, rng.standard_normal((need - len(down), down.shape[1]))])
        up = np.concatenate([up, rng.standard_normal((up.shape[0], need - up.shape[1]))], axis=1)
    A = down[:need].reshape(num_experts, rank, -1)
    return A, up[:, :need].T.reshape(num_experts, rank, -1).transpose(0, 2, 1)
