"""S'MoRE's statements about structural flexibility and its relatives, checked by enumeration on the real modules.

Counts are of different outputs x_L over all routings with binary scores. With the parameters of the proofs every value
is a whole number in float64, so that counting is exact in any order of sums (`whole_numbers` refuses others); with
random parameters outputs differ when a coordinate does by more than RESOLUTION of the largest output. Sizes are the
paper's where nothing else is said: s = 4 experts, f = 2.
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Any

from .claim import Claim, agreement, claim_check
from .flexibility import child_flexibility, linear_flexibility, momor_bound, shared_flexibility, smore_flexibility

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from ..adapters import SmoreConfig

RESOLUTION = 1e-10  # some 10⁵ roundings of float64
MIXED = (([3, 4, 2], [2, 3, 1]), ([2, 5, 3], [1, 2, 2]), ([4, 3], [3, 2]), ([3, 3, 3, 3], [2, 2, 1, 2]))
IN_FEATURES, TOKENS = 8, 32


def structure(s: list[int], f: list[int], **options: Any) -> SmoreConfig:
    """A small configuration: rank 1 in all layers and a router that takes no room, since the trees are given."""
    from ..adapters import SmoreConfig

    return SmoreConfig(num_experts=s, fanout=f, **{"r": 1, "down_dim": 2, "key_dim": 2, **options})


def paper_sizes(layers: int) -> tuple[list[int], list[int]]:
    return [4] * layers, [2] * layers


def inputs(seed: int, *shape: int) -> Float[Tensor, "..."]:
    import torch

    generator = torch.Generator().manual_seed(seed + 1000)  # not the numbers that parameters are made of
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def exact_count(s: list[int], f: list[int], seed: int, tried: int = 1, **options: Any) -> int:
    """Different outputs over all trees with the proof's parameters; the fewest over `tried` random inputs."""
    from .smore_families import distinguishing_layer
    from .tree_enumeration import all_outputs, exact_rows

    layer = distinguishing_layer(structure(s, f, **options))
    return min(len(exact_rows(all_outputs(layer, x))) for x in inputs(seed, tried, layer.in_features))


def random_count(s: list[int], f: list[int], seed: int, **options: Any) -> int:
    """Outputs that can be told apart over all trees with random parameters and a random input."""
    from ..adapters import Smore
    from .smore_families import randomized
    from .tree_enumeration import all_outputs, count_apart

    layer = randomized(Smore(IN_FEATURES, 2, structure(s, f, **options)), seed)
    return count_apart(all_outputs(layer, inputs(seed, IN_FEATURES)), RESOLUTION)


def momor_count(s: list[int], f: list[int], seed: int, draws: int = 1) -> int:
    """The same of a random MoMOR, whose gates are the active experts of all of S'MoRE's trees; the most of `draws`."""
    from ..adapters import Momor, MomorConfig
    from .smore_families import randomized
    from .tree_enumeration import count_apart, momor_outputs, momor_routings

    gates, most = momor_routings(structure(s, f)), 0
    for draw in range(seed, seed + draws):
        layer = randomized(Momor(IN_FEATURES, 6, MomorConfig(r=1, num_experts=s, top_k=f)), draw)
        most = max(most, count_apart(momor_outputs(layer, inputs(draw, IN_FEATURES), gates), RESOLUTION))
    return most


@claim_check("S'MoRE Thm 3.3")
def smore_thm33_momor_bound(seed: int = 0) -> Claim:
    """Over all active sets of all trees MoMOR has at most C(s, f) · Π Σ C(s, i) outputs, and random ones have them."""
    sizes = [paper_sizes(layers) for layers in (1, 2, 3)]
    return agreement(
        "smore_thm33_momor_bound",
        "S'MoRE Thm 3.3",
        "Γ_MoMOR ≤ C(s_{L-1}, f_{L-1}) Π_{l<L-1} Σ_{i=f_l}^{min(F_l, s_l)} C(s_l, i) for s = 4, f = 2, L = 1..3, a bound "
        "that random parameters attain (most outputs of 3 random MoMORs over the active experts of all trees)",
        [momor_count(s, f, seed, draws=3) for s, f in sizes],
        [momor_bound(s, f) for s, f in sizes],
    )


@claim_check("S'MoRE Thm 3.4")
def smore_thm34_all_trees(seed: int = 0) -> Claim:
    """The proof's parameters tell all trees of one to three layers apart."""
    sizes = [paper_sizes(layers) for layers in (1, 2, 3)]
    return agreement(
        "smore_thm34_all_trees",
        "S'MoRE Thm 3.4",
        "some parameters give S'MoRE Γ = Π_l C(s_l, f_l)^{F_{l+1}} outputs for every input, s = 4, f = 2, L = 1..3: "
        "A = B = 0, bias = expert index, W = [0; I], σ an injective multiset code (exact; fewest of 2 inputs)",
        [exact_count(s, f, seed, tried=2) for s, f in sizes],
        [smore_flexibility(s, f) for s, f in sizes],
    )


@claim_check("S'MoRE Thm 3.4")
def smore_thm34_four_layers(seed: int = 0) -> Claim:
    """Four layers, by layers: all x_3 are different, and the last sum of two codes is undone."""
    import torch

    from .smore_families import decoded_trees, distinguishing_layer
    from .tree_enumeration import layer_outputs, random_trees, tree_outputs

    config = structure(*paper_sizes(4))
    layer, sampled = distinguishing_layer(config), 20_000
    x = inputs(seed, layer.in_features)
    below = len(layer_outputs(layer, x, levels=3)[-1])
    top: Any = layer.activations[-1]
    trees = random_trees(config, sampled, torch.Generator().manual_seed(seed))
    found = decoded_trees(layer, tree_outputs(layer, x, trees))
    same = torch.stack([(a == b).flatten(1).all(1) for a, b in zip(found, trees)]).all(0).sum()
    # σ has one code for each expert and each x_3; two codes follow from their sums of powers; so all pairs count
    return agreement(
        "smore_thm34_four_layers",
        "S'MoRE Thm 3.4",
        "s = 4, f = 2, L = 4 has 6^15 outputs: all 6^7 x_3 are different, σ gives each of 4 experts with each of them "
        "a code of its own, and the sum of two codes (Z, Z²) determines both (x_3 enumerated; codes; trees decoded "
        f"from their x_4 out of {sampled} random ones; C(4, 2) · x_3²)",
        [below, len(top.keys), int(same), comb(4, 2) * below**2],
        [6**7, 4 * 6**7, sampled, 6**15],
    )


@claim_check("S'MoRE Thm 3.4", reading=True)
def smore_thm34_random_parameters(seed: int = 0) -> Claim:
    """A S'MoRE with tanh needs no special parameters to tell its trees apart."""
    sizes = [paper_sizes(layers) for layers in (1, 2, 3)]
    counts = [[random_count(s, f, seed + draw) for draw in range(2)] for s, f in sizes]
    return agreement(
        "smore_thm34_random_parameters",
        "S'MoRE Thm 3.4",
        "our reading: Γ is not a matter of special parameters: with σ = tanh and normal random ones it is reached, "
        f"s = 4, f = 2, L = 1..3 (outputs that differ by {RESOLUTION:g} of the largest; fewest of 2 draws)",
        [min(draws) for draws in counts],
        [smore_flexibility(s, f) for s, f in sizes],
    )


@claim_check("S'MoRE Thm 3.4", reading=True)
def smore_thm34_needs_the_activation(seed: int = 0) -> Claim:
    """Without σ the same random layers only count how often an expert is used in its layer."""
    sizes = [paper_sizes(layers) for layers in (1, 2, 3)]
    return agreement(
        "smore_thm34_needs_the_activation",
        "S'MoRE Thm 3.4",
        "our reading: with σ = id random parameters reach the number of ways in which experts can be counted in their "
        "layers and no more, s = 4, f = 2, L = 1..3",
        [random_count(s, f, seed, activation="identity") for s, f in sizes],
        [linear_flexibility(s, f) for s, f in sizes],
    )


@claim_check("S'MoRE Cor. 3.5")
def smore_cor35_activation_on_child(seed: int = 0) -> Claim:
    """With σ on the child, both the proof's and random parameters have Γ* outputs."""
    sizes = [paper_sizes(layers) for layers in (1, 2, 3)]
    counted = [
        count(s, f, seed, activation_position="child_scored") for count in (exact_count, random_count) for s, f in sizes
    ]
    return agreement(
        "smore_cor35_activation_on_child",
        "S'MoRE Cor. 3.5",
        "S'MoRE* has Γ*_l = C(s, f) C(Γ*_{l-1} + f − 1, f) outputs, s = 4, f = 2, L = 1..3 (codes 2^i of experts in "
        "the biases, exact; then random parameters with tanh)",
        counted,
        [child_flexibility(s, f) for s, f in sizes] * 2,
    )


@claim_check("S'MoRE Cor. 3.6")
def smore_cor36_shared_pool(seed: int = 0) -> Claim:
    """With one pool for all layers nothing is lost."""
    sizes = [paper_sizes(layers) for layers in (1, 2, 3)]
    counted = [count(s, f, seed, shared_pool=True) for count in (exact_count, random_count) for s, f in sizes]
    return agreement(
        "smore_cor36_shared_pool",
        "S'MoRE Cor. 3.6",
        "S'MoRE# with a pool that all layers share has Π_l C(s, f)^{F_{l+1}} outputs, s = 4, f = 2, L = 1..3 (the "
        "proof's parameters, exact; then random ones with tanh)",
        counted,
        [shared_flexibility(s, f) for s, f in sizes] * 2,
    )


@claim_check("S'MoRE Thms 3.3, 3.4, Cor. 3.5")
def smore_heterogeneous_layers(seed: int = 0) -> Claim:
    """Pools and fanouts that differ between layers: all formulas against enumeration."""
    measured, expected = [], []
    for s, f in MIXED:
        measured += [
            momor_count(s, f, seed),
            exact_count(s, f, seed),
            random_count(s, f, seed),
            exact_count(s, f, seed, activation_position="child"),
            random_count(s, f, seed, activation="identity"),
        ]
        trees = smore_flexibility(s, f)
        expected += [momor_bound(s, f), trees, trees, child_flexibility(s, f), linear_flexibility(s, f)]
    return agreement(
        "smore_heterogeneous_layers",
        "S'MoRE Thms 3.3, 3.4, Cor. 3.5",
        f"the formulas hold for unequal layers, (s, f) = {', '.join(map(str, MIXED))}: a random MoMOR, S'MoRE with the "
        "proof's and with random parameters, S'MoRE*, and S'MoRE with σ = id (our formula) of each",
        measured,
        expected,
    )


@claim_check("S'MoRE Fig. 3")
def smore_fig3_three_trees(seed: int = 0) -> Claim:
    """Three trees with the same active experts: MoMOR has one output, S'MoRE* two and S'MoRE three."""
    import torch

    from ..adapters import Momor, MomorConfig, Smore
    from .smore_families import distinguishing_layer, randomized
    from .tree_enumeration import active_experts, count_apart, exact_rows, momor_outputs, tree_outputs

    lowest = torch.tensor([[[0, 2], [1, 3]], [[0, 1], [2, 3]], [[2, 3], [0, 1]]])  # (a), (b), (c): (3, 2, 2)
    trees, x = [lowest, torch.tensor([[[0, 1]]] * 3)], inputs(seed, IN_FEATURES)
    momor = randomized(Momor(IN_FEATURES, 6, MomorConfig(r=1, num_experts=[4, 2], top_k=[2, 2])), seed)
    measured = []
    for position in ("child_scored", "all"):
        config = structure([4, 2], [2, 2], activation_position=position)
        proofs = distinguishing_layer(config, in_features=IN_FEATURES)
        measured.append(len(exact_rows(tree_outputs(proofs, x, trees))))
        layer = randomized(Smore(IN_FEATURES, 2, config), seed)
        measured.append(count_apart(tree_outputs(layer, x, trees).numpy(), RESOLUTION))
    gates = active_experts(config, trees)
    measured.insert(0, count_apart(momor_outputs(momor, x, gates), RESOLUTION))
    return agreement(
        "smore_fig3_three_trees",
        "S'MoRE Fig. 3",
        "trees of the same experts, arranged as {1: 1,3; 2: 2,4}, {1: 1,2; 2: 3,4} and {1: 3,4; 2: 1,2}: MoMOR has "
        "one output, S'MoRE* two, S'MoRE three (random MoMOR; the proof's and random parameters of either other)",
        measured,
        [1, 2, 2, 3, 3],
    )
