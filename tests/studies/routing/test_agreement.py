"""Whether routers agree beyond chance, once their experts are matched."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.evidence.intervals import mean_interval
from moe_analysis.studies.routing import agreement
from tests.studies.fake_routers import MODULES, named_run, one_hot, soft, tokens_of

examples = settings(deadline=None, max_examples=15)


@examples
@given(st.integers(0, 10**6))
def test_the_matching_has_the_largest_sum_of_correlations(seed: int):
    generator = np.random.default_rng(seed)
    first, second = generator.random((30, 4)), generator.random((30, 4))
    own, partner = agreement.match_experts(first, second)
    pairs = np.corrcoef(first.T, second.T)[:4, 4:]
    best = max(sum(pairs[i, j] for i, j in enumerate(order)) for order in permutations(range(4)))
    assert pairs[own, partner].sum() == pytest.approx(best)


@examples
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_routers_that_are_permutations_of_each_other_agree_perfectly(seed: int, experts: int):
    generator = np.random.default_rng(seed)
    gates, tokens = soft(generator, 192, experts), tokens_of()
    found = agreement.router_agreement(gates, gates[:, generator.permutation(experts)], tokens, 10, seed)
    for name in ("correlation", "same_top1", "kappa", "correlation_adjusted", "same_top1_adjusted"):
        assert found[name] == pytest.approx(1.0), name
    assert found["same_top1_p"] == 1 / 11 and found["same_top1_by_chance"] < 0.9


@pytest.fixture(scope="module")
def independent() -> pd.DataFrame:
    """Routers that choose among 12 experts at random and independently, over few tokens."""
    generator, tokens = np.random.default_rng(0), tokens_of(24, lengths=(4, 5))
    pairs = [[soft(generator, len(tokens), 12) for _ in range(2)] for _ in range(30)]
    return pd.DataFrame([agreement.router_agreement(*pair, tokens, 30, seed) for seed, pair in enumerate(pairs)])


def test_independent_routers_agree_by_chance_only(independent):
    for name in ("correlation_adjusted", "same_top1_adjusted", "kappa", "correlation"):
        mean, low, high = mean_interval(independent[name].to_numpy(), 0.999)
        assert low < 0 < high and abs(mean) < 0.05, name
    assert 0.3 < independent["same_top1_p"].mean() < 0.7


def test_the_texts_that_experts_were_matched_on_would_show_agreement_where_there_is_none(independent):
    assert mean_interval(independent["correlation_matched"].to_numpy(), 0.999)[1] > 0.1
    assert (independent["correlation_matched"] > independent["correlation"]).mean() > 0.9
    assert mean_interval((independent["same_top1_matched"] - independent["same_top1"]).to_numpy(), 0.999)[1] > 0


@examples
@given(st.integers(0, 10**6))
def test_a_text_moves_as_a_whole_to_another_and_positions_start_again(seed: int):
    generator = np.random.default_rng(seed)
    frame = tokens_of(7, lengths=(3, 5, 2)).sample(frac=1.0, random_state=seed % 1000)
    text, position = pd.factorize(frame["row"])[0], frame["position"].to_numpy()
    lengths = np.bincount(text)
    for index in agreement.partner_tokens(text, position, 3, int(generator.integers(100))):
        images = {one: set(text[index[text == one]]) for one in range(7)}
        assert all(len(image) == 1 for image in images.values()) and len(set.union(*images.values())) == 7
        np.testing.assert_array_equal(position[index], position % lengths[text[index]])


def test_agreement_that_comes_of_positions_alone_is_chance():
    tokens = tokens_of(40, lengths=(8,))
    generator, gates = np.random.default_rng(0), []
    for _ in range(2):
        noise = generator.random(len(tokens)) < 0.2
        codes = np.where(noise, generator.integers(0, 4, len(tokens)), tokens["position"] % 4)
        gates.append(one_hot(codes, 4))
    found = agreement.router_agreement(*gates, tokens, 50)
    assert found["kappa"] > 0.5 and abs(found["same_top1_adjusted"]) < 0.2 and found["same_top1_p"] > 0.05


def test_routers_of_different_sizes_are_matched_as_far_as_they_go():
    codes, tokens = np.random.default_rng(0).integers(0, 3, 192), tokens_of()
    found = agreement.router_agreement(one_hot(codes, 3), one_hot(codes, 5)[:, ::-1], tokens, 5)
    assert found["same_top1"] == 1.0 and found["correlation"] == pytest.approx(1.0)
    split = np.where(codes == 2, 2 + np.arange(192) % 2, codes)
    found = agreement.router_agreement(one_hot(codes, 3), one_hot(split, 4), tokens, 5)
    assert 0.6 < found["same_top1"] < 0.95


def test_experts_that_are_always_equal_do_not_hide_an_agreement():
    gates, tokens = soft(np.random.default_rng(0), 192, 3), tokens_of()
    doubled = np.repeat(gates / 4, 4, axis=1)[:, np.random.default_rng(1).permutation(12)]
    assert agreement.router_agreement(doubled, gates, tokens, 5)["same_top1"] == 1.0


def test_a_router_that_does_not_tell_tokens_apart_agrees_with_none():
    even, tokens = np.full((192, 4), 0.25), tokens_of()
    found = agreement.router_agreement(even, soft(np.random.default_rng(0), 192, 4), tokens, 5)
    assert np.isnan(found["correlation"]) and np.isnan(found["correlation_adjusted"])
    found = agreement.router_agreement(even, even, tokens, 5)
    assert found["same_top1"] == 1.0 and np.isnan(found["same_top1_adjusted"]) and np.isnan(found["kappa"])


def test_tokens_without_gates_are_left_out():
    gates, tokens = soft(np.random.default_rng(0), 192, 4), tokens_of()
    silent = gates.copy()
    silent[::3] = 0.0
    assert agreement.router_agreement(gates, silent, tokens, 5)["same_top1"] == 1.0


def test_too_few_texts_and_unequal_tokens_are_refused():
    gates = np.ones((18, 2))
    with pytest.raises(ValueError, match="at least 4 texts"):
        agreement.router_agreement(gates, gates, tokens_of(3, lengths=(6,)))
    with pytest.raises(ValueError, match="18 and 17 tokens, and the frame 18"):
        agreement.router_agreement(gates, gates[1:], tokens_of(3, lengths=(6,)))


def test_layers_are_compared_within_a_projection_and_seeds_within_a_module():
    tokens, generator = tokens_of(), np.random.default_rng(0)
    recorded = [(named_run(seed), {module: soft(generator, 192, 4) for module in MODULES}, tokens) for seed in range(3)]
    layers = agreement.between_layers(recorded, 3)
    assert layers[["module", "other"]].drop_duplicates().to_numpy().tolist() == [[MODULES[0], MODULES[2]]]
    assert layers["seed"].tolist() == [0, 1, 2] and set(layers["other_layer"]) == {"layers.1"}
    seeds = agreement.between_seeds(recorded, 3)
    assert len(seeds) == 3 * len(MODULES)
    matrix = agreement.agreement_matrix(seeds, "seed", "other_seed", "kappa")
    chosen = seeds[(seeds["seed"] == 0) & (seeds["other_seed"] == 2)]["kappa"].mean()
    assert matrix.loc[0, 2] == matrix.loc[2, 0] == pytest.approx(chosen) and (np.diag(matrix) == 1).all()
    other = [recorded[0], (named_run(1), recorded[1][1], tokens.iloc[::-1].reset_index(drop=True))]
    with pytest.raises(ValueError, match="seeds 0 and 1 of 'LoRA-MoE' were recorded on different tokens"):
        agreement.between_seeds(other, 3)


@examples
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=6))
def test_the_jackknife_of_pairs_of_added_effects_is_the_interval_of_the_effects(effects: list[float]):
    rows = [(i, j, effects[i] + effects[j]) for i in range(len(effects)) for j in range(i)]
    frame = pd.DataFrame(rows, columns=["seed", "other_seed", "kappa"])
    *found, seeds = agreement.pair_interval(frame, "kappa")
    assert seeds == len(effects)
    assert found == pytest.approx(mean_interval(2 * np.array(effects)), abs=1e-9)


def test_one_pair_of_seeds_has_no_interval():
    frame = pd.DataFrame({"seed": [0], "other_seed": [1], "kappa": [0.5]})
    mean, low, high, seeds = agreement.pair_interval(frame, "kappa")
    assert mean == 0.5 and np.isnan(low) and np.isnan(high) and seeds == 2
