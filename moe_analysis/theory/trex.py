"""T-REX Lemma 4.1 on the real modules: which subspace the updates of one layer span.

Symbols. The paper writes ΔW = A G Bᵀ with its A (m, I), B (n, J) and vec(ΔW) = (B ⊗ A) vec(G). In our naming
A is (I, in), B is (out, J) and the update is ΔW = B Gᵀ A (out, in): the paper's A is our Aᵀ, its ΔW our ΔWᵀ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

from .claim import Claim, agreement, claim_check, largest
from .rank import degenerate_matrix, exact_rank, integer_matrix, numerical_rank

if TYPE_CHECKING:
    from ..adapters import TRex

SOURCE = "T-REX Lemma 4.1"
KINDS = ("independent", "dependent", "repeated", "zero", "narrow")
SATURATED = 10.0  # sigmoid(±1000) is exactly 1 or 0 in float64


def open_layer(
    A: Float[np.ndarray, "num_down in"], B: Float[np.ndarray, "out num_up"], pairing: str = "mix_and_match"
) -> TRex:
    """A float64 TRex whose routing is exactly the intuition that it is given: G = P, output scale 1."""
    import torch

    from ..adapters import TRex, TRexConfig

    config = TRexConfig(num_down=A.shape[0], num_up=B.shape[1], pairing=pairing, router=False, intuition_coef=1.0)
    layer = TRex(A.shape[1], B.shape[0], config).double()
    with torch.no_grad():
        layer.A.copy_(torch.from_numpy(np.ascontiguousarray(A)))
        layer.B.copy_(torch.from_numpy(np.ascontiguousarray(B)))
        layer.omega_logit.fill_(-SATURATED)
        layer.output_logit.fill_(SATURATED)
    return layer


def realised_updates(
    A: Float[np.ndarray, "num_down in"],
    B: Float[np.ndarray, "out num_up"],
    gates: Float[np.ndarray, "routing num_down num_up"] | Float[np.ndarray, "routing num_down"],
    pairing: str = "mix_and_match",
) -> Float[np.ndarray, "routing out in"]:
    """The matrices ΔW that the TRex module applies.

    Each is read off the layer's own forward on the unit vectors of the input. Diagonal pairing: a gate for each pair.
    """
    import torch

    from ..adapters import RoutingContext

    layer = open_layer(A, B, pairing)
    unit = torch.eye(A.shape[1], dtype=torch.float64).expand(gates.shape[0], -1, -1)  # (K, in, in)
    scores = torch.from_numpy(np.ascontiguousarray(gates.reshape(gates.shape[0], -1), dtype=np.float64))  # (K, I*J)
    with torch.no_grad():
        delta, _ = layer(unit, RoutingContext(intuition=scores))  # (K, in, out)
    return delta.transpose(1, 2).numpy()


def span_matrix(
    A: Float[np.ndarray, "num_down in"], B: Float[np.ndarray, "out num_up"], pairing: str = "mix_and_match"
) -> Float[np.ndarray, "expert row"]:
    """vec(ΔW), out·in numbers, of every one-hot routing; ΔW is linear in G, so the rows span all updates."""
    num_down, num_up = A.shape[0], B.shape[1]
    shape = (num_down,) if pairing == "diagonal" else (num_down, num_up)
    one_hot = np.eye(int(np.prod(shape))).reshape(-1, *shape)  # (experts, I, J) or (experts, I)
    return realised_updates(A, B, one_hot, pairing).reshape(one_hot.shape[0], -1)


def span_dimension(
    A: Shaped[np.ndarray, "num_down in"], B: Shaped[np.ndarray, "out num_up"], pairing: str = "mix_and_match"
) -> int:
    """Dimension of the space of updates over all routings, measured on the module; exact for integer factors."""
    A, B = np.asarray(A, dtype=np.float64), np.asarray(B, dtype=np.float64)
    return rank_for(A, B)(span_matrix(A, B, pairing))


def rank_for(A: Shaped[np.ndarray, "..."], B: Shaped[np.ndarray, "..."]) -> Callable[[np.ndarray], int]:
    """`exact_rank` for factors of whole numbers, whose updates are whole too, `numerical_rank` for any others.

    The factors decide: an update that is not whole where it should be is an error and no reason for a tolerance.
    """
    whole = np.array_equal(A, np.round(A)) and np.array_equal(B, np.round(B))
    return exact_rank if whole else numerical_rank


def mixture_span_dimension(A: Float[np.ndarray, "expert rank in"], B: Float[np.ndarray, "expert out rank"]) -> int:
    """Dimension over all gates of the updates of a LoRA-MoE layer, on `MoeLora`.

    A router row of 1e4 on every input makes the softmax exactly one-hot, so each expert's matrix is seen alone. Exact
    for integer factors.
    """
    import torch

    from ..adapters import MoeLora, MoeLoraConfig

    experts, rank, width = A.shape
    layer = MoeLora(width, B.shape[1], MoeLoraConfig(num_experts=experts, r=rank, alpha=rank)).double()
    seen = []
    with torch.no_grad():
        layer.A.copy_(torch.from_numpy(A))
        layer.B.copy_(torch.from_numpy(B))
        for expert in range(experts):
            layer.router.weight.zero_()
            layer.router.weight[expert] = 1e4
            seen.append(layer(torch.eye(width, dtype=torch.float64))[0].reshape(-1).numpy())
    return rank_for(A, B)(np.stack(seen))  # (E, in*out)


def factors(
    num_down: int, num_up: int, kind: str, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "num_down in"], Float[np.ndarray, "out num_up"], int, int]:
    """Integer factors A, B with known ranks; "narrow" layers have fewer features than vectors."""
    width, height = (3, 4) if kind == "narrow" else (9, 10)
    inner = "independent" if kind == "narrow" else kind
    A, rank_a = degenerate_matrix(num_down, width, inner, rng)
    transposed, rank_b = degenerate_matrix(num_up, height, inner, rng)
    return A, transposed.T, rank_a, rank_b


def span_cases(max_rank: int = 8, kinds: tuple[str, ...] = KINDS, seed: int = 0) -> list[dict]:
    """Lemma 4.1 case by case: I, J, kind, rank_a, rank_b, predicted rank(A)·rank(B), and the measured span."""
    rng, cases = np.random.default_rng(seed), []
    for num_down in range(1, max_rank + 1):
        for num_up in range(1, max_rank + 1):
            for kind in kinds:
                A, B, rank_a, rank_b = factors(num_down, num_up, kind, rng)
                cases.append(
                    {
                        "I": num_down,
                        "J": num_up,
                        "kind": kind,
                        "rank_a": rank_a,
                        "rank_b": rank_b,
                        "predicted": rank_a * rank_b,
                        "measured": span_dimension(A, B),
                    }
                )
    return cases


@claim_check(SOURCE)
def trex_lemma_4_1_span(seed: int = 0) -> Claim:
    """The updates over all G span exactly rank(A)·rank(B) dimensions."""
    cases = span_cases(kinds=(*KINDS, "null"), seed=seed)
    gaps = [abs(case["measured"] - case["predicted"]) for case in cases]
    agreeing = sum(gap == 0 for gap in gaps)
    return Claim(
        "trex_lemma_4_1_span",
        SOURCE,
        "over all routings the updates span rank(A)·rank(B) dimensions, exactly: every I, J <= 8, factors "
        "independent, dependent, repeated, partly zero, null, and longer than the layer is wide (cases that agree)",
        agreeing,
        len(cases),
        float(max(gaps)),
        agreeing == len(cases),
    )


@claim_check(SOURCE)
def trex_lemma_4_1_rank_of_one_update(seed: int = 0) -> Claim:
    """A single update has rank at most min(I, J), and a generic routing attains it."""
    rng, excess, attained, total = np.random.default_rng(seed), -np.inf, 0, 0
    for num_down in range(1, 9):
        for num_up in range(1, 9):
            for kind in KINDS:
                A, B, rank_a, rank_b = factors(num_down, num_up, kind, rng)
                updates = realised_updates(A, B, rng.standard_normal((2, num_down, num_up)))
                ranks = [numerical_rank(update, 1e-10) for update in updates]
                excess = max(excess, max(ranks) - min(num_down, num_up))
                attained += sum(rank == min(rank_a, rank_b) for rank in ranks)
                total += len(ranks)
    return Claim(
        "trex_lemma_4_1_rank_of_one_update",
        SOURCE,
        "each ΔW has rank <= min(I, J) for every I, J <= 8; a random G attains min(rank A, rank B), which is "
        "min(I, J) for independent vectors (updates that attain it)",
        attained,
        total,
        float(max(excess, 0)),
        excess <= 0 and attained == total,
    )


@claim_check(SOURCE)
def trex_lemma_4_1_kronecker(seed: int = 0) -> Claim:
    """vec(A G Bᵀ) = (B ⊗ A) vec(G) for the module's own update."""
    rng, worst = np.random.default_rng(seed), 0.0
    for num_down, num_up in [(1, 1), (2, 3), (4, 8), (8, 4), (8, 8)]:
        A, B = rng.standard_normal((num_down, 12)), rng.standard_normal((11, num_up))
        G = rng.standard_normal((1, num_down, num_up))
        paper_update = realised_updates(A, B, G)[0].T  # (in, out), the paper's ΔW
        product = np.kron(B, A.T) @ G[0].reshape(-1, order="F")  # (out*in,), vec stacks columns
        worst = largest(worst, float(np.abs(paper_update.reshape(-1, order="F") - product).max()))
    return Claim(
        "trex_lemma_4_1_kronecker",
        SOURCE,
        "vec(ΔW) = (B ⊗ A) vec(G) for the update that the module applies (largest difference)",
        worst,
        0.0,
        worst,
        worst < 1e-12,
    )


@claim_check(SOURCE)
def trex_lemma_4_1_equal_parameters(seed: int = 0) -> Claim:
    """At equal factor parameters: LoRA spans 1, E experts at most E, diagonal r, mix-and-match I·J."""
    rng, width, rank, experts = np.random.default_rng(seed), 10, 6, 3
    A, B = integer_matrix(rank, width, rank, rng), integer_matrix(width, rank, rank, rng)
    blocks_a = A.reshape(experts, -1, width)  # (E, r/E, in): the same vectors, grouped into experts
    blocks_b = np.ascontiguousarray(B.reshape(width, experts, -1).transpose(1, 0, 2))  # (E, out, r/E)
    one_expert = mixture_span_dimension(A[None], B[None])
    twins = mixture_span_dimension(blocks_a[[0, 0, 1]], blocks_b[[0, 0, 1]])
    measured = [
        one_expert,
        mixture_span_dimension(blocks_a, blocks_b),
        twins,
        span_dimension(A, B, "diagonal"),
        span_dimension(A, B),
    ]
    expected = [1, experts, experts - 1, rank, rank * rank]
    return agreement(
        "trex_lemma_4_1_equal_parameters",
        SOURCE,
        f"the same {rank} down and {rank} up vectors: a fixed LoRA update spans 1; {experts} experts of rank "
        f"{rank // experts} span {experts}, and less when two coincide; the diagonal pairing spans r; "
        "mix-and-match spans I·J",
        measured,
        expected,
    )


@claim_check(SOURCE)
def trex_lemma_4_1_used_dimension(seed: int = 0) -> Claim:
    """The routings of T tokens have the rank of their updates, so no (out, in) matrix is needed to read it."""
    import torch

    from ..adapters import TRex, TRexConfig

    rng, measured, expected = np.random.default_rng(seed), [], []
    for num_down, num_up, states in [(2, 3, 4), (3, 4, 40), (4, 8, 7), (4, 8, 60)]:
        layer = TRex(9, 10, TRexConfig(num_down=num_down, num_up=num_up, intuition=False)).double()
        hidden = torch.from_numpy(rng.standard_normal((states, 9)))
        with torch.no_grad():
            layer.B.copy_(torch.from_numpy(rng.standard_normal((10, num_up))))
            layer.A.copy_(torch.from_numpy(rng.standard_normal((num_down, 9))))
            layer.router.weight.copy_(torch.from_numpy(rng.standard_normal((num_down * num_up, 9))))
            gates = layer.route(hidden.repeat(3, 1)).gates.numpy()  # (3 states, I, J): repeats add no dimension
        updates = realised_updates(layer.A.detach().numpy(), layer.B.detach().numpy(), gates)
        measured.append(numerical_rank(gates.reshape(len(gates), -1), 1e-10))
        expected.append(numerical_rank(updates.reshape(len(updates), -1), 1e-10))
    return agreement(
        "trex_lemma_4_1_used_dimension",
        SOURCE,
        "for independent A and B the rank of the (tokens, I·J) routings equals the dimension of the updates used",
        measured,
        expected,
        max(measured) <= 32,
    )
