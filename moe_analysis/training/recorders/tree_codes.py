"""Trees of experts as integers: two routings have the same code exactly when they are the same structure.

A node's children are a set of different experts, each with a subtree of its own; in which order the router names
siblings changes no output. There are Γ = Π_l C(s_l, f_l)^F_{l+1} such trees (S'MoRE, Theorem 3.4), and their codes are
0 … Γ − 1. Lists have one entry a layer, the layer farthest from the output first, as in `SmoreConfig`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

Tree = tuple[tuple[int, "Tree"], ...]  # (expert, subtree) of every child, by expert; a leaf's subtree is ()


def tree_counts(num_experts: Sequence[int], fanout: Sequence[int]) -> list[int]:
    """Exact numbers of subtrees below a node of layer 1, 2, …, L; the last one is Γ."""
    counts: list[int] = []
    for s, f in zip(num_experts, fanout, strict=True):
        counts.append(comb(s, f) * (counts[-1] if counts else 1) ** f)
    return counts


def tree_codes(ids: Sequence[np.ndarray], num_experts: Sequence[int]) -> np.ndarray:
    """ids[l] (N, F_{l+1}, f_l), the experts of layer l under each of its parents -> codes (N,).

    Codes are int64, or Python's integers where Γ is beyond them; no loop runs over tokens. Raises ValueError for
    siblings that are the same expert.
    """
    counts = tree_counts(num_experts, [choice.shape[2] for choice in ids])
    kind: type = np.int64 if counts[-1] < 2**63 else object
    codes: np.ndarray = np.empty(0)
    for layer, (choice, s) in enumerate(zip(ids, num_experts, strict=True)):
        order = choice.argsort(-1)
        experts = np.take_along_axis(choice, order, -1)  # (N, P, f), ascending
        if (experts[..., 1:] == experts[..., :-1]).any():
            raise ValueError(f"ids[{layer}] has siblings that are the same expert; a node's children differ")
        f = experts.shape[-1]
        ranks: np.ndarray = np.array([[comb(i, k + 1) for k in range(f)] for i in range(s)], dtype=kind)
        here = ranks[experts, np.arange(f)].sum(-1)  # (N, P): rank of the set of experts among C(s, f)
        if layer:
            below = np.take_along_axis(codes.reshape(choice.shape), order, -1)  # subtrees follow their experts
            for child in range(f):
                here = here * counts[layer - 1] + below[..., child]
        codes = here
    return codes[:, 0]


def sibling_codes(codes: np.ndarray, num_experts: Sequence[int], fanout: Sequence[int]) -> np.ndarray:
    """Codes (N,) of trees with two layers or more -> codes (N, f_{L-1}) of the subtrees of the root's children."""
    if len(num_experts) < 2:
        raise ValueError("num_experts has one layer, whose nodes have no subtrees; pass two layers or more")
    base, found = tree_counts(num_experts, fanout)[-2], []
    for _ in range(fanout[-1]):
        found.append(codes % base)
        codes = codes // base
    return np.stack(found[::-1], axis=-1)


def tree_of_code(code: int, num_experts: Sequence[int], fanout: Sequence[int]) -> Tree:
    """The tree of one code; raises ValueError for one outside 0 … Γ − 1."""
    counts = [1, *tree_counts(num_experts, fanout)]
    if not 0 <= code < counts[-1]:
        raise ValueError(
            f"code = {code} is no tree of num_experts = {list(num_experts)}, fanout = {list(fanout)}; "
            f"codes are 0 to {counts[-1] - 1}"
        )
    return _unfold(int(code), list(num_experts), list(fanout), counts)


def _unfold(code: int, num_experts: list[int], fanout: list[int], counts: list[int]) -> Tree:
    if not num_experts:
        return ()
    f, subtrees = fanout[-1], []
    for _ in range(f):
        code, below = divmod(code, counts[len(num_experts) - 1])
        subtrees.append(_unfold(below, num_experts[:-1], fanout[:-1], counts))
    experts = []
    for k in range(f, 0, -1):  # the largest expert whose rank still fits, then the next
        expert = max(i for i in range(num_experts[-1]) if comb(i, k) <= code)
        code -= comb(expert, k)
        experts.append(expert)
    return tuple(zip(experts[::-1], subtrees[::-1], strict=True))
