"""Numbers about used structures against counting by hand and by chance."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import log2
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.studies.trees import structures
from tests.studies.fake_structures import MODULES, recorded, structured_run

examples = settings(deadline=None, max_examples=15)


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
    with pytest.raises(ValueError, match="tokens = 7 cannot be drawn from 6 counted ones; use 1 to 6"):
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
        assert row["normalized_entropy"] == pytest.approx(row["entropy"] / log2(min(216, len(chosen))))
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
    assert one["normalized_entropy"] == pytest.approx(one["entropy"] / log2(100))
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
