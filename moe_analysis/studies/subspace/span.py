"""Which subspace of updates a layer can reach, and how large it is for a budget of parameters (T-REX Lemma 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ...theory.trex import KINDS, mixture_span_dimension, span_cases, span_dimension
from ...theory.trex_approximation import COUNTS, sizes


def rank_plot_frame(max_rank: int = 8, kinds: tuple[str, ...] = KINDS, seed: int = 0) -> pd.DataFrame:
    """Lemma 4.1, measured on the TRex module for all I, J <= max_rank and all kinds of factors.

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
    """The same r down and r up vectors in each system, one row per system, with spans measured on the modules.

    Columns system, experts, factor_parameters, router_parameters (in_features per expert), span, rank_of_one_update
    (the largest possible). Raises ValueError if num_experts does not divide r.

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
        raise ValueError(f"r = {r} is larger than the layer, {out_features} x {in_features}; choose a smaller r")
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
    """Span (Lemma 4.1, independent vectors) of the largest system within a parameter budget.

    Columns count ("factors": as the lemma counts; "factors+router": as a layer is built), budget, system, size, span.
    If the router is counted, an expert costs in_features in every system, so the lead of mix-and-match is bounded.
    Raises ValueError for an unknown count.

    >>> span_by_budget([4096], 64, 64, counts=["factors"])[["system", "size", "span"]]
              system   size  span
    0           lora     32     1
    1       moe_lora    4x8     4
    2       diagonal     32    32
    3  mix_and_match  32x32  1024
    """
    if unknown := set(counts) - set(COUNTS):
        raise ValueError(f"counts = {sorted(unknown)} is unknown; choose from {', '.join(COUNTS)}")
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
