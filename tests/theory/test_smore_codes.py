"""The codes of the proof tell every tree apart, within what float32 leaves."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import nn

from moe_analysis.theory import smore_codes, smore_families
from moe_analysis.theory import tree_enumeration as walk
from tests.theory.random_smore import random_smore, small


@pytest.mark.parametrize("shared", [False, True])
def test_outputs_are_decoded_into_the_trees_that_made_them(shared):
    layer = smore_families.distinguishing_layer(small([4, 4], [2, 2], shared_pool=shared))
    for trees in walk.all_trees(layer.config):
        found = smore_families.decoded_trees(layer, walk.tree_outputs(layer, torch.ones(3, dtype=torch.float64), trees))
        assert all(torch.equal(a, b) for a, b in zip(found, trees))


def test_the_parameters_of_the_proof_are_as_it_says():
    layer = smore_families.distinguishing_layer(small([3, 4], [2, 2]))
    assert not layer.A[0].any() and not layer.B[1].any() and not layer.W_bias[1].any()
    assert layer.B_bias[1][:, 0].tolist() == [0, 1, 2, 3] and not layer.B_bias[1][:, 1:].any()
    assert torch.equal(layer.W[1], torch.cat([torch.zeros(8, 6), torch.eye(6)]).double())
    child = smore_families.distinguishing_layer(small([3, 4], [2, 2], activation_position="child"))
    assert child.B_bias[1][:, 0].tolist() == [1, 2, 4, 8]
    assert isinstance(child.activations[0], nn.Identity)


def test_codes_are_the_powers_of_a_number_and_one_large_number():
    listed = torch.tensor([[0.0, 5.0, 1.0], [2.0, 5.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    powers, single = smore_families.MultisetCode(listed, 3), smore_families.SingleNumberCode(listed, 2)
    numbers = powers.number(listed)
    assert sorted(numbers.tolist()) == [1, 2, 3]
    assert powers(listed).tolist() == [[z, z**2, z**3] for z in numbers.tolist()]
    assert torch.equal(powers.inputs(numbers), listed)
    assert single(listed)[:, 0].tolist() == [3.0**z for z in single.number(listed).tolist()]


def test_codes_refuse_what_they_cannot_hold():
    listed = torch.arange(4, dtype=torch.float64).unsqueeze(1).repeat(1, 2)
    with pytest.raises(ValueError, match="code of 3 children needs 3 numbers, but the layer is 2 wide"):
        smore_families.MultisetCode(listed, 3)
    with pytest.raises(ValueError, match="inputs hold a row twice"):
        smore_families.MultisetCode(listed.clamp(max=2), 2)
    with pytest.raises(ValueError, match="power sums above 2\\^53"):
        smore_families.MultisetCode(torch.arange(9e4, dtype=torch.float64).unsqueeze(1).repeat(1, 4), 4)
    with pytest.raises(ValueError, match="σ met a z that is not in its list"):
        smore_families.MultisetCode(listed, 2)(listed + 0.5)


@pytest.mark.parametrize(
    "config, message",
    [
        (small([3], [2], expert_bias=False), "expert_bias = False leaves no room"),
        (small([2, 2], [2, 2], r=1, shared_pool=True), "d = 2 holds an index and no code of 2 children; raise r"),
    ],
)
def test_configurations_without_room_for_the_proof_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        smore_families.distinguishing_layer(config)


def test_only_layers_with_pairs_and_an_outer_activation_are_decoded():
    layer, _ = random_smore(0, [3, 3], [2, 1])
    with pytest.raises(ValueError, match="only fanouts of 2 with 'all' are decoded"):
        smore_families.decoded_trees(layer, torch.zeros(1, 12))


def test_collisions_are_counted_as_they_are():
    assert smore_codes.collisions(lambda z: (z,), kinds=3, largest=2) == 10 - 7  # sums 0 … 6 of 10 multisets
    assert smore_codes.collisions(smore_codes.fraction_code(3), 5, 2) == 0
    assert smore_codes.collisions(smore_codes.fraction_code(2), 2, 2) == 1  # 1/4 + 1/4 = 1/2
    pairs = [a + b for a, b in [*combinations(range(1, 5), 2), *((z, z) for z in range(1, 5))]]
    assert smore_codes.collisions(smore_codes.power_code(1), 4, 2, smallest=2) == len(pairs) - len(set(pairs))


def test_float32_counts_only_what_its_rounding_leaves():
    layer, x = random_smore(1, [4, 4], [2, 2])
    found = smore_codes.precision_of_all(layer, x)
    assert found["trees"] == found["float64"] == found["float32"] == found["float32_bits"] == 216
    assert 1e-9 < found["rounding"] < 1e-5
    flat = smore_families.randomized(layer, 1, scale=1e-4)
    found = smore_codes.precision_of_all(flat, x)
    assert found["float32"] == 114 < found["float64"]  # σ bends by 1e-8, which float64 sees and float32 does not
