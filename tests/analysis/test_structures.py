"""Numbers about used structures against counting by hand and by chance, and verdicts that follow from them."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import log2
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.adapters import Smore, SmoreConfig
from moe_analysis.analysis import structures
from moe_analysis.analysis.flexibility import FIGURE3_OUTPUTS, enumerated_outputs, figure3_outputs, figure3_trees
from moe_analysis.analysis.residual_tree import COLUMNS, residual_tree, residual_trees
from moe_analysis.analysis.structure_claims import (
    balance_claim,
    contribution_claims,
    counting_claims,
    sibling_pairs,
    structure_claims,
    trees_claim,
)
from moe_analysis.theory.flexibility import flexibility_table

examples = settings(deadline=None, max_examples=15)
MODULES = ("layers.0.mlp.up_proj", "layers.0.mlp.down_proj", "layers.1.mlp.up_proj")


def structured_run(seed: int, method: str = "S'MoRE", entropy: tuple[float, float] = (4.0, 2.0), differ: float = 0.2):
    """A run that recorded the trees of 100 tokens at steps 0, 5, 10, its entropy going from one value to another."""
    generator = np.random.default_rng(seed)
    shape = (3, len(MODULES))
    path = np.linspace(*entropy, 3)[:, None] + 0.05 * generator.random(shape)
    values = {"tokens": np.full(shape, 100.0), "distinct_trees": np.round(2**path) + 3, "tree_entropy": path,
              "differing_siblings": differ + 0.01 * generator.random(shape)}  # fmt: skip
    records = xr.Dataset({kind: (("step", "module"), value) for kind, value in values.items()},
                         {"step": [0, 5, 10], "module": list(MODULES)})  # fmt: skip
    config = SimpleNamespace(name=method, seed=seed, system="smore", adapter=SmoreConfig())
    return SimpleNamespace(config=config, tree_records=records)


def recorded(seed: int, kinds: int = 12, tells: bool = False, method: str = "S'MoRE"):
    """A run with the trees of 3 data sets of 8 texts of 10 tokens; `tells`: each data set has trees of its own."""
    generator = np.random.default_rng(seed)
    tokens = pd.DataFrame({"row": np.repeat(np.arange(24), 10), "dataset": np.repeat(list("abc"), 80)})
    own = pd.factorize(tokens["dataset"])[0] * kinds if tells else 0
    codes = {module: generator.integers(0, kinds, len(tokens)) + own for module in MODULES}
    return structured_run(seed, method), codes, tokens


@examples
@given(st.integers(1, 40), st.integers(1, 60))
def test_random_trees_are_as_many_as_the_coupon_collector_expects(flexibility: int, tokens: int):
    missed = 0.0 if flexibility == 1 else flexibility * (1 - 1 / flexibility) ** tokens
    with np.errstate(divide="ignore"):
        assert structures.uniform_trees(flexibility, tokens) == pytest.approx(flexibility - missed, rel=1e-9)


def test_random_trees_of_two_layers_have_alike_siblings_as_rarely_as_the_sets_agree():
    assert structures.uniform_siblings([4, 4], [2, 2]) == pytest.approx(1 - 1 / 6)
    assert structures.uniform_siblings([4, 3, 4], [2, 1, 3]) == pytest.approx(1 - 1 / (6 * 3) ** 2)
    assert np.isnan(structures.uniform_siblings([4], [2]))


@examples
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 6))
def test_rarefaction_is_the_mean_over_all_samples(counts: list[int], tokens: int):
    pool = [kind for kind, count in enumerate(counts) for _ in range(count)]
    tokens = min(tokens, len(pool))
    naive = np.mean([len(set(sample)) for sample in combinations(pool, tokens)])
    assert structures.rarefied(np.array(counts), tokens) == pytest.approx(naive)


def test_rarefaction_to_more_tokens_than_there_are_is_refused():
    with pytest.raises(ValueError, match="tokens = 7 cannot be drawn from 6 counted; use 1 to 6"):
        structures.rarefied(np.array([4, 2]), 7)


@examples
@given(st.integers(0, 99))
def test_information_is_the_difference_of_the_entropies(seed: int):
    generator = np.random.default_rng(seed)
    table, names = generator.integers(0, 4, (9, 5)).astype(float), np.arange(9) % 3
    table[0, 0] += 1
    found, entropy = structures.mutual_information(table, names)
    pairs = Counter()
    for text, kind in zip(*np.nonzero(table)):
        pairs[names[text], kind] += table[text, kind]

    def bits(counts) -> float:
        total = sum(counts.values())
        return -sum(c / total * log2(c / total) for c in counts.values() if c)

    sets, trees = Counter(), Counter()
    for (name, kind), count in pairs.items():
        sets[name] += count
        trees[kind] += count
    assert found == pytest.approx(bits(sets) + bits(trees) - bits(pairs), abs=1e-9)
    assert entropy == pytest.approx(bits(sets)) and found <= entropy + 1e-9


def test_trees_of_their_own_tell_the_data_set_and_random_ones_no_more_than_shuffled_texts():
    telling = structures.dataset_information([recorded(0, tells=True)], permutations=50)
    assert telling["information"].to_numpy() == pytest.approx(log2(3)) and (telling["p"] == 1 / 51).all()
    assert (telling["excess"] > 1.0).all()
    silent = structures.dataset_information([recorded(seed) for seed in range(4)], permutations=50)
    assert abs(silent["excess"].mean()) < 0.02 and (silent["information"] > 0).all() and silent["p"].mean() > 0.2


def test_shuffling_moves_whole_texts():
    """Each text has a tree of its own: tokens shuffled one by one would seem informative, texts do not."""
    run, _, tokens = recorded(0)
    codes = {MODULES[0]: tokens["row"].to_numpy()}
    found = structures.dataset_information([(run, codes, tokens)], permutations=30)
    assert found["excess"].to_numpy() == pytest.approx(0.0, abs=1e-9) and found["p"].item() == 1.0


def test_every_number_of_a_data_set_is_that_of_its_own_tokens():
    run, codes, tokens = recorded(3, tells=True)
    frame = structures.by_dataset([(run, codes, tokens)])
    assert set(frame["dataset"]) == {"all", "a", "b", "c"} and len(frame) == 4 * len(MODULES)
    for _, row in frame.iterrows():
        chosen = codes[row["module"]][(tokens["dataset"] == row["dataset"]) | (row["dataset"] == "all")]
        share = np.array(list(Counter(chosen.tolist()).values())) / len(chosen)
        assert row["distinct"] == len(share) and row["tokens"] == len(chosen) and row["flexibility"] == 216
        assert row["entropy"] == pytest.approx(-(share * np.log2(share)).sum())
        assert row["normalised_entropy"] == pytest.approx(row["entropy"] / log2(min(216, len(chosen))))
        assert row["rarefied_tokens"] == 80 and row["rarefied"] <= row["distinct"] + 1e-9
    alone = frame[frame["dataset"] != "all"]
    assert alone["rarefied"].to_numpy() == pytest.approx(alone["distinct"].to_numpy())


def test_uses_are_sorted_and_add_up_for_every_module():
    ranks = structures.usage_ranks([recorded(0), recorded(1)])
    for _, rows in ranks.groupby(["seed", "module"]):
        assert rows["share"].sum() == pytest.approx(1.0) and rows["share"].is_monotonic_decreasing
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))


def test_the_usage_of_a_layer_is_the_mean_of_its_modules_with_unused_trees_as_zero():
    rows = [("a", 0, "layers.0.x", 1, 1.0), ("a", 0, "layers.0.y", 1, 0.75), ("a", 0, "layers.0.y", 2, 0.25)]
    usage = structures.usage_by_layer(pd.DataFrame(rows, columns=["method", "seed", "module", "rank", "share"]))
    assert usage.to_numpy().tolist() == [["a", "layers.0", 1, 0.875], ["a", "layers.0", 2, 0.125]]


def test_records_become_rows_and_bands_average_modules_within_a_seed():
    runs = [structured_run(seed) for seed in range(3)]
    frame = structures.over_training(runs)
    assert len(frame) == 3 * 3 * 3 and set(frame["layer"]) == {"layers.0", "layers.1"}
    one = frame[(frame["seed"] == 2) & (frame["step"] == 5) & (frame["module"] == MODULES[1])].iloc[0]
    records = runs[2].tree_records.sel(step=5, module=MODULES[1])
    assert one["entropy"] == float(records["tree_entropy"]) and one["distinct"] == float(records["distinct_trees"])
    assert one["normalised_entropy"] == pytest.approx(one["entropy"] / log2(100))
    assert one["share"] == pytest.approx(one["distinct"] / 216)
    bands = structures.training_bands(frame)
    row = bands[(bands["layer"] == "layers.0") & (bands["step"] == 10) & (bands["measure"] == "entropy")].iloc[0]
    seeds = [run.tree_records["tree_entropy"].sel(step=10).values[:2].mean() for run in runs]
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((np.mean(seeds), min(seeds), max(seeds)))
    with pytest.raises(ValueError, match="by = 'expert' is unknown"):
        structures.training_bands(frame, by="expert")


def test_a_run_without_trees_is_refused():
    run = structured_run(0)
    run.config.adapter = SimpleNamespace()
    with pytest.raises(ValueError, match="has no trees; pass runs of SmoreConfig"):
        structures.over_training([run])


def claims_of(seeds: int = 3, kinds: int = 12, tells: bool = True, before: bool = False, **run) -> pd.Series:
    """Verdicts by claim: `tells` and `before` say whether trees tell the data set after training and before it."""
    pairs = [(structured_run(seed, **run), *recorded(seed, kinds, tells)[1:]) for seed in range(seeds)]
    start = [recorded(seed, kinds, before) for seed in range(seeds)]
    table = structure_claims(structures.over_training([run for run, _, _ in pairs]), structures.by_dataset(pairs),
                             *(structures.dataset_information(group, 20) for group in (pairs, start)), 5 / 6)
    assert set(table["source"]) == {"beyond S'MoRE"} and (table["paper"] == "not measured there").all()
    return table.set_index("claim")["verdict"]


def test_verdicts_follow_the_rules():
    few, narrows, structure, tells, training = claims_of().to_numpy()
    assert few == narrows == tells == training == "reproduced" and structure == "not reproduced"
    few, narrows, structure, tells, training = claims_of(kinds=200, tells=False, entropy=(2.0, 4.0), differ=0.8)
    assert few == narrows == tells == training == "not reproduced" and structure == "reproduced"
    assert claims_of(before=True).iloc[-1] == "not reproduced"
    assert set(claims_of(seeds=2)) == {"not testable at this scale"}


def test_enumeration_reaches_the_papers_numbers_and_the_claims_say_so():
    points = enumerated_outputs(4, 2, layers=(1, 2))
    assert dict(points.set_index(["system", "layers"])["outputs"]) == {
        ("S'MoRE*", 1): 6, ("S'MoRE", 1): 6, ("MoMOR", 1): 6, ("S'MoRE*", 2): 126, ("S'MoRE", 2): 216,
        ("MoMOR", 2): 66}  # fmt: skip
    table = flexibility_table(4, 2, (1, 2, 3))
    assert set(counting_claims(table, points)["verdict"]) == {"reproduced"}
    wrong = counting_claims(table, points.assign(outputs=points["outputs"] + 1))
    assert set(wrong["verdict"]) == {"not reproduced"}
    fewer = counting_claims(table, points.assign(outputs=points["outputs"] - 1)).set_index("source")["verdict"]
    assert fewer["S'MoRE Theorem 3.3"] == "reproduced" and fewer["S'MoRE Theorem 3.4"] == "not reproduced"


def test_the_three_trees_have_the_same_experts_and_one_two_or_three_outputs():
    trees, outputs = figure3_trees(), figure3_outputs()
    uses = [(sorted(parent for parent, _ in tree), sorted(leaf for _, below in tree for leaf, _ in below))
            for tree in trees.values()]  # fmt: skip
    assert uses == [([1, 2], [1, 2, 3, 4])] * 3
    found = {system: len(set(values)) for system, values in outputs.items()}
    assert found == FIGURE3_OUTPUTS
    assert outputs["S'MoRE*"][1] == outputs["S'MoRE*"][2] != outputs["S'MoRE*"][0]
    assert trees_claim(found, FIGURE3_OUTPUTS)["verdict"].item() == "reproduced"
    assert trees_claim({**found, "MoMOR": 2}, FIGURE3_OUTPUTS)["verdict"].item() == "not reproduced"


def smore(position: str = "all", router: str = "top_down", **changes) -> Smore:
    torch.manual_seed(1)
    values = {"num_experts": [4, 3], "fanout": [2, 2], "r": 2, "key_dim": 4, "down_dim": 5}
    config = SmoreConfig(**{**values, "activation_position": position, "router": router, **changes})
    layer = Smore(6, 5, config).double()
    for parameter in layer.parameters():
        parameter.data.normal_(0.0, 0.5)
    return layer


@pytest.mark.parametrize("router", ["top_down", "bottom_up"])
@pytest.mark.parametrize("position", ["all", "child", "child_scored"])
def test_the_tree_is_the_routers_own_and_its_root_the_whole_update(position: str, router: str):
    layer, x = smore(position, router), torch.randn(6, dtype=torch.double)
    tree = residual_tree(layer, x)
    with torch.no_grad():
        delta, routing = layer(x[None])
    assert tree["contribution"][0] == pytest.approx(float(delta.norm())) and tree["share"][0] == 1.0
    for number, choice in enumerate(routing.choices):
        nodes = tree[tree["layer"] == number]
        assert nodes["expert"].tolist() == choice.ids.flatten().tolist()
        np.testing.assert_allclose(nodes["score"], choice.scores.flatten())
    gates = routing.gates[0].numpy()
    for number, start, s in ((0, 0, 4), (1, 4, 3)):
        nodes = tree[tree["layer"] == number]
        paths = np.bincount(nodes["expert"], nodes["path_score"], minlength=s)
        np.testing.assert_allclose(paths, gates[start : start + s], atol=1e-12)


@torch.no_grad()
def one_node(layer: Smore, tree: pd.DataFrame, node: int, x: torch.Tensor) -> torch.Tensor:
    """x_2 of one branch of a two-layer tree by Eq. 3 written out: what the node at the top sends to the root."""
    row, below = tree.loc[node], tree[tree["parent"] == node]

    def expert(pool: int, number: int) -> torch.Tensor:
        hidden = layer.A[pool][number] @ x + layer.A_bias[pool][number]
        return layer.B[pool][number] @ hidden + layer.B_bias[pool][number]

    children = sum(leaf["score"] * torch.tanh(expert(0, int(leaf["expert"]))) for _, leaf in below.iterrows())
    inner = expert(1, int(row["expert"])) + layer.W[1] @ children + layer.W_bias[1]
    return layer.W_proj @ (row["score"] * torch.tanh(inner))


def test_contributions_are_the_norms_of_what_equation_3_loses():
    layer, x = smore(), torch.randn(6, dtype=torch.double)
    tree = residual_tree(layer, x)
    for node in tree.index[tree["layer"] == 1]:
        branch = one_node(layer, tree, node, x)
        assert tree["contribution"][node] == pytest.approx(float(branch.norm()))
        for leaf in tree.index[tree["parent"] == node]:
            silent = tree.assign(score=tree["score"].where(tree.index != leaf, 0.0))
            lost = branch - one_node(layer, silent, node, x)
            assert tree["contribution"][leaf] == pytest.approx(float(lost.norm()))


@pytest.mark.parametrize("position", ["child", "child_scored"])
def test_a_node_without_a_contribution_changes_nothing(position: str):
    layer, x = smore(position, activation="relu"), torch.randn(6, dtype=torch.double)
    for factor in (layer.B[0], layer.B_bias[0]):
        factor.data.zero_()
    tree = residual_tree(layer, x)
    assert (tree.loc[tree["layer"] == 0, "contribution"] == 0.0).all()
    assert (tree.loc[tree["layer"] == 1, "contribution"] > 0.0).all()


@pytest.mark.parametrize("options", [{}, {"gate_arch": "linear"}, {"gate": "noisy_topk"}])
def test_the_similarity_is_the_cosine_that_the_router_ranks_experts_by(options: dict):
    """Where keys have the same length a larger cosine is a larger score, so the chosen ones are the closest."""
    layer, x = smore(**options), torch.randn(6, dtype=torch.double)
    for gate in layer.gates:
        gate.keys.data = torch.nn.functional.normalize(gate.keys.data, dim=-1)
    tree = residual_tree(layer, x)
    for _, siblings in tree[tree["parent"] >= 0].groupby("parent"):
        by_score = siblings.sort_values("score")
        assert by_score["similarity"].is_monotonic_increasing and siblings["similarity"].abs().max() <= 1.0
    known = layer.down(x)
    top = tree[tree["layer"] == 1].iloc[0]
    gate = layer.gates[1]
    query = gate.mlp(known) if len(gate.mlp) else known
    query = query.detach()
    expected = torch.cosine_similarity(query, gate.keys.detach()[int(top["expert"])], dim=0)
    assert top["similarity"] == pytest.approx(float(expected))


def test_only_leaves_of_the_bottom_up_router_are_chosen_by_a_cosine():
    tree = residual_tree(smore(router="bottom_up"), torch.randn(6, dtype=torch.double))
    assert tree.loc[tree["layer"] == 1, "similarity"].isna().all()
    assert tree.loc[tree["layer"] == 0, "similarity"].notna().all()


def test_the_adapter_is_left_as_it_was_and_several_tokens_are_refused():
    layer = smore().float().train()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    residual_tree(layer, torch.randn(6))
    assert layer.training and all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    with pytest.raises(ValueError, match=r"x has shape \(2, 6\); pass one token, \(6,\)"):
        residual_tree(layer, torch.randn(2, 6))


def tree_frame(low: float = 0.2, agree: bool = True, seeds: int = 3) -> pd.DataFrame:
    """Trees of a root, two children and two leaves each; similarity orders siblings as contribution does, or not."""
    rows = []
    for seed in range(seeds):
        for node, (parent, layer) in enumerate([(-1, 2), (0, 1), (0, 1), (1, 0), (1, 0), (2, 0), (2, 0)]):
            share = {2: 1.0, 1: 0.5, 0: low}[layer] + 0.01 * node + 0.001 * seed
            rows.append({"method": "m", "seed": seed, "module": "a", "token": 0, "node": node, "parent": parent,
                         "layer": layer, "similarity": node if agree else -node, "share": share,
                         "contribution": 3 * share})  # fmt: skip
    return pd.DataFrame(rows).assign(similarity=lambda frame: frame["similarity"].where(frame["parent"] >= 0))


def test_contributions_are_judged_by_pool_and_by_pairs_of_siblings():
    assert len(sibling_pairs(tree_frame())) == 3 * 3 and sibling_pairs(tree_frame())["agrees"].all()
    assert contribution_claims(tree_frame())["verdict"].tolist() == ["reproduced"] * 2
    assert contribution_claims(tree_frame(low=-0.05, agree=False))["verdict"].tolist() == ["not reproduced"] * 2
    assert contribution_claims(tree_frame(seeds=2))["verdict"].tolist() == ["not testable at this scale"] * 2


def test_trees_of_many_tokens_are_those_of_each():
    layer, inputs = smore(), torch.randn(9, 6, dtype=torch.double)
    frame = residual_trees([structured_run(4)], [{"a": SimpleNamespace(adapter=layer, inputs=inputs)}], tokens=3)
    assert frame["token"].drop_duplicates().tolist() == [0, 4, 8] and set(frame["seed"]) == {4}
    one = frame[frame["token"] == 4][list(COLUMNS)].reset_index(drop=True)
    pd.testing.assert_frame_equal(one, residual_tree(layer, inputs[4]))


def test_the_balance_loss_is_judged_by_seeds_in_pairs():
    def trained(method: str, last: float) -> pd.DataFrame:
        return structures.over_training([structured_run(seed, method, entropy=(2.0, last)) for seed in range(3)])

    even, uneven = trained("S'MoRE", 5.0), trained("S'MoRE, no balance", 3.0)
    assert balance_claim(pd.concat([even, uneven]))["verdict"].item() == "reproduced"
    other = balance_claim(pd.concat([even, uneven]), method="S'MoRE, no balance", control="S'MoRE")
    assert other["verdict"].item() == "not reproduced"
