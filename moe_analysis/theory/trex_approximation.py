"""T-REX Theorem 4.2 in our reading: how well rank-1 experts approximate one update, and a family of them.

We know only the theorem's title; the statement that is checked here is ours.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

from .claim import Claim, claim_check, largest
from .mixture_fit import MixtureFit, fit_mixture, mixture_of, regrouped, shared_update
from .trex import realised_updates
from .tucker import best_gates, check_targets, hooi, hosvd, mode_tails, projection_error, span_of

SOURCE = "T-REX Theorem 4.2"
FAMILIES = ("shared", "clustered", "unstructured")
COUNTS = ("factors", "factors+gates", "factors+router")


def target_family(
    kind: str, targets: int = 12, out_features: int = 16, in_features: int = 20, seed: int = 0
) -> Float[np.ndarray, "target out in"]:
    """Updates that a family of tasks might need, mean squared entry 1.

    "shared": random combinations of 5 up and 4 down directions, plus 10 % noise. "clustered": 4 rank-2 centers,
    each target one of them plus 30 % noise of its own. "unstructured": independent normal entries.
    """
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((targets, out_features, in_features))
    if kind == "unstructured":
        family = noise
    elif kind == "shared":
        up, down = rng.standard_normal((out_features, 5)), rng.standard_normal((4, in_features))
        family = up @ rng.standard_normal((targets, 5, 4)) @ down / np.sqrt(20) + 0.1 * noise
    elif kind == "clustered":
        up, down = rng.standard_normal((4, out_features, 2)), rng.standard_normal((4, 2, in_features))
        family = (up @ down / np.sqrt(2))[np.arange(targets) % 4] + 0.3 * noise
    else:
        raise ValueError(f"kind = {kind!r} is unknown; choose one of {', '.join(FAMILIES)}")
    return family / np.sqrt((family**2).mean())


def sizes(parameters: int, shape: tuple[int, int, int], num_experts: int, count: str) -> dict[str, tuple[int, ...]]:
    """The largest of each system within a budget: LoRA (r,), LoRA-MoE (E, r), diagonal (r,), mix-and-match (I, J).

    Args:
        shape: (T, out, in).
        count: What the budget pays for, "factors" only (how the lemma counts), "factors+gates" (one number per target
            and expert) or "factors+router" (in_features per expert, as the layer has).
    """
    number, height, width = shape
    if count not in COUNTS:
        raise ValueError(f"count = {count!r} is unknown; choose one of {', '.join(COUNTS)}")
    each = {"factors": 0, "factors+gates": number, "factors+router": width}[count]
    pair = height + width  # a down and an up vector
    rank = (parameters - num_experts * each) // (num_experts * pair)
    diagonal = parameters // (pair + each)
    if rank < 1:
        least = num_experts * (pair + each)
        raise ValueError(
            f"parameters = {parameters} are not enough for {num_experts} experts of rank 1; pass at least {least}"
        )
    fitting = [(i, min(height, (parameters - i * width) // (height + i * each))) for i in range(1, width + 1)]
    best = max(fitting, key=lambda size: (size[0] * size[1], min(size)))  # most experts, then the squarest
    return {
        "lora": (parameters // pair,),
        "moe_lora": (num_experts, rank),
        "diagonal": (diagonal,),
        "mix_and_match": best,
    }


def _best_mixture(
    targets: Float[np.ndarray, "target out in"],
    start: MixtureFit | None,
    restarts: int,
    rng: np.random.Generator,
    num_experts: int,
    rank: int,
) -> MixtureFit:
    """The best of one start from a smaller system's solution, where there is one, and `restarts` random ones."""
    height, width = targets.shape[1:]
    starts = [] if start is None else [regrouped(start, num_experts, rank, rng)]
    for _ in range(restarts):
        starts.append(
            (rng.standard_normal((num_experts, rank, width)), rng.standard_normal((num_experts, height, rank)))
        )
    return min((fit_mixture(targets, *factors) for factors in starts), key=lambda fit: fit.error)


def approximation_errors(
    targets: Shaped[np.ndarray, "target out in"],
    parameters: int,
    num_experts: int = 4,
    count: str = "factors",
    restarts: int = 3,
    seed: int = 0,
    nested: bool = True,
) -> pd.DataFrame:
    """Error of each system on a family of targets at the same parameter budget, one row per system.

    Args:
        targets: the updates to approximate.
        parameters: the budget.
        num_experts: of LoRA-MoE.
        count: what the budget pays for, one of `COUNTS`.
        restarts: fits from random starts.
        seed: of the random starts.
        nested: one more fit of each system starts from the solution of the system above it. When only factors are
            counted the errors then fall from row to row whatever the targets are; without it nothing makes them fall.

    Returns:
        method, size, parameters (factors), gates (free numbers per target), error (squared Frobenius norm),
        relative_error (of the targets' own), bound: "exact" is the optimum, "upper bound" the best of the fits by
        alternating least squares.

    Raises:
        ValueError: for a budget that pays no expert, and without nested starts for no restart.
    """
    if not nested and restarts < 1:
        raise ValueError(f"restarts = {restarts} and nested = False leave no starting point; pass at least one restart")
    targets, rng = check_targets(targets), np.random.default_rng(seed)
    height, width = targets.shape[1:]
    size = sizes(parameters, targets.shape, num_experts, count)
    lora = shared_update(targets, *size["lora"])
    moe = _best_mixture(targets, lora if nested else None, restarts, rng, *size["moe_lora"])
    diagonal = _best_mixture(targets, moe if nested else None, restarts, rng, size["diagonal"][0], 1)
    num_down, num_up = size["mix_and_match"]
    mixes = [hooi(targets, num_down, num_up)]
    if nested:
        down, up = diagonal.vectors
        mixes.append(hooi(targets, num_down, num_up, span_of(down[:num_down], up[:, :num_up], targets)))
    rows = [
        ("lora", lora.error, size["lora"][0] * (height + width), 0, "exact"),
        ("moe_lora", moe.error, moe.A.size + moe.B.size, num_experts, "upper bound"),
        ("diagonal", diagonal.error, diagonal.A.size + diagonal.B.size, size["diagonal"][0], "upper bound"),
        (
            "mix_and_match",
            min(mix.error for mix in mixes),
            num_down * width + num_up * height,
            num_down * num_up,
            "upper bound",
        ),
    ]
    frame = pd.DataFrame(rows, columns=["method", "error", "parameters", "gates", "bound"])
    frame.insert(1, "size", ["x".join(map(str, size[method])) for method in frame["method"]])
    frame["relative_error"] = frame["error"] / float((targets**2).sum())
    return frame[["method", "size", "parameters", "gates", "error", "relative_error", "bound"]]


def search_single_target(
    target: Float[np.ndarray, "out in"], num_down: int, num_up: int, sweeps: int = 60, seed: int = 0
) -> float:
    """Squared error that alternating least squares over A, G, B reaches on one target from a random start."""
    rng = np.random.default_rng(seed)
    A, G = rng.standard_normal((num_down, target.shape[1])), rng.standard_normal((num_down, num_up))
    for _ in range(sweeps):
        B = target @ np.linalg.pinv(G.T @ A)  # (out, J)
        A = np.linalg.pinv(B @ G.T) @ target  # (I, in)
        G = best_gates(target[None], A, B)[0]  # (I, J)
    return float(((target - B @ G.T @ A) ** 2).sum())


@claim_check(SOURCE, reading=True)
def trex_theorem_4_2_single_target(seed: int = 0) -> Claim:
    """One target: the least error is the tail of its spectrum beyond min(I, J)."""
    rng, below, above, module_gap = np.random.default_rng(seed), 0.0, 0.0, 0.0
    for num_down, num_up in [(1, 3), (3, 4), (4, 2), (5, 5)]:
        left, right = np.linalg.qr(rng.standard_normal((8, 7)))[0], np.linalg.qr(rng.standard_normal((9, 7)))[0]
        spectrum = 2.0 ** -np.arange(7)
        target, kept = (left * spectrum) @ right.T, min(num_down, num_up)
        tail = float((spectrum[kept:] ** 2).sum())
        gates = np.zeros((1, num_down, num_up))
        gates[0, range(kept), range(kept)] = spectrum[:kept]
        update = realised_updates(right[:, :num_down].T, left[:, :num_up], gates)[0]
        module_gap = largest(module_gap, abs(float(((target - update) ** 2).sum()) - tail))
        found = [search_single_target(target, num_down, num_up, seed=seed + start) for start in range(3)]
        below, above = largest(below, tail - min(found)), largest(above, min(found) - tail)
    return Claim(
        "trex_theorem_4_2_single_target",
        SOURCE,
        "our reading: min over (A, G, B) of ‖ΔW* − B Gᵀ A‖² = Σ_{k > min(I,J)} σ_k² (Eckart–Young); the module "
        "attains it with singular vectors, and free searches reach it but never pass below "
        "(largest gap of [module, search above, search below])",
        [module_gap, above, below],
        [0.0, 0.0, 0.0],
        largest(module_gap, above, below),
        module_gap < 1e-12 and above < 1e-9 and below < 1e-12,
    )


@claim_check(SOURCE, reading=True)
def trex_theorem_4_2_family_with_fixed_factors(seed: int = 0) -> Claim:
    """A family with given A and B: best routings in closed form, error of the projection."""
    rng, worst = np.random.default_rng(seed), 0.0
    for num_down, num_up, repeat in [(3, 5, False), (4, 2, False), (4, 4, True)]:
        targets = rng.standard_normal((6, 8, 9))
        A, B = rng.standard_normal((num_down, 9)), rng.standard_normal((8, num_up))
        if repeat:  # dependent vectors: the best routing is not unique, its error is
            A[1], B[:, 2] = A[0], B[:, 0] + B[:, 1]
        updates = realised_updates(A, B, best_gates(targets, A, B))
        design = np.kron(B, A.T)  # (out*in, J*I): vec of every expert
        solved = np.linalg.lstsq(design, targets.reshape(6, -1).T, rcond=None)[0]
        by_squares = float(((design @ solved - targets.reshape(6, -1).T) ** 2).sum())
        closed = float(((targets - updates) ** 2).sum())
        worst = largest(worst, abs(closed - by_squares), abs(projection_error(targets, A, B) - by_squares))
    return Claim(
        "trex_theorem_4_2_family_with_fixed_factors",
        SOURCE,
        "our reading: with A and B shared and fixed the best routing of every target is G_t = (B⁺ ΔW_t A⁺)ᵀ and the "
        "error Σ_t ‖ΔW_t − P_B ΔW_t P_A‖²; compared with least squares over all G_t (largest difference)",
        worst,
        0.0,
        worst,
        worst < 1e-9,
    )


@claim_check(SOURCE, reading=True)
def trex_theorem_4_2_shared_factors(seed: int = 0) -> Claim:
    """The best shared factors are a Tucker-2 problem: bounds, HOOI below HOSVD, monotone."""
    violation, gains = 0.0, []
    for kind in FAMILIES:
        for num_down, num_up in [(2, 3), (4, 4), (5, 2)]:
            targets = target_family(kind, seed=seed)
            first, last = hosvd(targets, num_down, num_up), hooi(targets, num_down, num_up)
            tails, total = mode_tails(targets, num_down, num_up), float((targets**2).sum())
            rises = np.diff(last.history).max(initial=0.0)
            gaps = [rises, last.error - first.error, max(tails) - last.error, first.error - sum(tails)]
            violation = largest(violation, largest(*gaps) / total)
            gains.append(1 - last.error / first.error)
    return Claim(
        "trex_theorem_4_2_shared_factors",
        SOURCE,
        "our reading: the best shared (A, B) is a Tucker-2 problem; max of the two mode tails <= HOOI <= HOSVD <= "
        "their sum, and HOOI never rises (largest relative violation; HOOI improves HOSVD by up to "
        f"{100 * max(gains):.1f} %)",
        violation,
        0.0,
        violation,
        violation < 1e-12 and max(gains) > 1e-3,  # an HOOI that does nothing keeps to all bounds
    )


def inclusion_gap(seed: int = 0, num_experts: int = 3, rank: int = 2, targets: int = 5) -> float:
    """How far the updates of a random LoRA-MoE are from those that the larger systems make of the same vectors.

    The diagonal pairing gets expert e's gate for each of its `rank` vectors, mix-and-match the same on its diagonal;
    both are read off the TRex module. Zero where each system holds the one before it.
    """
    rng, vectors = np.random.default_rng(seed), num_experts * rank
    A, B = rng.standard_normal((num_experts, rank, 9)), rng.standard_normal((num_experts, 8, rank))
    gates = rng.standard_normal((targets, num_experts))
    mixture = MixtureFit(A, B, gates, 0.0, ())
    down, up = mixture.vectors  # (E*r, in), (out, E*r)
    wanted, own = mixture_of(A, B, gates), gates.repeat(rank, axis=1)  # (T, out, in), (T, E*r)
    diagonal = realised_updates(down, up, own, "diagonal")
    mixed = realised_updates(down, up, own[:, :, None] * np.eye(vectors))
    return largest(np.abs(wanted - diagonal).max(), np.abs(diagonal - mixed).max())


@claim_check(SOURCE, reading=True)
def trex_theorem_4_2_nested_systems(seed: int = 0) -> Claim:
    """At equal factor parameters the four systems are nested, so the errors are ordered."""
    chains, rise = [], -np.inf
    for kind in FAMILIES:
        targets = target_family(kind, seed=seed)
        # every fit from random starts of its own: a start from the smaller system's solution could only fall
        frame = approximation_errors(targets, parameters=4 * 36, num_experts=2, seed=seed, nested=False)
        errors = frame["relative_error"].to_numpy()
        rise = largest(rise, float(np.diff(errors).max()))
        chains.append([round(float(error), 4) for error in errors])
    gap = inclusion_gap(seed)
    return Claim(
        "trex_theorem_4_2_nested_systems",
        SOURCE,
        "our reading: with the same down and up vectors and gates free per target, shared LoRA ⊂ LoRA-MoE ⊂ diagonal "
        "⊂ mix-and-match: the module makes the smaller systems' updates, and errors of fits that know nothing of each "
        "other fall in this order (relative errors, targets shared / clustered / unstructured; gates and routers are "
        "not counted as parameters here)",
        chains,
        "each row falls",
        largest(rise, gap, 0.0),
        rise < 0 and gap < 1e-12,
    )
