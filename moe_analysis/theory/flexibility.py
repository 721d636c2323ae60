"""Structural flexibility: how many different outputs the routings of a layer can make, in exact integers.

S'MoRE, Theorems 3.3 and 3.4, Corollaries 3.5 and 3.6. Every function takes s and f with one entry per layer, the layer
farthest from the output first, as `SmoreConfig` does: s[l] experts in pool l, f[l] children per node. Scores are binary:
an expert that was chosen counts with weight 1. F_l = Π_{j≥l} f_j is the number of nodes of layer l, F_L = 1.

Python's integers have no largest value, but `str` of one of more than 4300 digits is refused; write its log10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import comb, log10, prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Layers = Sequence[int]


def check_structure(s: Layers, f: Layers) -> None:
    """Raise ValueError for sizes that no layer can have: unequal lengths, no layers, no integers, f outside 1 … s."""
    for name, values in (("s", s), ("f", f)):
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"{name} = {values!r} must be a list with one integer per layer, the lowest layer first")
        if any(isinstance(value, bool) or not isinstance(value, int) or value < 1 for value in values):
            raise ValueError(f"{name} = {values!r} must hold integers of at least 1")
    if len(s) != len(f):
        raise ValueError(f"s = {s} has {len(s)} layers but f = {f} has {len(f)}; give both one entry per layer")
    for layer, (pool, children) in enumerate(zip(s, f)):
        if children > pool:
            raise ValueError(
                f"f[{layer}] = {children} is above s[{layer}] = {pool}: a node's children are different "
                "experts of the pool; lower f or enlarge the pool"
            )


def node_counts(f: Layers) -> list[int]:
    """F_0, …, F_L: nodes of each layer; F_L = 1 is the output."""
    return list(accumulate(reversed(f), lambda a, b: a * b, initial=1))[::-1]


def momor_bound(s: Layers, f: Layers) -> int:
    """C(s_{L-1}, f_{L-1}) · Π_{l<L-1} Σ_{i=f_l}^{min(F_l, s_l)} C(s_l, i), the most that MoMOR has (Theorem 3.3).

    An expert counts once, however many of the tree's nodes it takes, so that a pool offers its subsets.
    """
    check_structure(s, f)
    lower = zip(s[:-1], f[:-1], node_counts(f))
    return comb(s[-1], f[-1]) * prod(
        sum(comb(pool, i) for i in range(children, min(nodes, pool) + 1)) for pool, children, nodes in lower
    )


def smore_flexibility(s: Layers, f: Layers) -> int:
    """Π_l C(s_l, f_l)^{F_{l+1}}: a S'MoRE can tell all of its trees apart (Theorem 3.4)."""
    check_structure(s, f)
    return prod(comb(pool, children) ** parents for pool, children, parents in zip(s, f, node_counts(f)[1:]))


def child_flexibility(s: Layers, f: Layers) -> int:
    """Γ*_{l+1} = C(s_l, f_l) · C(Γ*_l + f_l − 1, f_l), Γ*_0 = 1: S'MoRE*, with σ on the child only (Corollary 3.5).

    Which experts a node has and which outputs come from below is known, but not which output belongs to which expert.
    """
    check_structure(s, f)
    below = 1
    for pool, children in zip(s, f):
        below = comb(pool, children) * comb(below + children - 1, children)
    return below


def shared_flexibility(s: Layers, f: Layers) -> int:
    """Π_l C(s, f_l)^{F_{l+1}}: one pool for all layers, S'MoRE#, distinguishes as many trees (Corollary 3.6).

    Raises:
        ValueError: For unequal pools, which cannot be one.
    """
    check_structure(s, f)
    if len(set(s)) > 1:
        raise ValueError(f"s = {list(s)} must be the same in every layer: a shared pool is one pool")
    return smore_flexibility(s, f)


def linear_flexibility(s: Layers, f: Layers) -> int:
    """What S'MoRE keeps with σ = id and generic parameters; our count, not the paper's.

    Without σ the output is a sum over the tree's nodes, so that only the number of times an expert is used in its layer
    counts: vectors (c_1, …, c_s) with 0 ≤ c_n ≤ F_{l+1} and Σ c_n = F_l, which are all possible (Gale and Ryser 1957).
    """
    check_structure(s, f)
    nodes = node_counts(f)
    return prod(bounded_vectors(pool, largest, total) for pool, largest, total in zip(s, nodes[1:], nodes))


def bounded_vectors(length: int, largest: int, total: int) -> int:
    """Vectors of `length` integers in 0 … largest with the sum `total`, by inclusion and exclusion."""
    terms = range(min(length, total // (largest + 1)) + 1)
    return sum((-1) ** i * comb(length, i) * comb(total - i * (largest + 1) + length - 1, length - 1) for i in terms)


SYSTEMS: dict[str, Callable[[Layers, Layers], int]] = {
    "MoMOR": momor_bound,
    "S'MoRE": smore_flexibility,
    "S'MoRE*": child_flexibility,
    "S'MoRE#": shared_flexibility,
    "S'MoRE, σ = id": linear_flexibility,
}
PAPER_SYSTEMS = tuple(SYSTEMS)[:4]


def flexibility_table(
    s: int | Layers, f: int | Layers, layers: Iterable[int] = range(1, 5), systems: Iterable[str] = PAPER_SYSTEMS
) -> pd.DataFrame:
    """One row per system and number of layers: system, layers, flexibility (Python int, object dtype), log10 (float).

    s, f: a number for every layer, or lists, of which a system of L layers takes the L entries farthest from the
    output. A shared pool has rows only where its layers are equal.

    Raises:
        ValueError: For a number of layers that the lists do not have and for an unknown system.

    Example:
        >>> flexibility_table(4, 2, (1, 2, 3)).pivot(index="system", columns="layers", values="flexibility")
        layers   1    2       3
        system
        MoMOR    6   66     726
        S'MoRE   6  216  279936
        S'MoRE#  6  216  279936
        S'MoRE*  6  126   48006
    """
    import pandas as pd

    rows, layers = [], list(layers)
    for system in systems:
        if system not in SYSTEMS:
            raise ValueError(f"systems names {system!r}; choose from {', '.join(SYSTEMS)}")
        for count in layers:
            sizes = [first_layers(name, values, count) for name, values in (("s", s), ("f", f))]
            if system == "S'MoRE#" and len(set(sizes[0])) > 1:
                continue
            value = SYSTEMS[system](*sizes)
            rows.append({"system": system, "layers": count, "flexibility": value, "log10": log10(value)})
    frame = pd.DataFrame(rows, columns=["system", "layers", "flexibility", "log10"])
    # small values alone would become int64 and then differ in type from table to table
    return frame.assign(flexibility=pd.Series([row["flexibility"] for row in rows], dtype=object))


def first_layers(name: str, values: int | Layers, count: int) -> list[int]:
    """A number or a list -> the sizes of the `count` lowest layers."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"layers holds {count!r}; a system has at least 1 layer")
    if isinstance(values, int):
        return [values] * count
    if count > len(values):
        raise ValueError(
            f"layers holds {count} but {name} = {list(values)} has {len(values)} entries; "
            f"pass a number or a longer {name}"
        )
    return list(values[:count])
