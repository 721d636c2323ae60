"""The statements of "A Stronger Mixture of Low-Rank Experts" (gR) about steps, checked on the real optimizer.

"our reading" marks local analyses of what the paper only draws or describes in words. The measurements are those of
`gated_step`, on unchanged `MoeLora` modules in float64; how the manifold bends is checked in `fixed_rank`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .claim import Claim, claim_check, largest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ..adapters import MoeLora

REMEDY, PRECONDITIONER = "gR, gate rescaling", "gR, Riemannian preconditioner"
DAMPINGS = (1e-2, 1e-5, 1e-8)
FACTORS = ("random", "rank-deficient", "tiny")
SPARSE = ((8, True), (4, True), (4, False))  # of 8 gates: how many are kept, and whether they are renormalized


def gate_range(experts: int = 8) -> Float[Tensor, "expert"]:
    """Gates on a logarithmic grid over two decades that sum to 1, as a softmax gives them."""
    import torch

    grid = torch.logspace(-2, 0, experts, dtype=torch.float64)
    return grid / grid.sum()


def kept_gates(
    probabilities: Float[Tensor, "*tokens expert"], top_k: int, normalize_gates: bool
) -> Float[Tensor, "*tokens expert"]:
    """The top_k largest of all gates, divided by their sum or as they are; 0 for the others."""
    kept = probabilities * (probabilities >= probabilities.sort(-1).values[..., [-top_k]])
    return kept / kept.sum(-1, keepdim=True) if normalize_gates else kept


@claim_check(REMEDY, reading=True)
def gr_first_order_exponents(seed: int = 0) -> Claim:
    """One step changes an expert's part of the full matrix by g², g^{3/2}, g and g under the four rules."""
    from .gated_step import RULES, full_matrix_change, gate_slope, predicted_change, routed_copies

    slopes: dict[str, list[float]] = {name: [] for name in RULES}
    residual, idle = 0.0, 0.0
    for top_k, normalize in SPARSE:
        layer, x, gradient = routed_copies(gate_range(), seed, top_k=top_k, normalize_gates=normalize)
        gates = kept_gates(gate_range(), top_k, normalize)
        chosen, size = gates > 0, predicted_change(layer, x, gradient)
        for name, rule in RULES.items():
            change = full_matrix_change(layer, x, gradient, name, damping=1e-12)
            slopes[name].append(gate_slope(gates[chosen], change[chosen]))
            gap = (change / (gates**rule.exponent * size) - 1)[chosen].abs().max()
            residual = largest(residual, abs(slopes[name][-1] - rule.exponent), float(gap))
            idle = largest(idle, *change[~chosen].tolist())
    return Claim(
        "gr_first_order_exponents",
        REMEDY,
        "our reading: the first-order change of g s B A under one Riemannian step is lr s² g^{1+p} ‖Γ P_A + P_B Γ‖, "
        "and lr s² g ‖Γ P_A + P_B Γ‖ once the step is divided by the gate; for the k largest of 8 gates, renormalized or "
        "not, g is what is kept, and the other experts do not move (exponents of g for k = 8: plain p = 1, rescaled "
        "p = 1/2, p = 0, exact remedy; residual: the larger of exponents and relative sizes, for k = 8 and 4)",
        [found[0] for found in slopes.values()],
        [rule.exponent for rule in RULES.values()],
        largest(residual, idle),
        residual < 1e-4 and idle == 0.0,
    )


@claim_check(REMEDY, reading=True)
def gr_exact_remedy_is_power_zero(seed: int = 0) -> Claim:
    """With constant gates, dividing the preconditioned gradient by the gate is the backward power p = 0."""
    import torch

    from .gated_step import first_step, routed_copies

    gap, contrasts = 0.0, []
    for top_k, normalize in SPARSE:
        layer, x, gradient = routed_copies(gate_range(), seed, top_k=top_k, normalize_gates=normalize)
        steps = []
        for rule in ("exact remedy", "p = 0", "rescaled"):
            moved, _, lr = first_step(layer, x, gradient, rule, relative_step=1e-2)
            steps.append(
                torch.cat(
                    [((new - old) / lr).detach().flatten() for new, old in zip((moved.A, moved.B), (layer.A, layer.B))]
                )
            )
        remedy, zero, rescaled = steps
        gap = largest(gap, float((zero - remedy).norm() / remedy.norm()))
        contrasts.append(float((rescaled - remedy).norm() / remedy.norm()))
    return Claim(
        "gr_exact_remedy_is_power_zero",
        REMEDY,
        "our reading: when gates are constant over the batch, the exact remedy (the preconditioned gradient divided by "
        "the gate) is the step of p = 0, for the k largest of 8 gates too, renormalized or not (largest relative "
        f"difference of the steps for k = 8 and 4; that of p = 1/2 is at least {min(contrasts):.2g})",
        gap,
        0.0,
        gap,
        gap < 1e-10 and min(contrasts) > 0.1,
    )


def by_the_authors_form(
    layer: MoeLora, x: Float[Tensor, "token in"], gradient: Float[Tensor, "token out"]
) -> dict[str, Float[Tensor, "..."]]:
    """Gradients of A, B, router and x with √g_const · E + (g − √g_const) · E_const written out for every expert.

    √g stands for g^p of the layer's p. The experts without a gate are not in the sum.
    """
    import torch

    config, x = layer.config, x.clone().requires_grad_()
    gates = kept_gates(layer.router(x).softmax(-1), config.active_experts, config.normalizes).unsqueeze(-1)  # (N, E, 1)
    outputs = layer.scaling * torch.einsum("eor,eri,ni->neo", layer.B, layer.A, x)
    root = torch.where(gates > 0, gates.detach() ** config.gate_backward_power, 0.0)
    mixed = root * outputs + (gates - root) * outputs.detach()
    leaves = {"A": layer.A, "B": layer.B, "router": layer.router.weight, "x": x}
    return dict(zip(leaves, torch.autograd.grad((mixed.sum(1) * gradient).sum(), list(leaves.values()))))


@claim_check(REMEDY)
def gr_sparse_gates(seed: int = 0) -> Claim:
    """With the paper's 10 of 20 experts per token, a step is that of the authors' form over the chosen experts."""
    import torch

    from ..adapters import MoeLora, MoeLoraConfig
    from ..optim import RiemannianSGD

    generator, eye = torch.Generator().manual_seed(seed), torch.eye(4, dtype=torch.float64)
    gaps, steps, idle = 0.0, 0.0, 0.0
    for power, normalize in ((1.0, True), (0.5, True), (0.0, True), (0.5, False)):
        config = MoeLoraConfig(r=4, num_experts=20, top_k=10, gate_backward_power=power, normalize_gates=normalize)
        layer = MoeLora(16, 12, config).double()
        x, gradient = (torch.randn(30, width, generator=generator, dtype=torch.float64) for width in (16, 12))
        x[:, 0] = 1.0
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
            layer.router.weight[0, 0] = -50.0  # no token chooses this expert
            A, B = layer.A.clone(), layer.B.clone()
        expected = by_the_authors_form(layer, x, gradient)
        (layer(x.requires_grad_())[0] * gradient).sum().backward()
        found: dict[str, Any] = {"A": layer.A.grad, "B": layer.B.grad, "router": layer.router.weight.grad, "x": x.grad}
        gaps = largest(gaps, *(float((found[name] - one).norm() / one.norm()) for name, one in expected.items()))
        RiemannianSGD(layer, lr=0.1, damping=1e-6).step()
        dA = torch.linalg.solve(B.mT @ B + 1e-6 * eye, expected["A"])
        dB = torch.linalg.solve(A @ A.mT + 1e-6 * eye, expected["B"], left=False)
        for new, old, step in ((layer.A, A, dA), (layer.B, B, dB)):
            moved = (new - old).detach()
            steps = largest(steps, float((moved + 0.1 * step).norm() / (0.1 * step).norm()))
            idle = largest(idle, float(moved[0].abs().max()))
    return Claim(
        "gr_sparse_gates",
        REMEDY,
        "with 10 of 20 experts per token, gates renormalized or not, gradients are those of √g_const · E + (g − √g_const) "
        "· E_const over the chosen experts, for p = 1 and 0 too; a Riemannian step preconditions them, and an expert that "
        "no token chose does not move ([largest relative difference of gradients, of steps, its largest change])",
        [gaps, steps, idle],
        [0.0, 0.0, 0.0],
        largest(gaps, steps, idle),
        gaps < 1e-10 and steps < 1e-8 and idle == 0.0,
    )


def routed_gradients(top_k: int, power: float, seed: int) -> dict[str, Float[Tensor, "..."]]:
    """Gradients of A, B, router and x, and A and B after a step, of a random MoeLora of 4 experts on 12 tokens."""
    import torch

    from ..adapters import MoeLora, MoeLoraConfig
    from ..optim import RiemannianSGD

    generator = torch.Generator().manual_seed(seed)
    layer = MoeLora(9, 7, MoeLoraConfig(r=2, num_experts=4, top_k=top_k, gate_backward_power=power)).double()
    x, gradient = (torch.randn(12, width, generator=generator, dtype=torch.float64) for width in (9, 7))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 3)
    (layer(x.requires_grad_())[0] * gradient).sum().backward()
    found: dict[str, Any] = {"A": layer.A.grad, "B": layer.B.grad, "router": layer.router.weight.grad, "x": x.grad}
    RiemannianSGD(layer, lr=0.1).step()
    return {**found, "stepped A": layer.A.detach(), "stepped B": layer.B.detach()}


@claim_check(REMEDY)
def gr_single_expert_control(seed: int = 0) -> Claim:
    """With one expert per token the renormalized gate is 1 and the plain and the rescaled rule coincide, bit for bit.

    Any processor can be asked for that: both rules make the same products of the same shapes, a factor 1 between.
    """
    differing = {}
    for k in (1, 2):
        plain, rescaled = routed_gradients(k, 1.0, seed), routed_gradients(k, 0.5, seed)
        differing[k] = [name for name in plain if not bool((plain[name] == rescaled[name]).all())]
    return Claim(
        "gr_single_expert_control",
        REMEDY,
        "with k = 1 the renormalized gate is 1, so that rescaling changes nothing: all gradients and the steps are "
        f"equal bit for bit (what differs at k = 1; at k = 2: {', '.join(differing[2])})",
        differing[1],
        [],
        float(len(differing[1])),
        not differing[1] and "stepped A" in differing[2],
    )


@claim_check(REMEDY)
def gr_gate_gradient_unchanged(seed: int = 0) -> Claim:
    """Rescaling leaves the gate's own gradient as it is and changes what reaches the experts and the layer's input."""
    plain, rescaled = routed_gradients(3, 1.0, seed), routed_gradients(3, 0.5, seed)
    gaps = {
        name: float((rescaled[name] - plain[name]).norm() / plain[name].norm()) for name in ("router", "A", "B", "x")
    }
    gap, others = gaps.pop("router"), ", ".join(f"{name} {value:.2f}" for name, value in gaps.items())
    return Claim(
        "gr_gate_gradient_unchanged",
        REMEDY,
        "the backward factor g^p acts on the experts' path alone: the router's gradient is the same for p = 1 and 1/2 "
        f"(relative difference; of what passes through the experts: {others})",
        gap,
        0.0,
        gap,
        gap < 1e-12 and min(gaps.values()) > 0.01,
    )


@claim_check(PRECONDITIONER)
def gr_step_invariance(seed: int = 0) -> Claim:
    """A whole step changes B A in the same way however it is split into factors, up to the damping."""
    import torch

    from ..optim import precondition

    generator, gaps, ratios = torch.Generator().manual_seed(seed), dict.fromkeys(DAMPINGS, 0.0), []
    for _ in range(20):
        A, B, C, matrix = (
            torch.randn(shape, generator=generator, dtype=torch.float64)
            for shape in [(1, 3, 9), (1, 11, 3), (3, 3), (11, 9)]
        )
        # singular values 1/2, 1, 2: an inverse close to singular would enlarge the damping
        C = torch.linalg.qr(C).Q * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)

        def stepped(
            A: Float[Tensor, "1 rank in"], B: Float[Tensor, "1 out rank"], damping: float
        ) -> Float[Tensor, "1 out in"]:
            dA, dB = precondition(A, B, B.mT @ matrix, matrix @ A.mT, damping)  # noqa: B023  used in this turn only
            return (B - 0.1 * dB) @ (A - 0.1 * dA)

        for damping in DAMPINGS:
            gap = stepped(C @ A, B @ torch.linalg.inv(C), damping) - stepped(A, B, damping)
            gaps[damping] = largest(gaps[damping], float(gap.norm() / (stepped(A, B, damping) - B @ A).norm()))
        plain = (B - 0.1 * matrix @ A.mT) @ (A - 0.1 * B.mT @ matrix) - B @ A
        A2, B2 = C @ A, B @ torch.linalg.inv(C)
        other = (B2 - 0.1 * matrix @ A2.mT) @ (A2 - 0.1 * B2.mT @ matrix) - B @ A
        ratios.append(float((other - plain).norm() / plain.norm()))
    residual = gaps[DAMPINGS[-1]]
    falling = all(gaps[a] > 10 * gaps[b] for a, b in zip(DAMPINGS, DAMPINGS[1:]))
    return Claim(
        "gr_step_invariance",
        PRECONDITIONER,
        "the step in B A does not depend on the factors, (A, B) or (C A, B C⁻¹), up to the damping (largest relative "
        f"difference over 20 problems at damping {', '.join(f'{d:.0e}' for d in DAMPINGS)}; plain gradient steps "
        f"differ by {min(ratios):.2g} to {max(ratios):.2g})",
        list(gaps.values()),
        [0.0] * len(DAMPINGS),
        residual,
        residual < 1e-4 and falling and min(ratios) > 0.1,
    )


def difficult_factors(kind: str, generator: Any) -> tuple[Float[Tensor, "1 3 9"], Float[Tensor, "1 11 3"]]:
    """A and B: random, with a repeated or a zero direction, or so small that damping competes."""
    import torch

    A, B = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(1, 3, 9), (1, 11, 3)])
    if kind == "rank-deficient":
        A[:, 1], B[:, :, 2] = A[:, 0], 0.0
    return (A * 1e-3, B * 1e-3) if kind == "tiny" else (A, B)


def least_cosine(gram: Float[Tensor, "1 rank rank"], damping: float = 1e-6) -> tuple[float, Float[Tensor, "1 rank"]]:
    """Kantorovich's bound on the cosine between g and (G + δI)⁻¹ g, and a g that has it and tells G⁻¹ from G."""
    import torch

    values, vectors = torch.linalg.eigh(gram[0])
    ends = values[[0, -1]] + damping
    return float(2 * ends.prod().sqrt() / ends.sum()), (vectors[:, [0, -1]] * ends.sqrt()).sum(1)[None]


def cosines(
    directions: Sequence[Float[Tensor, "expert _row _column"]],
    gradients: Sequence[Float[Tensor, "expert _row _column"]],
) -> list[float]:
    return [float((d * g).sum() / (d.norm() * g.norm())) for d, g in zip(directions, gradients, strict=True)]


@claim_check(PRECONDITIONER)
def gr_descent_direction(seed: int = 0) -> Claim:
    """The preconditioned gradient has a positive product with the gradient, whatever the factors."""
    import torch

    from ..optim import precondition

    generator, least, worst = torch.Generator().manual_seed(seed), dict.fromkeys(FACTORS, 1.0), 0.0
    for kind in FACTORS:
        for _ in range(100):
            A, B = difficult_factors(kind, generator)
            matrix = torch.randn(11, 9, generator=generator, dtype=torch.float64)
            (bound_a, hardest_a), (bound_b, hardest_b) = least_cosine(B.mT @ B), least_cosine(A @ A.mT)
            gradients = B.mT @ matrix, matrix @ A.mT
            for bound, found in zip((bound_a, bound_b), cosines(precondition(A, B, *gradients), gradients)):
                least[kind], worst = min(least[kind], found), largest(worst, bound - found)
            hardest = hardest_a.unsqueeze(-1).expand_as(A), hardest_b.unsqueeze(-2).expand_as(B)
            for bound, found in zip((bound_a, bound_b), cosines(precondition(A, B, *hardest), hardest)):
                worst = largest(worst, abs(bound - found))
    return Claim(
        "gr_descent_direction",
        PRECONDITIONER,
        f"the preconditioned direction descends: its cosine with the gradient is positive for {', '.join(FACTORS)} "
        "factors, and at least 2√κ / (1 + κ) for a damped Gram matrix of condition κ, which the hardest gradient has "
        "(least cosines of 200 each; residual: largest distance from the bound, of the hardest gradients too)",
        list(least.values()),
        ["> 0"] * len(FACTORS),
        worst,
        min(least.values()) > 0 and worst < 1e-7,
    )


@claim_check(PRECONDITIONER)
def gr_zero_start(seed: int = 0) -> Claim:
    """From B = 0, as every adapter starts, the first step is finite, leaves A alone and moves B down the gradient."""
    import torch

    from ..adapters import MoeLora, MoeLoraConfig
    from ..optim import RiemannianSGD

    generator = torch.Generator().manual_seed(seed)
    layer = MoeLora(9, 7, MoeLoraConfig(r=2, num_experts=4, top_k=2)).double()
    x, gradient, A = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(12, 9), (12, 7), (4, 2, 9)]
    )
    with torch.no_grad():
        layer.A.copy_(A)
    (layer(x)[0] * gradient).sum().backward()
    grams = A @ A.mT + 1e-6 * torch.eye(2)
    expected = -0.1 * torch.linalg.solve(grams, layer.B.grad, left=False)
    RiemannianSGD(layer, lr=0.1, damping=1e-6).step()
    moved = float((layer.A.detach() - A).abs().max())
    gap = float((layer.B.detach() - expected).norm() / expected.norm())
    return Claim(
        "gr_zero_start",
        PRECONDITIONER,
        "with B = 0 the damped Gram matrix is δI: A has no gradient, so that 1/δ does no harm, and B takes its "
        "preconditioned step ([largest change of A, relative error of the step of B])",
        [moved, gap],
        [0.0, 0.0],
        largest(moved, gap),
        moved == 0.0 and np.isfinite(gap) and gap < 1e-9,
    )
