"""Codes of trees against a naive canonical form, statistics against loops, and the record of a run's trees."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations, product
from math import comb, log2
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import moe_analysis as ma
from moe_analysis.adapters import RoutingContext, Smore, SmoreConfig
from moe_analysis.peft_bridge import adapter_modules
from moe_analysis.theory.flexibility import smore_flexibility
from moe_analysis.training.recorders.routing import record_gates
from moe_analysis.training.recorders.store import RecordError
from moe_analysis.training.recorders.tree_recorder import (
    PER_MODULE,
    node_load,
    record_trees,
    routed_codes,
    sibling_codes,
    tree_codes,
    tree_counts,
    tree_entropy,
    tree_statistics,
    trees_of_runs,
)
from moe_analysis.training.trainer import AdapterTrainer

examples = settings(deadline=None, max_examples=20)
pools = st.lists(
    st.integers(1, 5).flatmap(lambda s: st.tuples(st.just(s), st.integers(1, min(s, 3)))), min_size=1, max_size=3
)


def nested(ids: list[np.ndarray], token: int, layer: int | None = None, parent: int = 0):
    """The canonical form of one token's tree, read off recursively: a sorted tuple of (expert, subtree)."""
    layer = len(ids) - 1 if layer is None else layer
    if layer < 0:
        return ()
    f = ids[layer].shape[2]
    return tuple(
        sorted(
            (int(ids[layer][token, parent, child]), nested(ids, token, layer - 1, parent * f + child))
            for child in range(f)
        )
    )


def random_ids(sizes: list[tuple[int, int]], tokens: int, seed: int) -> list[np.ndarray]:
    """Random routings with siblings in random order, lowest layer first: [(tokens, P, f), …]."""
    generator, parents, ids = np.random.default_rng(seed), 1, []
    for s, f in reversed(sizes):
        ids.insert(0, generator.random((tokens, parents, s)).argsort(-1)[..., :f])
        parents *= f
    return ids


def tree_of_code(code: int, num_experts: list[int], fanout: list[int]):
    """The inverse of `tree_codes` for one code, in the form of `nested`."""
    if not num_experts:
        return ()
    *lower, s = num_experts
    below = [1, *tree_counts(num_experts, fanout)][-2]
    subtrees, experts = [], []
    for _ in range(fanout[-1]):
        code, rest = divmod(code, below)
        subtrees.append(tree_of_code(rest, lower, fanout[:-1]))
    for k in range(fanout[-1], 0, -1):  # the largest expert whose rank still fits, then the next
        experts.append(max(i for i in range(s) if comb(i, k) <= code))
        code -= comb(experts[-1], k)
    return tuple(zip(experts[::-1], subtrees[::-1], strict=True))


@examples
@given(pools, st.integers(0, 99))
def test_two_tokens_have_one_code_exactly_when_their_trees_are_the_same_up_to_the_order_of_siblings(sizes, seed):
    ids = random_ids(sizes, 30, seed)
    codes = tree_codes(ids, [s for s, _ in sizes])
    trees = [nested(ids, token) for token in range(30)]
    for first, second in combinations(range(30), 2):
        assert (codes[first] == codes[second]) == (trees[first] == trees[second])


@examples
@given(pools, st.integers(0, 99))
def test_a_code_gives_its_tree_back_and_lies_below_the_papers_count(sizes, seed):
    num_experts, fanout = [s for s, _ in sizes], [f for _, f in sizes]
    ids = random_ids(sizes, 5, seed)
    assert tree_counts(num_experts, fanout)[-1] == smore_flexibility(num_experts, fanout)
    for token, code in enumerate(tree_codes(ids, num_experts)):
        assert 0 <= code < smore_flexibility(num_experts, fanout)
        assert tree_of_code(code, num_experts, fanout) == nested(ids, token)


@pytest.mark.parametrize("s, f", [(4, 2), (3, 2), (4, 1), (3, 3)])
def test_all_routings_of_two_layers_have_exactly_the_codes_below_the_papers_count(s: int, f: int):
    sets = list(combinations(range(s), f))
    trees = [(below, top) for top in sets for below in product(sets, repeat=f)]
    ids = [np.array([below for below, _ in trees]), np.array([[top] for _, top in trees])]
    assert sorted(tree_codes(ids, [s, s])) == list(range(smore_flexibility([s, s], [f, f])))


def test_codes_beyond_64_bits_stay_exact():
    sizes = [(8, 4)] * 3
    ids = random_ids(sizes, 40, 0)
    codes = tree_codes(ids, [8] * 3)
    assert smore_flexibility([8] * 3, [4] * 3) > 2**63 and codes.dtype == object and max(codes) > 2**64
    assert [tree_of_code(code, [8] * 3, [4] * 3) for code in codes] == [nested(ids, token) for token in range(40)]
    assert tree_statistics(codes, [8] * 3, [4] * 3)["distinct_trees"] == len(set(codes.tolist()))


def test_repeated_siblings_and_trees_of_one_layer_are_refused():
    with pytest.raises(ValueError, match=r"ids\[0\] has siblings that are the same expert"):
        tree_codes([np.array([[[1, 1]]])], [4])
    with pytest.raises(ValueError, match="num_experts has one layer, so there are no subtrees"):
        sibling_codes(np.array([0]), [4], [2])


@examples
@given(pools.filter(lambda sizes: len(sizes) > 1), st.integers(0, 99))
def test_siblings_differ_when_the_roots_subtrees_are_not_all_the_same(sizes, seed):
    ids = random_ids(sizes, 25, seed)
    num_experts, fanout = [s for s, _ in sizes], [f for _, f in sizes]
    naive = [len({below for _, below in nested(ids, token)}) > 1 for token in range(25)]
    found = tree_statistics(tree_codes(ids, num_experts), num_experts, fanout)
    assert found["differing_siblings"] == pytest.approx(np.mean(naive))


@examples
@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
def test_the_entropy_is_that_of_the_shares(codes):
    shares = [count / len(codes) for count in Counter(codes).values()]
    assert tree_entropy(np.array(codes)) == pytest.approx(-sum(p * log2(p) for p in shares), abs=1e-12)


def test_no_tokens_have_no_entropy_and_one_layer_no_siblings():
    found = tree_statistics(np.zeros(0, int), [4, 4], [2, 2])
    assert found["tokens"] == found["distinct_trees"] == 0 and np.isnan(found["tree_entropy"])
    assert np.isnan(tree_statistics(np.array([1, 2]), [4], [2])["differing_siblings"])


def layer(**changes) -> Smore:
    torch.manual_seed(0)
    values = {"num_experts": [4, 3], "fanout": [2, 2], "r": 2, "key_dim": 4, "down_dim": 5}
    return Smore(6, 5, SmoreConfig(**{**values, **changes}))


@pytest.mark.parametrize("router", ["top_down", "bottom_up"])
def test_padding_has_no_tree_and_a_sample_is_evenly_spaced(router: str):
    adapter, mask = layer(router=router), torch.rand(3, 20) > 0.4
    with torch.no_grad():
        _, routing = adapter(torch.randn(3, 20, 6), RoutingContext(token_mask=mask))
    codes, ids = routed_codes(routing, [4, 3], None)
    real = mask.flatten().nonzero()[:, 0].numpy()
    kept, _ = routed_codes(routing, [4, 3], mask)
    np.testing.assert_array_equal(kept, codes[real])
    few, chosen = routed_codes(routing, [4, 3], mask, most=7)
    np.testing.assert_array_equal(few, kept[np.linspace(0, len(kept) - 1, 7).round().astype(int)])
    assert [part.shape for part in chosen] == [(7, 2, 2), (7, 1, 2)] and len(ids[0]) == 60


def test_the_load_counts_the_nodes_of_every_layer():
    ids = random_ids([(4, 2), (3, 2)], 50, 0)
    load = node_load(ids, [4, 3])
    naive = [float((part == expert).mean()) for part, s in zip(ids, (4, 3)) for expert in range(s)]
    np.testing.assert_allclose(load, naive)
    assert load[:4].sum() == pytest.approx(1.0) and load[4:].sum() == pytest.approx(1.0)


@pytest.fixture(scope="module")
def recording(backbone: str, suite: str):
    """A function that makes a configuration of seven steps with the trees recorded at every second one."""

    def make(**changes) -> ma.TrainConfig:
        adapter = ma.SmoreConfig(
            num_experts=[4, 3], fanout=[2, 2], r=2, key_dim=4, down_dim=6, target_modules=["up_proj", "down_proj"]
        )
        values = {
            "backbone": backbone,
            "suite": suite,
            "adapter": adapter,
            "steps": 7,
            "lr": 0.05,
            "batch_size": 8,
            "eval_rows": 2,
            "warmup_steps": 0,
            "record_trees_every": 2,
        }
        return ma.TrainConfig(**{**values, **changes})

    return make


@pytest.fixture(scope="module")
def train_once(recording, tmp_path_factory: pytest.TempPathFactory):
    """A function: fixtures of a module come before those that set threads and seeds for a test."""
    return cache(lambda: ma.train(recording(), tmp_path_factory.mktemp("trees")))


@pytest.fixture
def run(train_once) -> ma.Run:
    return train_once()


def test_a_run_holds_its_trees_beside_its_gates(run):
    records = run.tree_records
    assert set(records.data_vars) == {*PER_MODULE, "node_load"}
    assert all(records[kind].dims == ("step", "module") for kind in PER_MODULE)
    assert records["step"].values.tolist() == [0, 2, 4, 6]
    assert records["module"].values.tolist() == run.records["module"].values.tolist()
    assert records["expert"].values.tolist() == ["0.0", "0.1", "0.2", "0.3", "1.0", "1.1", "1.2"]
    distinct, tokens = records["distinct_trees"].values, records["tokens"].values
    assert (distinct >= 1).all() and (distinct <= np.minimum(tokens, smore_flexibility([4, 3], [2, 2]))).all()
    assert (records["tree_entropy"].values <= np.log2(distinct) + 1e-6).all()
    np.testing.assert_allclose(records["node_load"].values.sum(-1), 2.0, rtol=1e-6)


def test_the_load_of_nodes_agrees_with_the_recorders_load_of_gates_where_every_layer_is_one_node(recording, out: Path):
    """With fanout (1, 1) a layer has one node, so that a token's gates are not zero exactly at its nodes' experts."""
    adapter = ma.SmoreConfig(num_experts=[4, 3], fanout=[1, 1], r=2, key_dim=4, down_dim=6, target_modules=["up_proj"])
    run = ma.train(recording(adapter=adapter, steps=3, record_trees_every=1), out)
    np.testing.assert_allclose(run.tree_records["node_load"], run.records["gate_load"], rtol=1e-6)


def test_recording_trees_changes_no_number_of_the_run(run, recording, out: Path):
    plain = ma.train(recording(record_trees_every=0), out)
    assert plain.history.equals(run.history) and plain.evaluation.equals(run.evaluation)
    with pytest.raises(RecordError, match="record_trees_every >= 1"):
        plain.tree_records  # noqa: B018


def test_a_run_that_dies_between_checkpoints_resumes_to_the_same_record(run, recording, out: Path, monkeypatch):
    original, calls = AdapterTrainer.compute_loss, []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AdapterTrainer, "compute_loss", dies)
    with pytest.raises(KeyboardInterrupt):
        ma.train(recording(save_every=2), out)
    monkeypatch.setattr(AdapterTrainer, "compute_loss", original)
    resumed = ma.train(recording(save_every=2), out).tree_records
    for name in run.tree_records.data_vars:
        np.testing.assert_array_equal(run.tree_records[name].values, resumed[name].values)


def test_every_real_token_of_the_evaluation_has_a_tree_in_the_order_of_its_gates(run):
    model, frame = run.model(), ma.load_suite(run.config.suite, split="test")
    codes, tokens = record_trees(model, run.tokenizer, frame)
    gates, again = record_gates(model, run.tokenizer, frame)
    assert tokens.equals(again) and list(codes) == list(gates) == list(adapter_modules(model))
    for module, found in codes.items():
        assert len(found) == len(tokens)
        for code, weights in zip(found, gates[module]):
            tree = tree_of_code(code, [4, 3], [2, 2])
            assert {expert for expert, _ in tree} == set(np.flatnonzero(weights[4:]))
            assert {expert for _, below in tree for expert, _ in below} == set(np.flatnonzero(weights[:4]))


def test_the_untrained_model_is_the_one_that_training_started_from(run, recording, out: Path):
    frame = ma.load_suite(run.config.suite, split="test")
    still = ma.train(recording(steps=1, lr=1e-30), out)
    ((_, before, _),) = trees_of_runs([run], frame, trained=False)
    ((_, unmoved, _),) = trees_of_runs([still], frame)
    ((_, after, _),) = trees_of_runs([run], frame)
    assert all((before[module] == unmoved[module]).all() for module in before)
    assert any((before[module] != after[module]).any() for module in before)


def test_adapters_without_trees_are_refused(recording, run, out: Path):
    experts = ma.MoeLoraConfig(num_experts=4, r=2, target_modules=["q_proj"])
    with pytest.raises(ValueError, match="record_trees_every = 2 needs tokens routed through trees, which MoeLora"):
        ma.train(recording(adapter=experts), out)
    with pytest.raises(ValueError, match="record_trees_every = -1 must not be negative"):
        recording(record_trees_every=-1).check()


def test_smore_and_its_control_differ_in_the_balance_loss_alone():
    from moe_analysis.presets import preset, structure_methods

    first, second = (preset("quick").sized("structures").config(name, seed=1).to_dict() for name in structure_methods())
    assert {key for key in first if first[key] != second[key]} == {"adapter", "name"}
    assert {key for key, value in first["adapter"].items() if value != second["adapter"][key]} == {"balance_coef"}
    assert second["adapter"]["balance_coef"] == 0.0 and first["record_trees_every"] == 2
