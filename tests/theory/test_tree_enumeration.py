"""Every tree of S'MoRE is walked once, and follows Equation 3."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moe_analysis.adapters import Smore
from moe_analysis.theory import smore_families
from moe_analysis.theory import tree_enumeration as walk
from moe_analysis.theory.flexibility import child_flexibility, smore_flexibility
from tests.theory.random_smore import FEW, POSITIONS, SEEDS, SIZES, random_smore, small


def by_recursion(layer: Smore, x: torch.Tensor, trees: walk.Trees, tree: int, level: int, node: int) -> torch.Tensor:
    """x of one node above `level`, by Eq. 3 as it is written, in the form of the layer's activation position."""
    config, pool, total = layer.config, 0 if layer.config.shared_pool else level, 0
    for child, expert in enumerate(trees[level][tree, node].tolist()):
        own = layer.B[pool][expert] @ (layer.A[pool][expert] @ x + layer.A_bias[pool][expert])
        own = (own + layer.B_bias[pool][expert]) * config.scales[level]
        below = None
        if level:
            below = by_recursion(layer, x, trees, tree, level - 1, node * config.fanout[level] + child)
        if config.activation_position == "all":
            inner = own if below is None else own + layer.W[level] @ below + layer.W_bias[level]
            total = total + torch.tanh(inner)
        else:
            total = total + own + (0 if below is None else layer.W[level] @ torch.tanh(below) + layer.W_bias[level])
    return total


@FEW
@given(SIZES, POSITIONS, st.booleans(), SEEDS)
def test_following_a_tree_is_equation_three_written_as_a_recursion(sizes, position, shared, seed):
    s, f = sizes
    s = [max(s)] * len(s) if shared else s
    layer, x = random_smore(seed, s, f, activation_position=position, shared_pool=shared, alpha=3.0)
    trees = walk.random_trees(layer.config, 3, torch.Generator().manual_seed(seed))
    found = walk.tree_outputs(layer, x, trees)
    with torch.no_grad():
        expected = torch.stack([by_recursion(layer, x, trees, n, len(s) - 1, 0) for n in range(3)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@FEW
@given(SIZES)
def test_every_tree_is_walked_once_with_siblings_in_order(sizes):
    config = small(*sizes)
    chunks = list(walk.all_trees(config, chunk=7))
    assert max(len(trees[0]) for trees in chunks) <= 7
    trees = [torch.cat(layer) for layer in zip(*chunks)]
    flat = torch.cat([ids.flatten(1) for ids in trees], dim=1)
    assert len(flat) == len(set(map(tuple, flat.tolist()))) == smore_flexibility(*sizes)
    assert all((ids.diff(dim=-1) > 0).all() for ids in trees)
    assert [tuple(ids.shape[1:]) for ids in trees] == list(zip(config.nodes[1:], config.fanout))
    drawn = walk.random_trees(config, 50, torch.Generator().manual_seed(0))
    assert [ids.shape[1:] for ids in drawn] == [ids.shape[1:] for ids in trees]


@pytest.mark.parametrize("position", ["all", "child", "child_scored"])
@pytest.mark.parametrize("shared", [False, True])
def test_layer_by_layer_the_outputs_are_those_of_all_trees(position, shared):
    layer = smore_families.distinguishing_layer(
        small([3, 3, 3], [2, 1, 2], activation_position=position, shared_pool=shared)
    )
    x = torch.ones(3, dtype=torch.float64)
    every = walk.all_outputs(layer, x)
    found = walk.layer_outputs(layer, x)
    assert set(map(tuple, found[-1].tolist())) == set(map(tuple, every.tolist()))
    formula = smore_flexibility if position == "all" else child_flexibility
    assert [len(rows) for rows in found] == [formula([3] * n, [2, 1, 2][:n]) for n in (1, 2, 3)]


@FEW
@given(SEEDS, st.integers(1, 3))
def test_distinct_rows_are_those_of_a_set_and_zero_has_no_sign(seed, width):
    rows = np.random.default_rng(seed).integers(-1, 2, (30, width)) * np.where(np.arange(30) % 2, 1.0, -1.0)[:, None]
    found = walk.distinct_rows(rows)
    assert sorted(map(tuple, found)) == sorted(set(map(tuple, rows + 0.0)))


@FEW
@given(SEEDS)
def test_rows_far_apart_are_counted_and_copies_within_the_tolerance_are_not(seed):
    rng = np.random.default_rng(seed)
    grid = rng.choice(7**3, 20, replace=False)
    centres = np.stack(np.unravel_index(grid, (7, 7, 7)), axis=1) + 1.0
    noisy = np.concatenate([centres + rng.uniform(-1e-9, 1e-9, centres.shape) for _ in range(3)])
    assert walk.count_apart(noisy, 1e-8) == 20
    assert walk.count_apart(noisy, 1e-13) == 60


def test_rows_that_a_chain_of_small_steps_connects_count_once():
    chain = np.linspace(0, 1, 101)[:, None]
    assert walk.count_apart(chain, 0.011) == 1 and walk.count_apart(chain, 0.009) == 101
    assert walk.count_apart(np.zeros((0, 2)), 0.1) == 0 and walk.count_apart(np.zeros((5, 2)), 0.1) == 1
    with pytest.raises(ValueError, match="rows hold NaN or infinite entries"):
        walk.count_apart(np.array([[0.0], [np.nan]]), 0.1)


def test_too_many_trees_are_refused_with_the_way_around():
    config = small([4] * 4, [2] * 4)
    with pytest.raises(ValueError, match="4.7e\\+11 trees.*take random_trees, or layer_outputs"):
        next(walk.all_trees(config))
    layer = smore_families.distinguishing_layer(small([4] * 3, [3] * 3))
    with pytest.raises(ValueError, match="layer 2 has .* combinations of 256 outputs below it"):
        walk.layer_outputs(layer, torch.ones(3, dtype=torch.float64))


def test_outputs_that_were_rounded_are_not_counted_exactly():
    layer, x = random_smore(0, [3, 3], [2, 2])
    with pytest.raises(ValueError, match="values are not whole numbers of at most 9007199254740992; the first is"):
        walk.layer_outputs(layer, x)
    assert len(walk.exact_rows(torch.tensor([[2.0, -0.0], [2.0, 0.0], [3.0, 0.0]]))) == 2
