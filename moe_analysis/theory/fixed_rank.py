"""The manifold of matrices of one rank, where the update g·s·BA of an expert lives, and how it bends.

The tangent space at W = U diag(σ) Vᵀ is {ξ : P⊥ ξ Q⊥ = 0} with P⊥ = I − U Uᵀ, Q⊥ = I − V Vᵀ. The curve
t ↦ P(W + tξ), P the nearest matrix of rank r, leaves the tangent line by t²/2 · II(ξ, ξ) with the second fundamental
form II(ξ, ξ) = 2 P⊥ ξ W⁺ ξ Q⊥ (Absil, Mahony & Trumpf 2013; Vandereycken 2013).

The manifold is a cone: W and gW are points of the same manifold with the same tangent space, and W⁺ alone knows of g,
so that a gate g bends it by 1/g. That is our reading of Fig. 1 of "A Stronger Mixture of Low-Rank Experts" (gR).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from .claim import Claim, claim_check, largest

SOURCE = "gR Fig. 1"
SMALLEST = 1e-8  # σ_r / σ_1 below which the rank is not r in any useful sense


@dataclass(frozen=True)
class RankPoint:
    """A matrix W = U diag(sigma) Vᵀ of rank r, sigma falling and positive."""

    U: Float[np.ndarray, "out rank"]
    sigma: Float[np.ndarray, "rank"]
    V: Float[np.ndarray, "in rank"]

    @classmethod
    def from_factors(cls, A: Any, B: Any, scale: float = 1.0) -> RankPoint:
        """The point scale · B A of A (r, in), B (out, r), without forming a matrix larger than the factors.

        Raises:
            ValueError: For a product of lower rank than r (B = 0, as every adapter starts) and for one of full rank,
                which has no direction left to bend into.
        """
        A, B = np.asarray(A, float), np.asarray(B, float)
        rank, limit = A.shape[0], min(A.shape[1], B.shape[0])
        if rank >= limit:
            raise ValueError(
                f"r = {rank} but the layer is {B.shape[0]} x {A.shape[1]}: matrices of rank r form the "
                f"whole space, which is not curved; use r < {limit}"
            )
        left, upper = np.linalg.qr(B)  # (out, r), (r, r)
        right, lower = np.linalg.qr(A.T)  # (in, r), (r, r)
        u, sigma, vt = np.linalg.svd(scale * upper @ lower.T)
        if not sigma[-1] > SMALLEST * sigma[0]:
            raise ValueError(
                f"B A has rank below r = {rank} (singular values {sigma[0]:.2g} to {sigma[-1]:.2g}), as "
                "it has at the start, where B = 0; train the adapter, or choose experts that have moved"
            )
        return cls(left @ u, sigma, right @ vt.T)

    def scaled(self, gate: float) -> RankPoint:
        """The point gate · W."""
        return replace(self, sigma=gate * self.sigma)

    @property
    def matrix(self) -> Float[np.ndarray, "out in"]:
        return (self.U * self.sigma) @ self.V.T

    def tangent(self, X: Float[np.ndarray, "out in"]) -> Float[np.ndarray, "out in"]:
        """Orthogonal projection of X onto the tangent space."""
        return X - self.normal(X)

    def normal(self, X: Float[np.ndarray, "out in"]) -> Float[np.ndarray, "out in"]:
        """P⊥ X Q⊥: what of X is orthogonal to the tangent space."""
        rest = X - self.U @ (self.U.T @ X)
        return rest - (rest @ self.V) @ self.V.T

    def bend(self, xi: Float[np.ndarray, "out in"]) -> Float[np.ndarray, "out in"]:
        """The second fundamental form II(ξ, ξ) of a tangent ξ; its norm is the curvature."""
        left = (xi @ self.V) / self.sigma  # (out, r): ξ V diag(1/σ)
        return 2 * self.normal(left @ (self.U.T @ xi))

    def nearest(self, xi: Float[np.ndarray, "out in"]) -> Float[np.ndarray, "out in"]:
        """The matrix of rank r nearest to W + ξ for a tangent ξ, by truncated singular values.

        W + ξ lives in 2r columns and 2r rows, so that only a (2r, 2r) core is decomposed: exact, whatever the layer.
        """
        below, beside = self.V.T @ xi.T, self.U.T @ xi  # (r, out), (r, in)
        left, _ = np.linalg.qr(np.concatenate([self.U, below.T], axis=1))  # (out, 2r)
        right, _ = np.linalg.qr(np.concatenate([self.V, beside.T], axis=1))  # (in, 2r)
        core = ((left.T @ self.U) * self.sigma) @ (self.V.T @ right) + left.T @ xi @ right
        u, sigma, vt = np.linalg.svd(core)
        rank = len(self.sigma)
        return (left @ (u[:, :rank] * sigma[:rank])) @ (vt[:rank] @ right.T)

    def measured_curvature(self, xi: Float[np.ndarray, "out in"], t: float) -> float:
        """‖P(W+tξ) + P(W−tξ) − 2W‖ / t², which tends to ‖II(ξ, ξ)‖ as t → 0 (in 1 / units of W for a unit ξ)."""
        return float(np.linalg.norm(self.nearest(t * xi) + self.nearest(-t * xi) - 2 * self.matrix)) / t**2


def unit(X: Float[np.ndarray, "out in"]) -> Float[np.ndarray, "out in"]:
    return X / np.linalg.norm(X)


def random_factors(rng: np.random.Generator) -> tuple[Float[np.ndarray, "3 9"], Float[np.ndarray, "11 3"]]:
    """A and B of a random expert."""
    return rng.standard_normal((3, 9)), rng.standard_normal((11, 3))


def sharpest_direction(point: RankPoint) -> Float[np.ndarray, "out in"]:
    """The unit tangent of largest curvature, 1/σ_r: it turns the weakest singular vectors out of their spaces."""
    basis_u, basis_v = (
        np.linalg.qr(np.concatenate([frame, np.eye(len(frame))], axis=1))[0][:, len(point.sigma)]
        for frame in (point.U, point.V)
    )  # one vector orthogonal to each singular space
    return (np.outer(basis_u, point.V[:, -1]) + np.outer(point.U[:, -1], basis_v)) / np.sqrt(2)


@claim_check(SOURCE, reading=True)
def gr_curvature_closed_form(seed: int = 0) -> Claim:
    """Finite differences of the truncated singular value decomposition bend as the second fundamental form says."""
    rng, worst, sharpest = np.random.default_rng(seed), 0.0, 0.0
    for _ in range(20):
        point = RankPoint.from_factors(*random_factors(rng))
        xi, t = unit(point.tangent(rng.standard_normal((11, 9)))), 1e-3 * point.sigma[-1]
        closed = float(np.linalg.norm(point.bend(xi)))
        worst = largest(worst, abs(point.measured_curvature(xi, t) / closed - 1))
        top = sharpest_direction(point)
        sharpest = largest(
            sharpest,
            abs(point.measured_curvature(top, t) * point.sigma[-1] - 1),
            closed * point.sigma[-1] - 1,
        )
    return Claim(
        "gr_curvature_closed_form",
        SOURCE,
        "our reading: along a unit tangent ξ at W = g B A the manifold of rank-r matrices bends by 2‖P⊥ ξ W⁺ ξ Q⊥‖, at "
        "most by 1/σ_r(W), which is reached (largest relative difference to finite differences of the truncated SVD: "
        "[random directions, the sharpest])",
        [worst, sharpest],
        [0.0, 0.0],
        largest(worst, sharpest),
        worst < 1e-4 and sharpest < 1e-4,
    )


@claim_check(SOURCE, reading=True)
def gr_curvature_inverse_in_gate(seed: int = 0) -> Claim:
    """The curvature at g·BA, measured at one step length for every gate, is proportional to 1/g."""
    rng, gates, slopes, tilt = np.random.default_rng(seed), np.geomspace(0.02, 1, 7), [], 0.0
    for _ in range(10):
        A, B = random_factors(rng)
        points, X = [RankPoint.from_factors(A, B, gate) for gate in gates], rng.standard_normal((11, 9))
        xi, t = unit(points[-1].tangent(X)), 5e-3 * points[0].sigma[-1]
        measured = [point.measured_curvature(xi, t) for point in points]
        slopes.append(float(np.polyfit(np.log(gates), np.log(measured), 1)[0]))
        tilt = largest(tilt, float(np.linalg.norm(points[0].tangent(X) - points[-1].tangent(X)) / np.linalg.norm(X)))
    residual = largest(*(abs(slope + 1) for slope in slopes))
    return Claim(
        "gr_curvature_inverse_in_gate",
        SOURCE,
        "our reading: the smaller the gate, the more the manifold bends at g B A: curvature ∝ 1/g in a tangent space "
        f"that does not depend on g (log-log slopes of 10 random points; the tangent spaces differ by {tilt:.0e})",
        [min(slopes), max(slopes)],
        [-1.0, -1.0],
        residual,
        residual < 1e-3 and tilt < 1e-9,
    )
