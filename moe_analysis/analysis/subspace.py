"""Which subspace of updates a layer can reach, and which of it the tokens of a run use (T-REX Lemma 4.1, Fig. 1).

For independent vectors G ↦ B Gᵀ A is injective, so the routings of the tokens, a (tokens, I·J) matrix, have the
rank of the updates themselves: no matrix of the layer's size is ever formed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..theory.rank import numerical_rank
from ..theory.trex import KINDS, mixture_span_dimension, span_cases, span_dimension
from ..theory.trex_approximation import COUNTS, sizes

TOLERANCES = (1e-2, 1e-3, 1e-6)


def routing_spectrum(gates: Any, centred: bool = False) -> np.ndarray:
    """Singular values, falling, of recorded routings: gates (tokens, E) or (tokens, I, J), array or CPU tensor.

    centred: of the deviations from the mean routing, which a fixed update could not give.
    Raises ValueError for gates without a token dimension, without tokens, or not finite.
    """
    return np.linalg.svd(_triangle(_routing_matrix(gates), centred), compute_uv=False)


def _routing_matrix(gates: Any) -> np.ndarray:
    values = np.asarray(gates.detach() if hasattr(gates, "detach") else gates)
    if values.ndim < 2 or values.size == 0:
        raise ValueError(f"gates has shape {values.shape}; pass (tokens, experts) or (tokens, I, J) with tokens in it")
    if not np.isfinite(values).all():
        raise ValueError("gates holds NaN or infinite values; drop those tokens before measuring")
    return values.reshape(values.shape[0], -1)  # (tokens, experts)


def _triangle(matrix: np.ndarray, centred: bool) -> np.ndarray:
    """The R of a QR decomposition, (min(tokens, experts), experts): the same singular values in far less work."""
    values = matrix.astype(np.float64)
    return np.asarray(np.linalg.qr(values - values.mean(0) if centred else values, mode="r"))


def effective_rank(singular: np.ndarray) -> float:
    """exp of the entropy of the singular values as shares (Roy & Vetterli 2007): n for n directions of equal weight."""
    shares = singular[singular > 0] / singular.sum() if singular.any() else np.empty(0)
    return float(np.exp(-(shares * np.log(shares)).sum())) if shares.size else 0.0


def used_dimension(gates: Any, tolerances: Sequence[float] = TOLERANCES) -> dict[str, Any]:
    """The dimension that tokens use, from their routings (tokens, E) or (tokens, I, J).

    tokens, experts; rank_<tolerance>: singular values above tolerance × the largest, None where the gates' own
    precision is coarser than the tolerance; effective_rank; centred_rank_<tolerance> (against the same largest value,
    0 when every token gets the same update) and centred_effective_rank, of the deviations from the mean routing;
    top_share: energy (squared singular value) of the first direction, the part that a fixed update could give.
    """
    matrix = _routing_matrix(gates)
    resolution = np.finfo(matrix.dtype).eps if np.issubdtype(matrix.dtype, np.floating) else 0.0
    plain, centred = (np.linalg.svd(_triangle(matrix, flag), compute_uv=False) for flag in (False, True))
    # what is left of identical tokens after centring is rounding, measured against the uncentred size
    floor = max(resolution, np.finfo(np.float64).eps) * max(matrix.shape) * plain[0]
    centred = np.where(centred > floor, centred, 0.0)
    result: dict[str, Any] = {"tokens": matrix.shape[0], "experts": matrix.shape[1]}
    for tolerance in tolerances:
        known = tolerance >= resolution
        result[f"rank_{tolerance:g}"] = int((plain > tolerance * plain[0]).sum()) if known else None
        result[f"centred_rank_{tolerance:g}"] = int((centred > tolerance * plain[0]).sum()) if known else None
    result["effective_rank"], result["centred_effective_rank"] = effective_rank(plain), effective_rank(centred)
    result["top_share"] = float(plain[0] ** 2 / (plain**2).sum()) if plain.any() else 0.0
    return result


def used_dimensions(gates_by_module: Mapping[str, Any], tolerances: Sequence[float] = TOLERANCES) -> pd.DataFrame:
    """`used_dimension` of every module's recorded routings, a row a module, with the module's name first."""
    if not gates_by_module:
        raise ValueError("gates_by_module is empty; pass {module: gates (tokens, ...)}")
    frame = pd.DataFrame(
        [{"module": module, **used_dimension(gates, tolerances)} for module, gates in gates_by_module.items()]
    )
    ranks = [column for column in frame.columns if "rank_" in str(column)]
    return frame.astype(dict.fromkeys(ranks, "Int64"))


def energy_curve(gates: Any, centred: bool = False) -> pd.DataFrame:
    """Columns direction (from 1), singular_value, share of the squared total, cumulative share."""
    singular = routing_spectrum(gates, centred)
    energy = singular**2
    share = energy / energy.sum() if energy.any() else energy
    return pd.DataFrame(
        {
            "direction": np.arange(1, len(singular) + 1),
            "singular_value": singular,
            "share": share,
            "cumulative": share.cumsum(),
        }
    )


def trained_span(A: Any, B: Any, tolerance: float = 1e-6) -> dict[str, int]:
    """Dimension that trained factors can reach over all routings, at a relative tolerance on singular values.

    T-REX A (I, in), B (out, J): rank_a, rank_b, experts I·J and span = rank_a · rank_b (Lemma 4.1).
    LoRA-MoE A (E, r, in), B (E, out, r): the ranks of all vectors together, experts E, and the span of its E matrices.
    """
    A, B = (
        np.asarray(factor.detach().cpu() if hasattr(factor, "detach") else factor, dtype=np.float64)
        for factor in (A, B)
    )
    if A.ndim == B.ndim == 2:
        rank_a, rank_b = numerical_rank(A, tolerance), numerical_rank(B, tolerance)
        return {"rank_a": rank_a, "rank_b": rank_b, "experts": A.shape[0] * B.shape[1], "span": rank_a * rank_b}
    if A.ndim != 3 or B.ndim != 3 or A.shape[:2] != (B.shape[0], B.shape[2]):
        raise ValueError(f"A {A.shape}, B {B.shape} are no factors; pass (I, in), (out, J) or (E, r, in), (E, out, r)")
    down, up = A.reshape(-1, A.shape[2]), np.concatenate(list(B), axis=1)  # (E*r, in), (out, E*r)
    # B_e A_e = Q_b (R_b)_e (R_a)_eᵀ Q_aᵀ: the small cores have the span of the full matrices
    right = np.asarray(np.linalg.qr(down.T, mode="r")).T.reshape(*A.shape[:2], -1)  # (E, r, k)
    left = np.asarray(np.linalg.qr(up, mode="r")).reshape(-1, *A.shape[:2]).transpose(1, 0, 2)  # (E, k, r)
    cores = (left @ right).reshape(A.shape[0], -1)
    return {
        "rank_a": numerical_rank(down, tolerance),
        "rank_b": numerical_rank(up, tolerance),
        "experts": A.shape[0],
        "span": numerical_rank(cores, tolerance),
    }


def rank_plot_frame(max_rank: int = 8, kinds: tuple[str, ...] = KINDS, seed: int = 0) -> pd.DataFrame:
    """Lemma 4.1 measured on the TRex module for every I, J <= max_rank and kind of factors.

    Columns I, J, kind, rank_a, rank_b, predicted (rank_a · rank_b), measured, experts (I·J).

    >>> ranks = rank_plot_frame(max_rank=3)
    >>> bool((ranks["measured"] == ranks["predicted"]).all()), int(ranks["measured"].max())
    (True, 9)
    """
    frame = pd.DataFrame(span_cases(max_rank, kinds, seed))
    return frame.assign(experts=frame["I"] * frame["J"])


def span_table(
    r: int = 6, in_features: int = 24, out_features: int = 24, num_experts: int = 3, seed: int = 0
) -> pd.DataFrame:
    """The same r down and r up vectors used by each system, a row a system, spans measured on the modules.

    Columns system, experts, factor_parameters, router_parameters (in_features an expert), span, rank_of_one_update
    (the largest possible). Raises ValueError when num_experts does not divide r.

    >>> span_table()[["system", "experts", "span", "rank_of_one_update"]]
                     system  experts  span  rank_of_one_update
    0                  LoRA        1     1                   6
    1              LoRA-MoE        3     3                   6
    2       rank-1 diagonal        6     6                   6
    3  rank-1 mix-and-match       36    36                   6
    """
    if r % num_experts:
        raise ValueError(f"num_experts = {num_experts} does not divide r = {r}; choose a divisor of r")
    if r > min(in_features, out_features):
        raise ValueError(f"r = {r} exceeds the layer, {out_features} x {in_features}; choose a smaller r")
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((r, in_features)), rng.standard_normal((out_features, r))
    grouped_a = A.reshape(num_experts, -1, in_features)
    grouped_b = np.ascontiguousarray(B.reshape(out_features, num_experts, -1).transpose(1, 0, 2))
    rows = [
        ("LoRA", 1, 0, mixture_span_dimension(A[None], B[None])),
        ("LoRA-MoE", num_experts, num_experts, mixture_span_dimension(grouped_a, grouped_b)),
        ("rank-1 diagonal", r, r, span_dimension(A, B, "diagonal")),
        ("rank-1 mix-and-match", r * r, r * r, span_dimension(A, B)),
    ]
    frame = pd.DataFrame(rows, columns=["system", "experts", "router_parameters", "span"])
    frame["router_parameters"] *= in_features
    frame.insert(2, "factor_parameters", r * (in_features + out_features))
    return frame.assign(rank_of_one_update=r)


def span_by_budget(
    budgets: Sequence[int],
    in_features: int,
    out_features: int,
    num_experts: int = 4,
    counts: Sequence[str] = ("factors", "factors+router"),
) -> pd.DataFrame:
    """Span (Lemma 4.1, independent vectors) of the largest system that a parameter budget pays for.

    Columns count ("factors": as the lemma counts; "factors+router": as a layer is built), budget, system, size, span.
    With the router counted an expert costs in_features whatever the system, so the lead of mix-and-match is bounded.
    Raises ValueError for an unknown count.

    >>> span_by_budget([4096], 64, 64, counts=["factors"])[["system", "size", "span"]]
              system   size  span
    0           lora     32     1
    1       moe_lora    4x8     4
    2       diagonal     32    32
    3  mix_and_match  32x32  1024
    """
    if unknown := set(counts) - set(COUNTS):
        raise ValueError(f"counts = {sorted(unknown)} unknown; choose of {', '.join(COUNTS)}")
    rows = []
    for count in counts:
        for budget in budgets:
            size = sizes(budget, (1, out_features, in_features), num_experts, count)
            spans = {
                "lora": 1,
                "moe_lora": size["moe_lora"][0],
                "diagonal": size["diagonal"][0],
                "mix_and_match": size["mix_and_match"][0] * size["mix_and_match"][1],
            }
            rows += [(count, budget, system, "x".join(map(str, size[system])), span) for system, span in spans.items()]
    return pd.DataFrame(rows, columns=["count", "budget", "system", "size", "span"])


def figure1_parameters(in_features: int, out_features: int, num_down: int = 2, num_up: int = 3) -> pd.DataFrame:
    """Fig. 1: num_down·num_up experts in each system, trainable parameters counted on the real modules.

    Columns system, down_vectors, up_vectors, experts, factor_parameters, other_parameters (router, scalars)
    and parameters.
    LoRA is PEFT's own at rank num_down·num_up, LoRA-MoE has as many rank-1 experts.

    >>> figure1_parameters(128, 128)[["system", "experts", "factor_parameters", "parameters"]]
         system  experts  factor_parameters  parameters
    0      LoRA        1               1536        1536
    1  LoRA-MoE        6               1536        2304
    2     T-REX        6                640        1410
    """
    from peft import LoraConfig, get_peft_model
    from torch import nn

    from ..adapters import MoeLora, MoeLoraConfig, TRex, TRexConfig

    experts = num_down * num_up
    linear = nn.Sequential(nn.Linear(in_features, out_features, bias=False))
    systems = [
        ("LoRA", experts, experts, 1, get_peft_model(linear, LoraConfig(r=experts, target_modules=["0"]))),
        (
            "LoRA-MoE",
            experts,
            experts,
            experts,
            MoeLora(in_features, out_features, MoeLoraConfig(num_experts=experts, r=1)),
        ),
        (
            "T-REX",
            num_down,
            num_up,
            experts,
            TRex(in_features, out_features, TRexConfig(num_down=num_down, num_up=num_up)),
        ),
    ]
    rows = []
    for system, down, up, count, module in systems:
        total = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
        factors = down * in_features + up * out_features
        rows.append((system, down, up, count, factors, total - factors, total))
    return pd.DataFrame(
        rows,
        columns=[
            "system",
            "down_vectors",
            "up_vectors",
            "experts",
            "factor_parameters",
            "other_parameters",
            "parameters",
        ],
    )
