"""The codes that the proofs use, and how well floating-point numbers preserve them and random parameters.

Lemma C.8 (Xu et al. 2019, Lemma 5): a sum over a multiset can determine it. In exact numbers that settles Theorem 3.4;
a float32 has 24 bits. `precision_of_all` checks for every tree whether float32 still distinguishes it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

from .claim import Claim, agreement, claim_check
from .flexibility import linear_flexibility, smore_flexibility
from .smore import IN_FEATURES, inputs, paper_sizes, structure

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ..adapters import Smore
    from .tree_enumeration import Trees

Code = Callable[[int], tuple]
SAME = 1e-12  # of the largest output: float64 outputs this close are taken for equal


def collisions(code: Code, kinds: int, largest: int, smallest: int = 0) -> int:
    """Multisets of {1, …, kinds} with smallest … largest members whose Σ code(member) was another one's already."""
    width, sums = len(code(1)), []
    for size in range(smallest, largest + 1):
        for members in combinations_with_replacement(range(1, kinds + 1), size):
            sums.append(tuple(sum(code(member)[i] for member in members) for i in range(width)))
    return len(sums) - len(set(sums))


def module_collisions(module: Any, kinds: int, size: int) -> int:
    """The same of a module in place of σ, `module(listed, size)`: multisets of exactly `size` listed inputs.

    Raises:
        ValueError: For a module whose codes are not whole numbers in float64.
    """
    import torch

    from .tree_enumeration import exact_rows

    listed = torch.arange(kinds, dtype=torch.float64).unsqueeze(1) * torch.arange(1, size + 1)  # (kinds, width)
    codes = module(listed, size)(listed)  # (kinds, width)
    members = torch.tensor(list(combinations_with_replacement(range(kinds), size)))  # (multisets, size)
    return len(members) - len(exact_rows(codes[members].sum(1)))


def fraction_code(base: int) -> Code:
    return lambda z: (Fraction(1, base**z),)


def power_code(powers: int) -> Code:
    return lambda z: tuple(z**k for k in range(1, powers + 1))


@claim_check("S'MoRE Lemma C.8")
def smore_lemma_c8_multisets(seed: int = 0) -> Claim:
    """Sums of N^{-Z} tell bounded multisets apart, in exact fractions; so do sums of powers; weaker codes do not."""
    from .smore_families import MultisetCode, SingleNumberCode

    bounds = [(kinds, largest) for kinds in (2, 4, 6) for largest in (1, 2, 4)]
    found = [
        sum(collisions(fraction_code(largest + 1), kinds, largest) for kinds, largest in bounds),
        sum(collisions(power_code(largest), kinds, largest) for kinds, largest in bounds),
        sum(
            module_collisions(module, kinds, size)
            for module in (MultisetCode, SingleNumberCode)
            for kinds, size in [(4, 2), (24, 2), (6, 3), (5, 4)]
        ),
    ]
    controls = [collisions(fraction_code(2), 4, 2), collisions(power_code(2), 6, 3, smallest=3)]
    return Claim(
        "smore_lemma_c8_multisets",
        "S'MoRE Lemma C.8",
        "Σ N^{-Z(x)} is different for all multisets of fewer than N members (up to 6 kinds, 4 members, exact "
        "fractions), and so are the sums of the first N − 1 powers of Z, and those of both modules that stand for σ "
        f"(multisets whose sum is another one's; with a base or a power too few: {controls[0]} and {controls[1]})",
        found,
        [0, 0, 0],
        float(sum(found)),
        not any(found) and min(controls) > 0,
    )


@claim_check("S'MoRE Thm 3.4", reading=True)
def smore_thm34_codes_in_floats(seed: int = 0) -> Claim:
    """The proof's code in one number outgrows a float32 at the second layer; sums of powers do not up to the third.

    What a type holds is counted in whole numbers; what outgrows it is rounded, and merges because of that.
    """
    from .smore_families import MultisetCode, SingleNumberCode, distinguishing_layer
    from .tree_enumeration import all_outputs, distinct_rows, exact_rows

    measured = []
    for code, layers, single, count in [
        (SingleNumberCode, 2, False, exact_rows),
        (SingleNumberCode, 2, True, distinct_rows),
        (SingleNumberCode, 3, False, distinct_rows),
        (MultisetCode, 3, True, exact_rows),
    ]:
        layer = distinguishing_layer(structure(*paper_sizes(layers)), code)
        x = inputs(seed, layer.in_features)
        outputs = all_outputs(layer.float(), x.float()) if single else all_outputs(layer, x)
        measured.append(len(count(outputs)))
    two, three = (smore_flexibility(*paper_sizes(layers)) for layers in (2, 3))
    holds = measured[0] == two > measured[1] and measured[2] < three == measured[3]
    return Claim(
        "smore_thm34_codes_in_floats",
        "S'MoRE Thm 3.4",
        "our reading: σ = N^Z needs Z log2(N) bits, 38 at L = 2 and 1369 at L = 3 (N = 3, Z up to 24 and 864): exact "
        "in float64 at L = 2, merged in float32 at L = 2 and in float64 at L = 3; σ = (Z, Z²) needs 21 bits at L = 3 "
        "and is exact in float32",
        measured,
        [two, f"< {two}", f"< {three}", three],
        0.0 if holds else 1.0,
        holds,
    )


def single_outputs(layer: Smore, x: Float[Tensor, "in"], trees: Trees) -> Float[Tensor, "tree width"]:
    """`tree_outputs` by a float32 copy of the layer, given back in float64."""
    from .tree_enumeration import tree_outputs

    return tree_outputs(copy.deepcopy(layer).float(), x.float(), trees).double()


def precision_of_all(layer: Smore, x: Float[Tensor, "in"]) -> dict[str, int | float]:
    """How many of all trees float64 and float32 tell apart: trees, float64, float32_bits, float32, rounding.

    float64: apart by more than SAME of the largest output. float32_bits: different bit patterns, which may differ by
    rounding alone. float32: apart by more than twice float32's rounding, its largest error in units of the largest
    output, so that they would stay apart in any order of summation.
    """
    import numpy as np
    import torch

    from .tree_enumeration import all_outputs, all_trees, count_apart, distinct_rows

    exact = all_outputs(layer, x)
    single = torch.cat([single_outputs(layer, x, trees) for trees in all_trees(layer.config)]).numpy()
    rounding = float(np.abs(exact - single).max() / np.abs(exact).max())
    return {
        "trees": len(exact),
        "float64": count_apart(exact, SAME),
        "float32_bits": len(distinct_rows(single)),
        "float32": count_apart(exact, 2 * rounding),
        "rounding": rounding,
    }


@claim_check("S'MoRE Thm 3.4", reading=True)
def smore_thm34_single_precision(seed: int = 0) -> Claim:
    """float32 keeps trees apart at the usual size of parameters and loses σ's part of them when σ is nearly linear."""
    from ..adapters import Smore
    from .smore_families import randomized

    x, found = inputs(seed, IN_FEATURES), []
    for layers, scale in [(2, 1.0), (3, 1.0), (2, 1e-4)]:
        layer = randomized(Smore(IN_FEATURES, 2, structure(*paper_sizes(layers))), seed, scale)
        found.append(precision_of_all(layer, x))
    return agreement(
        "smore_thm34_single_precision",
        "S'MoRE Thm 3.4",
        "our reading: beyond its rounding float32 tells all trees of a random tanh layer apart for L = 2, 3; with "
        "parameters 10⁻⁴ of that size σ bends by 10⁻⁸, and L = 2 keeps what σ = id has (float64 keeps "
        f"{found[-1]['float64']})",
        [int(precision["float32"]) for precision in found],
        [smore_flexibility(*paper_sizes(2)), smore_flexibility(*paper_sizes(3)), linear_flexibility(*paper_sizes(2))],
    )
