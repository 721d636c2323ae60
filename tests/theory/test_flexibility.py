"""The formulas of structural flexibility against trees that are written out and compared one by one."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, product
from math import comb, prod

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moe_analysis.theory.flexibility import (
    PAPER_SYSTEMS,
    SYSTEMS,
    child_flexibility,
    flexibility_table,
    linear_flexibility,
    momor_bound,
    node_counts,
    shared_flexibility,
    smore_flexibility,
)

FEW = settings(max_examples=40, deadline=None)
LAYERS = st.lists(
    st.integers(1, 4).flatmap(lambda s: st.tuples(st.just(s), st.integers(1, min(s, 3)))), min_size=1, max_size=3
)


def written_trees(s: list[int], f: list[int]) -> list[dict]:
    """Every tree as nested dictionaries, expert -> its subtree; the top layer is last in s and f."""
    if not s:
        return [{}]
    below = written_trees(s[:-1], f[:-1])
    return [
        dict(zip(chosen, subtrees))
        for chosen in combinations(range(s[-1]), f[-1])
        for subtrees in product(below, repeat=f[-1])
    ]


def small(layers: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    s, f = [pool for pool, _ in layers], [children for _, children in layers]
    trees = prod(comb(a, b) ** parents for a, b, parents in zip(s, f, node_counts(f)[1:]))
    assume(trees <= 3000)
    return s, f


def frozen(tree: dict):
    return frozenset((expert, frozen(child)) for expert, child in tree.items())


def without_pairing(tree: dict):
    """What S'MoRE* knows: which experts, and which outputs below, but not what belongs together."""
    if not tree:
        return ()
    return frozenset(tree), frozenset(Counter(without_pairing(child) for child in tree.values()).items())


def by_layer(tree: dict, level: int, found: dict[int, Counter]) -> dict[int, Counter]:
    for expert, child in tree.items():
        found.setdefault(level, Counter())[expert] += 1
        by_layer(child, level - 1, found)
    return found


def counts(tree: dict) -> frozenset:
    return frozenset((level, frozenset(c.items())) for level, c in by_layer(tree, 0, {}).items())


def active(tree: dict) -> frozenset:
    return frozenset((level, frozenset(c)) for level, c in by_layer(tree, 0, {}).items())


@FEW
@given(LAYERS)
def test_each_formula_counts_what_its_system_can_see_of_a_tree(layers):
    s, f = small(layers)
    trees = written_trees(s, f)
    assert smore_flexibility(s, f) == len(trees) == len({frozen(tree) for tree in trees})
    assert child_flexibility(s, f) == len({without_pairing(tree) for tree in trees})
    assert linear_flexibility(s, f) == len({counts(tree) for tree in trees})
    assert momor_bound(s, f) == len({active(tree) for tree in trees})


@FEW
@given(LAYERS)
def test_a_system_that_sees_more_has_more_outputs(layers):
    s, f = [pool for pool, _ in layers], [children for _, children in layers]
    assert momor_bound(s, f) <= linear_flexibility(s, f) <= child_flexibility(s, f) <= smore_flexibility(s, f)


def test_the_values_of_the_paper():
    assert [momor_bound([4] * n, [2] * n) for n in (1, 2, 3)] == [6, 66, 726]
    assert [smore_flexibility([4] * n, [2] * n) for n in (1, 2, 3, 4)] == [6, 216, 279_936, 6**15]
    assert [child_flexibility([4] * n, [2] * n) for n in (1, 2, 3)] == [6, 126, 48_006]
    assert [shared_flexibility([4] * n, [2] * n) for n in (1, 2, 3, 4)] == [6, 216, 279_936, 6**15]


def test_the_lowest_layer_stands_first():
    assert smore_flexibility([5, 2], [2, 2]) == 10**2 * 1
    assert smore_flexibility([2, 5], [2, 2]) == 1**2 * 10
    assert child_flexibility([5, 2], [2, 2]) == 55 and child_flexibility([2, 5], [2, 2]) == 10


def test_a_layer_that_takes_all_its_experts_adds_nothing_to_the_order_wise_mixture():
    assert momor_bound([4, 3], [2, 3]) == 11  # 2, 3 or 4 of the lower four
    assert momor_bound([3, 3, 3], [3, 3, 3]) == 1


def test_values_beyond_every_machine_number_stay_exact():
    assert smore_flexibility([4] * 12, [2] * 12) == 6 ** (2**12 - 1)
    row = flexibility_table(4, 2, [14], ["S'MoRE"]).iloc[0]
    assert row["flexibility"] == 6 ** (2**14 - 1)
    assert row["log10"] == pytest.approx((2**14 - 1) * 0.7781512503836436)


def test_the_table_has_a_row_a_system_and_depth_with_python_integers():
    frame = flexibility_table(4, 2, range(1, 4))
    assert list(frame.columns) == ["system", "layers", "flexibility", "log10"]
    assert list(frame["system"].unique()) == list(PAPER_SYSTEMS) and len(frame) == 12
    assert all(type(value) is int for value in frame["flexibility"])
    wide = frame.pivot(index="layers", columns="system", values="flexibility")
    assert list(wide["S'MoRE*"]) == [6, 126, 48_006] and list(wide["MoMOR"]) == [6, 66, 726]
    assert list(flexibility_table(4, 2, (n for n in (1, 2)))["layers"]) == [1, 2] * 4  # any iterable
    assert set(flexibility_table(4, 2, [2], SYSTEMS)["system"]) == set(SYSTEMS)


def test_a_table_of_unequal_layers_takes_the_lowest_and_leaves_the_shared_pool_out():
    frame = flexibility_table([4, 3, 2], [2, 1, 2], [1, 2, 3])
    assert list(frame.query('system == "S\'MoRE"')["flexibility"]) == [6, 18, 324]
    assert list(frame.query('system == "S\'MoRE#"')["layers"]) == [1]


@pytest.mark.parametrize(
    "s, f, message",
    [
        ([4, 4], [2], "s = \\[4, 4\\] has 2 layers but f = \\[2\\] has 1"),
        ([4, 2], [2, 3], "f\\[1\\] = 3 is above s\\[1\\] = 2"),
        ([4], [0], "f = \\[0\\] must hold integers of at least 1"),
        ([4.0], [2], "s = \\[4.0\\] must hold integers"),
        ([True], [1], "s = \\[True\\] must hold integers"),
        ([], [], "s = \\[\\] must be a list with one integer per layer"),
        (4, [2], "s = 4 must be a list"),
    ],
)
@pytest.mark.parametrize("formula", SYSTEMS.values())
def test_impossible_structures_are_refused_by_name(formula, s, f, message):
    with pytest.raises(ValueError, match=message):
        formula(s, f)


def test_what_no_table_or_shared_pool_can_show_is_refused():
    with pytest.raises(ValueError, match="must be the same in every layer"):
        shared_flexibility([4, 3], [2, 2])
    with pytest.raises(ValueError, match="layers holds 3 but s = \\[4, 4\\] has 2 entries"):
        flexibility_table([4, 4], 2, [3])
    with pytest.raises(ValueError, match="layers holds 0; a system has at least 1 layer"):
        flexibility_table(4, 2, [0])
    with pytest.raises(ValueError, match="systems names 'LoRA'; choose from MoMOR"):
        flexibility_table(4, 2, [1], ["LoRA"])
