"""S'MoRE's claims, and the enumerators and constructions they rest on, against recursions written out in Python."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from moe_analysis.adapters import MoeLora, MoeLoraConfig, Momor, MomorConfig, Smore, SmoreConfig
from moe_analysis.theory import smore, smore_codes, smore_families, smore_relatives, verify
from moe_analysis.theory import tree_enumeration as walk
from moe_analysis.theory.flexibility import child_flexibility, smore_flexibility

FEW = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 10_000)
SIZES = st.sampled_from([([4], [2]), ([3, 4], [2, 1]), ([4, 3], [1, 2]), ([3, 3, 2], [2, 2, 1]),
                         ([2, 3, 3], [1, 1, 2])])  # fmt: skip
POSITIONS = st.sampled_from(["all", "child", "child_scored"])
CHEAP = ["smore_fig3_*", "smore_lemma_*", "smore_prop*", "smore_collapse_*", "smore_heterogeneous_layers"]


def small(s: list[int], f: list[int], **options) -> SmoreConfig:
    return SmoreConfig(num_experts=s, fanout=f, **{"r": 2, "down_dim": 2, "key_dim": 2, **options})


def random_smore(seed: int, s: list[int], f: list[int], **options) -> tuple[Smore, torch.Tensor]:
    layer = smore_families.randomised(Smore(5, 3, small(s, f, **options)), seed)
    return layer, torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


def test_the_cheap_claims_hold_for_several_seeds():
    for seed in (0, 1):
        table = verify(CHEAP, seed=seed)
        assert len(table) == 7
        assert table["holds"].all(), table.loc[~table["holds"], ["name", "measured"]].to_string()


def test_the_counts_of_three_layers_are_those_of_the_paper():
    x = torch.zeros(3, dtype=torch.float64)
    for position, expected in [("all", 279_936), ("child_scored", 48_006)]:
        layer = smore_families.distinguishing_layer(smore.structure([4] * 3, [2] * 3, activation_position=position))
        assert len(walk.distinct_rows(walk.all_outputs(layer, x))) == expected
    assert smore.momor_count([4] * 3, [2] * 3, 0) == 726


def test_four_layers_hold_by_the_layer_wise_argument():
    claim = smore.smore_thm34_four_layers()
    assert claim.holds and claim.measured[-1] == 6**15


@pytest.fixture
def two_layers(monkeypatch):
    """Every claim at L = 1, 2 and once more 2, where an enumeration takes milliseconds."""
    for module in (smore, smore_codes):
        monkeypatch.setattr(module, "paper_sizes", lambda layers: ([4] * min(layers, 2), [2] * min(layers, 2)))


def test_the_claims_of_two_layers_hold(two_layers):
    table = verify(["smore_thm33_*", "smore_thm34_all_*", "smore_thm34_random_*", "smore_thm34_needs_*",
                    "smore_thm34_single_*", "smore_cor*"], seed=3).set_index("name")  # fmt: skip
    assert table["holds"].all()
    assert table.loc["smore_cor35_activation_on_child", "measured"] == [6, 126, 126] * 2
    assert table.loc["smore_thm34_needs_the_activation", "measured"] == [6, 114, 114]


def test_a_code_that_forgets_the_second_power_is_found_wrong(two_layers, monkeypatch):
    honest = smore_families.MultisetCode.forward
    monkeypatch.setattr(smore_families.MultisetCode, "forward",
                        lambda self, z: honest(self, z) * (torch.arange(z.shape[-1]) == 0))
    assert not smore.smore_thm34_all_trees().holds
    assert not smore_codes.smore_lemma_c8_multisets().holds


def test_an_aggregation_that_forgets_an_expert_is_found_wrong(two_layers, monkeypatch):
    honest = walk.binary_choice
    monkeypatch.setattr(walk, "binary_choice", lambda ids, pool, dtype: honest(ids.clamp(max=pool - 2), pool, dtype))
    assert not smore.smore_thm34_all_trees().holds
    assert not smore.smore_thm34_random_parameters().holds


def test_a_bound_that_is_too_small_is_found_wrong(two_layers, monkeypatch):
    monkeypatch.setattr(smore, "momor_bound", lambda s, f: 65 if len(s) == 2 else 6)
    claim = smore.smore_thm33_momor_bound()
    assert not claim.holds and claim.residual == 1.0


def test_relatives_with_other_up_factors_are_found_wrong(monkeypatch):
    honest = smore_relatives.as_smore

    def swapped(momor):
        layer = honest(momor)
        layer.W_proj.data = layer.W_proj.data.flip(1)
        return layer

    monkeypatch.setattr(smore_relatives, "as_smore", swapped)
    table = verify("smore_prop*")
    assert len(table) == 3 and not table["holds"].any()


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
    layer = smore_families.distinguishing_layer(small([3, 3, 3], [2, 1, 2], activation_position=position,
                                                      shared_pool=shared))  # fmt: skip
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


def test_a_held_order_wise_mixture_sums_its_active_experts():
    momor = smore_families.randomised(Momor(5, 4, MomorConfig(r=2, alpha=6.0, num_experts=[3, 4], top_k=[2, 2])), 0)
    x, gates = torch.ones(5, dtype=torch.float64), walk.momor_routings(small([3, 4], [2, 2]))
    assert len(gates) == 6 * (3 + 1) and set(gates.sum(1).tolist()) == {4.0, 5.0}
    found = walk.momor_outputs(momor, x, gates)
    with torch.no_grad():
        updates = torch.cat([3.0 * torch.einsum("eor,eri,i->eo", B, A, x) for A, B in zip(momor.A, momor.B)])
        np.testing.assert_allclose(found, (gates @ updates).numpy(), rtol=1e-12)


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


@pytest.mark.parametrize("config, message", [
    (small([3], [2], expert_bias=False), "expert_bias = False leaves no place"),
    (small([2, 2], [2, 2], r=1, shared_pool=True), "d = 2 holds an index and no code of 2 children; raise r"),
])  # fmt: skip
def test_configurations_without_room_for_the_proof_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        smore_families.distinguishing_layer(config)


def test_too_many_trees_are_refused_with_the_way_around():
    config = small([4] * 4, [2] * 4)
    with pytest.raises(ValueError, match="4.7e\\+11 trees.*take random_trees, or layer_outputs"):
        next(walk.all_trees(config))
    layer, x = random_smore(0, [4] * 3, [3] * 3)
    with pytest.raises(ValueError, match="layer 2 has .* combinations of 256 outputs below it"):
        walk.layer_outputs(layer, x)


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


@FEW
@given(SEEDS)
def test_neighbours_differ_in_one_place_or_in_the_arrangement_only(seed):
    config, generator = small([4, 3], [2, 2]), torch.Generator().manual_seed(seed)
    trees = walk.random_trees(config, 20, generator)
    changed = smore_codes.changed_leaves(config, trees, generator)
    assert ((changed[0] != trees[0]).any(-1).sum(-1) == 1).all() and torch.equal(changed[1], trees[1])
    exchanged = smore_codes.exchanged_leaves(config, trees, generator)
    assert torch.equal(exchanged[0].flatten(1).sort().values, trees[0].flatten(1).sort().values)
    assert torch.equal(exchanged[0].flip(1), trees[0])  # two parents: their leaves are exchanged, always


def test_a_layer_without_activation_cannot_tell_an_exchange_and_a_random_one_can():
    for activation, merged in [("identity", True), ("tanh", False)]:
        layer, x = random_smore(0, [4, 4], [2, 2], activation=activation)
        found = smore_codes.precision_of_neighbours(layer, x, "exchange", 100, seed=0)
        assert found["pairs"] == pytest.approx(100 * 5 / 6, abs=15)
        assert found["float64"] == found["float32"] == (found["pairs"] if merged else 0)


def test_float32_counts_only_what_its_rounding_leaves():
    layer, x = random_smore(1, [4, 4], [2, 2])
    found = smore_codes.precision_of_all(layer, x)
    assert found["trees"] == found["float64"] == found["float32"] == found["float32_bits"] == 216
    assert 1e-9 < found["rounding"] < 1e-5
    flat = smore_families.randomised(layer, 1, scale=1e-4)
    found = smore_codes.precision_of_all(flat, x)
    assert found["float32"] == 114 < found["float64"]  # σ bends by 1e-8, which float64 sees and float32 does not


def test_the_precision_table_shows_that_small_parameters_merge_deep_trees():
    frame = smore_codes.precision_table(layers=[2, 6], scales=[0.01, 1.0], pairs=40)
    assert list(frame[["layers", "scale", "change"]].itertuples(index=False, name=None)) == [
        (depth, scale, change) for depth in (2, 6) for scale in (0.01, 1.0) for change in ("leaves", "exchange")]
    deep = frame.query("layers == 6").set_index(["scale", "change"])
    assert deep.loc[(0.01, "leaves"), "float32"] == 40 and deep.loc[(1.0, "leaves"), "float32"] == 0


@FEW
@given(SEEDS)
def test_the_order_wise_mixture_inside_is_the_sum_over_its_gates(seed):
    momor = smore_families.randomised(Momor(5, 4, MomorConfig(r=2, alpha=None, num_experts=[3, 4], top_k=[2, 2])), seed)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        delta, routing = smore_relatives.as_smore(momor)(x)
        weights = [gate(x).softmax(-1) for gate in momor.gates]
    expected = torch.zeros(6, 4, dtype=torch.float64)
    for pool, probability in enumerate(weights):
        for n, row in enumerate(probability):
            best = row.topk(2).indices.tolist()
            for expert in best:
                gate = row[expert] / row[best].sum()
                expected[n] += (gate * momor.B[pool][expert] @ (momor.A[pool][expert] @ x[n])).detach()
    torch.testing.assert_close(delta, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(routing.gates.sum(-1), torch.full((6,), 2.0, dtype=torch.float64))  # 1 from each pool


def test_a_fresh_two_layer_start_collapses_and_a_moved_one_does_not():
    options = {"activation": "identity", "init": "eq_1_layer"}
    layer = Smore(5, 3, small([3, 4], [2, 2], **options)).double()
    nn.init.normal_(layer.W_proj)
    mixture = smore_relatives.collapsed(layer)
    assert isinstance(mixture, MoeLora) and mixture.config.num_experts == 7 and mixture.scaling == 1.0
    with torch.no_grad():  # one expert of each pool by hand: its block of W_proj is its up factor
        assert torch.equal(mixture.B[0], layer.W_proj[:, 8:10]) and torch.equal(mixture.B[3], layer.W_proj[:, :2])
        layer.W[1][0, 0] += 1
    with pytest.raises(ValueError, match="W.1 has moved from its start"):
        smore_relatives.collapsed(layer)
    with pytest.raises(ValueError, match="must be equal in all layers"):
        smore_relatives.collapsed(Smore(5, 3, small([3, 4], [2, 2], **{**options, "r": [1, 2]})))
    with pytest.raises(ValueError, match="activation = 'tanh'"):
        smore_relatives.collapsed(Smore(5, 3, small([3, 4], [2, 2], init="eq_1_layer")))


def test_a_mixture_of_one_pool_keeps_its_scaling():
    mixture = smore_families.randomised(MoeLora(5, 4, MoeLoraConfig(num_experts=3, top_k=2, r=2, alpha=7.0)), 0)
    x = torch.ones(2, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(smore_relatives.as_momor(mixture)(x)[0], mixture(x)[0], rtol=1e-13, atol=1e-13)


def test_inputs_and_parameters_are_repeatable_and_their_size_is_the_scale():
    layer = smore_families.randomised(Smore(200, 3, small([4, 4], [2, 2], r=8)), 0, scale=3.0)
    again = smore_families.randomised(Smore(200, 3, small([4, 4], [2, 2], r=8)), 0, scale=3.0)
    assert torch.equal(layer.A[0], again.A[0]) and torch.equal(smore.inputs(1, 4), smore.inputs(1, 4))
    assert float(layer.A[0].detach().std()) == pytest.approx(3 / math.sqrt(200), rel=0.05)
    assert float(layer.B_bias[1].detach().std()) == pytest.approx(3.0, rel=0.2)
