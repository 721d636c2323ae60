"""T-REX Theorem 4.3 in our reading: routing as a mix of the learned router R and the semantic prior P.

We know only the theorem's title. Along G(ω) = ω R + (1 − ω) P a loss that is quadratic in G is a parabola
in ω, so everything about the best share of the router follows from its value and slope at the two ends. R and P
stand for the scaled endpoints, router_coef · softmax and intuition_coef · intuition: nothing needs them to be
probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .claim import Claim, claim_check, largest
from .trex import SATURATED

SOURCE = "T-REX Theorem 4.3"
Routings = tuple[
    Float[np.ndarray, "expert"],
    Float[np.ndarray, "expert"],
    Float[np.ndarray, "expert"],
    Float[np.ndarray, "expert expert"],
]  # R, P, the target, H


@dataclass(frozen=True)
class Parabola:
    """A loss along the line from the prior (ω = 0) to the router (ω = 1): its two ends and its curvature.

    curvature is the second derivative, 2 (slope_at_router − (router − prior)), never negative for a convex loss.
    """

    prior: float
    router: float
    curvature: float

    @property
    def slope_at_router(self) -> float:
        """dL/dω at ω = 1: positive exactly when moving from the router towards the prior lowers the loss."""
        return self.router - self.prior + self.curvature / 2

    @property
    def best_on_line(self) -> float:
        """The ω of least loss without limits; 1 if the loss does not depend on ω or falls forever."""
        return 1.0 - self.slope_at_router / self.curvature if self.curvature > 0 else 1.0

    @property
    def best(self) -> float:
        """The ω in [0, 1] of least loss: the line's own, clipped; for a straight line the better end."""
        if self.curvature > 0:
            return min(max(self.best_on_line, 0.0), 1.0)
        return 0.0 if self.prior < self.router else 1.0

    def loss(self, omega: float) -> float:
        """Loss at ω: the chord between the ends less what the curvature takes away."""
        return omega * self.router + (1 - omega) * self.prior - self.curvature * omega * (1 - omega) / 2


def gate_parabola(
    R: Float[np.ndarray, "expert"],
    P: Float[np.ndarray, "expert"],
    target: Float[np.ndarray, "expert"],
    H: Float[np.ndarray, "expert expert"],
) -> Parabola:
    """The loss ½ (g − g*)ᵀ H (g − g*) of flattened routings R, P, target with H positive semidefinite."""

    def half(gap: Float[np.ndarray, "expert"]) -> float:
        return 0.5 * float(gap @ H @ gap)

    return Parabola(half(P - target), half(R - target), 2 * half(R - P))


def output_parabola(
    router_delta: Float[np.ndarray, "*tokens out"],
    prior_delta: Float[np.ndarray, "*tokens out"],
    target: Float[np.ndarray, "*tokens out"],
) -> Parabola:
    """The mean squared error of updates on tokens, as all-router and as all-prior layer give them."""
    return Parabola(
        float(((prior_delta - target) ** 2).mean()),
        float(((router_delta - target) ** 2).mean()),
        2 * float(((router_delta - prior_delta) ** 2).mean()),
    )


def random_parabolas(count: int, seed: int = 0, experts: int = 6) -> list[tuple[Parabola, Routings]]:
    """Random quadratic routing problems, (parabola, (R, P, target, H)); a third have H of deficient rank."""
    rng = np.random.default_rng(seed)
    problems: list[tuple[Parabola, Routings]] = []
    for index in range(count):
        factor = rng.standard_normal((experts if index % 3 else 2, experts))
        R, P, target = (rng.standard_normal(experts) for _ in range(3))
        P = target + (P - target) * float(rng.choice([0.3, 1.0, 3.0]))  # better, like and worse than a random router
        H = factor.T @ factor
        problems.append((gate_parabola(R, P, target, H), (R, P, target, H)))
    return problems


@claim_check(SOURCE, reading=True)
def trex_theorem_4_3_best_share(seed: int = 0) -> Claim:
    """The best ω has the closed form of a line search.

    Its loss is never above either end's, for any loss and any ω*, so this is not part of the check.
    """
    off_formula, off_grid, grid = 0.0, 0.0, np.linspace(0, 1, 2001)
    for parabola, (R, P, target, H) in random_parabolas(300, seed):
        along, gradient = R - P, H @ (R - target)
        share = float(np.clip(1 - along @ gradient / (along @ H @ along), 0, 1))
        off_formula = largest(off_formula, abs(share - parabola.best))
        gaps = grid[:, None] * R + (1 - grid[:, None]) * P - target  # (2001, E)
        losses = 0.5 * np.einsum("we,ef,wf->w", gaps, H, gaps)
        # on a parabola the best point of a grid is the one next to the best of all
        off_grid = largest(off_grid, abs(float(grid[losses.argmin()]) - share) - (grid[1] - grid[0]) / 2)
    return Claim(
        "trex_theorem_4_3_best_share",
        SOURCE,
        "our reading: for a loss quadratic in G, ω* = clip(1 − ⟨R−P, ∇L(R)⟩ / ⟨R−P, H(R−P)⟩, 0, 1) minimizes "
        "L(ω R + (1−ω) P) (largest distance of ω* from [the parabola's own, the best of 2001 points beyond half a step])",
        [off_formula, largest(off_grid, 0.0)],
        [0.0, 0.0],
        largest(off_formula, off_grid, 0.0),
        off_formula < 1e-9 and off_grid < 1e-6,
    )


@claim_check(SOURCE, reading=True)
def trex_theorem_4_3_when_the_prior_helps(seed: int = 0) -> Claim:
    """ω < 1 strictly helps exactly when the slope at the router is positive; a better prior implies it."""
    helped, predicted, better = [], [], []
    for parabola, (R, P, target, H) in random_parabolas(600, seed):
        mixed = parabola.best * R + (1 - parabola.best) * P - target
        gain = parabola.router - 0.5 * float(mixed @ H @ mixed)
        helped.append(gain > 1e-12 * (1 + parabola.router))
        predicted.append(float((R - P) @ H @ (R - target)) > 0)
        better.append(parabola.prior < parabola.router)
    agreeing = sum(h == s for h, s in zip(helped, predicted, strict=True))
    implied = all(h for h, b in zip(helped, better, strict=True) if b)
    worse_but_helps = sum(h and not b for h, b in zip(helped, better, strict=True))
    return Claim(
        "trex_theorem_4_3_when_the_prior_helps",
        SOURCE,
        "our reading: some ω < 1 beats the router alone if and only if ⟨R−P, ∇L(R)⟩ > 0 (problems that agree); "
        f"L(P) < L(R) implies it ({sum(better)} problems, all helped: {implied}) but is not needed: the prior helped "
        f"in {worse_but_helps} of the {len(better) - sum(better)} problems where it was the worse end",
        agreeing,
        len(helped),
        float(len(helped) - agreeing),
        agreeing == len(helped) and implied,
    )


@claim_check(SOURCE, reading=True)
def trex_theorem_4_3_on_the_layer(seed: int = 0) -> Claim:
    """The module's update is affine in ω between router and prior alone, so two forwards give its best share."""
    import torch

    from ..adapters import RoutingContext, TRex, TRexConfig

    generator, worst, excess = torch.Generator().manual_seed(seed), 0.0, 0.0
    for _ in range(5):
        layer = TRex(9, 7, TRexConfig(num_down=2, num_up=3)).double()
        x, target, scores = (
            torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(5, 4, 9), (5, 4, 7), (5, 6)]
        )
        with torch.no_grad():
            for parameter in (layer.A, layer.B, layer.router.weight):
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3)

            def apply(logit: float, sign: int = 1) -> Float[np.ndarray, "*tokens out"]:
                layer.omega_logit.fill_(logit)  # noqa: B023  called inside the loop only
                return layer(x, RoutingContext(intuition=sign * scores))[0].numpy()  # noqa: B023

            router, prior = apply(SATURATED), apply(-SATURATED)
            parabola = output_parabola(router, prior, target.numpy())
            for omega in np.linspace(0.02, 0.98, 49):
                loss = float(((apply(float(np.log(omega / (1 - omega))) / 100) - target.numpy()) ** 2).mean())
                worst = largest(worst, abs(loss - parabola.loss(omega)) / loss)
                excess = largest(excess, (parabola.loss(parabola.best) - loss) / loss)
            # each end is one of the two alone: scores change nothing at the router's, the router nothing at the prior's
            worst = largest(worst, float(np.abs(apply(SATURATED, sign=-1) - router).max()))
            layer.router.weight.neg_()
            worst = largest(worst, float(np.abs(apply(-SATURATED) - prior).max()))
    return Claim(
        "trex_theorem_4_3_on_the_layer",
        SOURCE,
        "our reading: the module's squared error at share ω is the parabola fixed by its all-router and all-prior "
        "outputs, and no ω beats the closed form (largest relative difference, largest excess)",
        [worst, excess],
        [0.0, 0.0],
        largest(worst, excess),
        worst < 1e-9 and excess < 1e-9,
    )


@claim_check(SOURCE, reading=True)
def trex_theorem_4_3_router_gradient_scale(seed: int = 0) -> Claim:
    """With the gradient at the layer's output held fixed, the router's gradient is proportional to ω."""
    import torch

    from ..adapters import RoutingContext, TRex, TRexConfig

    generator = torch.Generator().manual_seed(seed)
    layer = TRex(9, 7, TRexConfig(num_down=2, num_up=3)).double()
    x, upstream, scores = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(16, 1, 9), (16, 1, 7), (16, 6)]
    )
    with torch.no_grad():
        for parameter in (layer.A, layer.B, layer.router.weight):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3)
    shares, variances = [1.0, 0.9, 0.5, 0.1], []
    for share in shares:
        with torch.no_grad():
            layer.omega_logit.fill_(SATURATED if share == 1.0 else float(np.log(share / (1 - share))) / 100)
        gradients = []
        for sample in range(len(x)):
            delta, _ = layer(x[sample : sample + 1], RoutingContext(intuition=scores[sample : sample + 1]))
            loss = (delta * upstream[sample]).sum()
            gradients.append(torch.autograd.grad(loss, layer.router.weight)[0].reshape(-1))
        variances.append(float(torch.stack(gradients).var(0).sum()))
    measured, expected = [variance / variances[0] for variance in variances], [share**2 for share in shares]
    residual = float(np.abs(np.subtract(measured, expected)).max())
    return Claim(
        "trex_theorem_4_3_router_gradient_scale",
        SOURCE,
        "our reading: with the loss gradient at the layer's output held fixed, the prior scales the router's gradient "
        "by ω, so its variance over samples by ω² against ω = 1; mean and spread shrink alike, so the noise relative "
        "to the signal does not change by this alone (variance ratios at ω = 1, 0.9, 0.5, 0.1)",
        measured,
        expected,
        residual,
        residual < 1e-9,
    )
