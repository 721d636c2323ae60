"""What gates tell of a text, how they load experts and whether routers agree, against counting by hand and chance."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from math import log2
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.adapters import (
    HydraLora,
    HydraLoraConfig,
    MoeLora,
    MoeLoraConfig,
    Momor,
    MomorConfig,
    Sira,
    SiraConfig,
    Smore,
    SmoreConfig,
    TRex,
    TRexConfig,
)
from moe_analysis.analysis import expert_load, router_agreement, specialisation
from moe_analysis.analysis.anatomy_claims import anatomy_claims, semantic_claims
from moe_analysis.analysis.intervals import mean_interval

examples = settings(deadline=None, max_examples=15)
MODULES = ("layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj", "layers.1.self_attn.q_proj")


def named_run(seed: int = 0, method: str = "LoRA-MoE", num_experts: int | list[int] = 4) -> SimpleNamespace:
    adapter = SimpleNamespace(num_experts=num_experts)
    return SimpleNamespace(config=SimpleNamespace(name=method, seed=seed, system="moelora", adapter=adapter))


def tokens_of(texts: int = 24, lengths: tuple[int, ...] = (6, 8, 10), datasets: str = "abc") -> pd.DataFrame:
    """Tokens of texts whose lengths and data sets take turns; as recorded, the shortest texts come first."""
    rows = sorted(range(texts), key=lambda row: lengths[row % len(lengths)])
    frames = [pd.DataFrame({"row": row, "position": np.arange(lengths[row % len(lengths)]),
                            "dataset": datasets[row // 2 % len(datasets)]}) for row in rows]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def one_hot(codes: np.ndarray, experts: int) -> np.ndarray:
    return np.eye(experts)[codes]


def soft(generator: np.random.Generator, tokens: int, experts: int) -> np.ndarray:
    return generator.dirichlet(np.full(experts, 0.5), tokens)


# what gates tell ------------------------------------------------------------------------------------------------------


@examples
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_information_of_hard_gates_is_that_of_counting(seed: int, experts: int, labels: int):
    generator = np.random.default_rng(seed)
    text = np.sort(np.append(np.arange(6), generator.integers(0, 6, 20)))
    names, codes = generator.integers(0, labels, 6), generator.integers(0, experts, len(text))
    pairs = Counter(zip(names[text].tolist(), codes.tolist()))

    def entropy(counts: Counter) -> float:
        return -sum(count / len(text) * log2(count / len(text)) for count in counts.values())

    table = specialisation.text_table(one_hot(codes, experts)[:, None], text, "gates", "token")
    found, label = specialisation.information(table, names[None])
    expected = entropy(Counter(names[text].tolist())) + entropy(Counter(codes.tolist())) - entropy(pairs)
    assert found.item() == pytest.approx(expected, abs=1e-9)
    assert label.item() == pytest.approx(entropy(Counter(names[text].tolist())), abs=1e-9)


@examples
@given(st.integers(0, 10**6))
def test_information_of_soft_gates_is_the_mean_divergence_from_all_gates(seed: int):
    """I = Σ_d p(d) KL(gates of d ‖ all gates), a formula that the code does not use."""
    generator = np.random.default_rng(seed)
    tokens, gates = tokens_of(), soft(generator, 192, 5)
    table = specialisation.text_table(gates[:, None], tokens["row"].to_numpy(), "gates", "token")
    names = tokens.drop_duplicates("row").sort_values("row")["dataset"]
    expected = sum(len(rows) / len(gates) * (gates[rows].mean(0) @ np.log2(gates[rows].mean(0) / gates.mean(0)))
                   for rows in tokens.groupby("dataset").indices.values())  # fmt: skip
    found, _ = specialisation.information(table, pd.factorize(names)[0][None])
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_many_labellings_in_blocks_are_each_one_alone(monkeypatch):
    generator = np.random.default_rng(0)
    table, codes = generator.random((24, 3, 4)), generator.integers(0, 3, (7, 24))
    whole = specialisation.information(table, codes)
    monkeypatch.setattr(specialisation, "BLOCK_VALUES", 1)
    for found, alone in zip(whole, specialisation.information(table, codes)):
        np.testing.assert_allclose(found, alone, atol=1e-12)


def test_an_expert_for_each_data_set_tells_all_of_it_and_random_gates_no_more_than_chance():
    tokens = tokens_of()
    own = one_hot(pd.factorize(tokens["dataset"])[0], 4)
    frame = specialisation.specialisation([(named_run(), {MODULES[0]: own}, tokens)], permutations=50)
    assert set(frame["view"]) == {"gates", "top1"} and (frame["p"] == 1 / 51).all() and (frame["run_p"] == 1 / 51).all()
    assert frame["information"].to_numpy() == pytest.approx(frame["label_entropy"].to_numpy())
    assert frame["normalised"].to_numpy() == pytest.approx(1 - (frame["by_chance"] / frame["label_entropy"]).to_numpy())
    assert frame["most"].to_numpy() == pytest.approx(log2(3), rel=0.01)
    generator = np.random.default_rng(1)
    silent = specialisation.specialisation([(named_run(seed), {MODULES[0]: soft(generator, 192, 4)}, tokens)
                                            for seed in range(8)], permutations=50)  # fmt: skip
    assert abs(silent["excess"]).mean() < 0.02 and silent["p"].mean() > 0.25 and (silent["information"] > 0).all()


def test_shuffling_moves_whole_texts():
    """Each text has an expert of its own: tokens shuffled one by one would seem informative, texts do not."""
    tokens = tokens_of(12, lengths=(8,))
    gates = one_hot(tokens["row"].to_numpy(), 12)
    frame = specialisation.specialisation([(named_run(), {MODULES[0]: gates}, tokens)], permutations=30)
    assert frame["excess"].to_numpy() == pytest.approx(0.0, abs=1e-9) and (frame["p"] == 1.0).all()


@examples
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_labels_are_shuffled_within_their_stratum_only(seed: int, kinds: int):
    generator = np.random.default_rng(seed)
    codes, strata = generator.integers(0, 5, 20), generator.integers(0, kinds, 20)
    for row in specialisation.shuffles(codes, strata, 5, seed):
        for stratum in range(kinds):
            assert sorted(row[strata == stratum]) == sorted(codes[strata == stratum])


def test_what_a_data_set_explains_is_not_counted_again_within_it():
    tokens = tokens_of(36, lengths=(8,))
    of_row = tokens.drop_duplicates("row").set_index("row")["dataset"].sort_index()
    cluster = 2 * pd.factorize(of_row)[0] + np.random.default_rng(0).integers(0, 2, 36)  # two in every data set
    by_dataset = one_hot(pd.factorize(of_row)[0][tokens["row"]], 6)
    by_cluster = one_hot(cluster[tokens["row"]], 6)
    recorded = [(named_run(), {MODULES[0]: by_dataset, MODULES[2]: by_cluster}, tokens)]
    free = specialisation.specialisation(recorded, {"cluster": cluster}, permutations=40)
    given_it = specialisation.specialisation(recorded, {"cluster": cluster}, within=of_row, permutations=40)
    assert (free["excess"] > 1.0).all()
    coarse, fine = (given_it[given_it["module"] == module] for module in (MODULES[0], MODULES[2]))
    assert coarse["information"].to_numpy() == pytest.approx(0.0, abs=1e-9) and (coarse["p"] == 1.0).all()
    assert fine["information"].to_numpy() == pytest.approx(fine["label_entropy"].to_numpy())
    assert (fine["p"] < 0.03).all()


def test_texts_weigh_the_same_when_they_are_the_unit():
    tokens = pd.DataFrame({"row": [0] * 9 + [1], "position": [*range(9), 0], "dataset": ["a"] * 9 + ["b"]})
    gates = one_hot(np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1]), 2)
    frame = specialisation.specialisation([(named_run(), {MODULES[0]: gates}, tokens)], unit="text", permutations=2)
    top, mean = frame.set_index("view").loc[["top1", "gates"], "information"]
    assert top == pytest.approx(1.0) and frame["label_entropy"].to_numpy() == pytest.approx(1.0)
    # the experts' shares are 1/3 and 2/3 over all, as in the first text; in the second there is nothing to know
    assert mean == pytest.approx((log2(3) - 2 / 3) / 2)


def test_routers_of_different_sizes_are_measured_as_each_alone():
    generator, tokens = np.random.default_rng(3), tokens_of()
    gates = {MODULES[0]: soft(generator, 192, 3), MODULES[2]: soft(generator, 192, 6)}
    together = specialisation.specialisation([(named_run(), gates, tokens)], permutations=20)
    for module, values in gates.items():
        alone = specialisation.specialisation([(named_run(), {module: values}, tokens)], permutations=20)
        columns = ["information", "by_chance", "p", "most"]
        np.testing.assert_allclose(together.loc[together["module"] == module, columns], alone[columns])


@pytest.mark.parametrize("options, message", [
    ({"unit": "word"}, "unit = 'word'"),
    ({"permutations": 0}, "permutations = 0"),
    ({"labels": {"cluster": [0, 1]}}, r"labels\['cluster'\] has shape \(2,\) but row 23 was recorded"),
    ({"within": [0]}, r"within has shape \(1,\)"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused(options, message):
    recorded = [(named_run(), {MODULES[0]: np.ones((192, 2))}, tokens_of())]
    with pytest.raises(ValueError, match=message):
        specialisation.specialisation(recorded, **options)


def test_gates_of_a_run_that_diverged_are_refused():
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        specialisation.split_routers(named_run(), {MODULES[0]: np.array([[np.nan, 1.0]])})


def test_pools_are_routers_of_their_own_and_signs_and_empty_rows_are_kept_apart():
    run = named_run(num_experts=[2, 1])
    routers = specialisation.split_routers(run, {MODULES[0]: np.array([[-1.0, 3.0, 2.0], [0.0, 0.0, 5.0]])})
    assert list(routers) == [f"{MODULES[0]} pool 0", f"{MODULES[0]} pool 1"]
    assert routers[f"{MODULES[0]} pool 0"].tolist() == [[0.25, 0.75], [0.0, 0.0]]
    assert routers[f"{MODULES[0]} pool 1"].tolist() == [[1.0], [1.0]]


SYSTEMS = [
    (MoeLora, MoeLoraConfig(num_experts=4, r=2), [4]), (Sira, SiraConfig(num_experts=4, top_k=3, r=2), [4]),
    (MoeLora, MoeLoraConfig(num_experts=4, r=2, gate="switch", top_k=2), [4]),
    (HydraLora, HydraLoraConfig(num_experts=3, r=2), [3]), (Momor, MomorConfig(num_experts=[4, 2], r=2), [4, 2]),
    (Smore, SmoreConfig(num_experts=[4, 3], fanout=[2, 2], r=2, key_dim=4, down_dim=4), [4, 3]),
    (TRex, TRexConfig(num_down=2, num_up=3, intuition=False), [6]),
]  # fmt: skip


@pytest.mark.parametrize("kind, config, sizes", SYSTEMS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_gates_of_every_system_are_read_as_distributions(kind, config, sizes):
    torch.manual_seed(0)
    with torch.no_grad():
        gates = kind(5, 4, config).eval()(torch.randn(192, 5))[1].gates.flatten(1).numpy()
    run = SimpleNamespace(config=SimpleNamespace(name="m", seed=0, system="m", adapter=config))
    routers = specialisation.split_routers(run, {MODULES[0]: gates})
    assert [part.shape for part in routers.values()] == [(192, size) for size in sizes]
    assert all(part.sum(1) == pytest.approx(1.0) for part in routers.values())
    found = expert_load.load_summary([(run, {MODULES[0]: gates}, tokens_of())])
    assert found["experts"].tolist() == sizes and (found["mass_balance"] >= found["token_entropy"] - 1e-9).all()


def test_the_lift_of_an_expert_is_its_share_of_a_label_over_its_share_of_all():
    tokens = pd.DataFrame({"row": [0, 0, 1, 1], "position": [0, 1, 0, 1], "dataset": ["a", "a", "b", "b"]})
    gates = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    frame = specialisation.expert_shares([(named_run(), {MODULES[0]: gates}, tokens)]).set_index(["label", "expert"])
    assert frame.loc[("a", 0), "share"] == 0.75 and frame.loc[("b", 1), "share"] == 0.5
    assert frame.loc[("a", 0), "load"] == frame.loc[("b", 0), "load"] == 0.625
    assert frame.loc[("a", 1), "log_lift"] == pytest.approx(log2(0.25 / 0.375))


# how evenly experts are loaded ----------------------------------------------------------------------------------------


def summary_of(gates: np.ndarray, **options) -> pd.Series:
    tokens = pd.DataFrame({"row": np.arange(len(gates)), "position": 0, "dataset": "a"})
    return expert_load.load_summary([(named_run(), {MODULES[0]: gates}, tokens)], **options).iloc[0]


@examples
@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(0.05, 5.0))
def test_the_mass_is_at_least_as_even_as_a_tokens_gates(seed: int, experts: int, concentration: float):
    gates = np.random.default_rng(seed).dirichlet(np.full(experts, concentration), 30)
    found = summary_of(gates)
    assert found["mass_balance"] >= found["token_entropy"] - 1e-9
    assert found["mass_peak"] == pytest.approx(gates.mean(0).max() * experts)


def test_even_gates_are_no_even_load_and_uneven_gates_can_be():
    by_a_hair = np.full((40, 4), 0.25) + 1e-4 * np.array([1.0, 0.0, 0.0, -1.0])
    found = summary_of(by_a_hair)
    assert found["token_entropy"] > 0.999 and found["top1_balance"] == 0.0 and found["top1_peak"] == 4.0
    found = summary_of(one_hot(np.arange(40) % 4, 4))
    assert found["token_entropy"] == 0.0 and found["top1_balance"] == found["mass_balance"] == pytest.approx(1.0)
    assert found["top1_variation"] == pytest.approx(0.0, abs=1e-12)


def test_dead_experts_are_those_never_on_top_or_starved():
    gates = np.tile([0.6, 0.37, 0.03, 0.0], (10, 1))
    gates[0] = [0.2, 0.4, 0.4, 0.0]
    found = summary_of(gates)  # ties count for both
    assert (found["never_top"], found["starved"], found["dead"]) == (0.25, 0.25, 0.25)
    found = summary_of(gates, least=0.5)
    assert (found["never_top"], found["starved"], found["dead"]) == (0.25, 0.5, 0.5)
    loads = expert_load.expert_loads([(named_run(), {MODULES[0]: gates}, tokens_of(1, lengths=(10,)))], top_k=2)
    assert loads["used"].tolist() == [0.9, 1.0, 0.1, 0.0] and loads["rank"].tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="top_k = 0 must be at least 1"):
        expert_load.expert_loads([], top_k=0)


def test_ties_share_the_top_and_equal_experts_count_as_one():
    gates = np.full((10, 4), 0.25)
    found = summary_of(gates)
    assert found["top1_balance"] == pytest.approx(1.0) and found["distinct"] == 0.25
    gates = np.repeat(soft(np.random.default_rng(0), 30, 3) / 2, 2, axis=1)
    assert summary_of(gates)["distinct"] == 0.5
    np.testing.assert_allclose(expert_load.distinct_experts(gates), 2 * gates[:, ::2])


def test_a_single_expert_has_no_balance():
    found = summary_of(np.ones((10, 1)))
    assert np.isnan(found["token_entropy"]) and np.isnan(found["top1_balance"]) and found["dead"] == 0.0


# whether routers agree ------------------------------------------------------------------------------------------------


@examples
@given(st.integers(0, 10**6))
def test_the_matching_has_the_largest_sum_of_correlations(seed: int):
    generator = np.random.default_rng(seed)
    first, second = generator.random((30, 4)), generator.random((30, 4))
    own, partner = router_agreement.match_experts(first, second)
    pairs = np.corrcoef(first.T, second.T)[:4, 4:]
    best = max(sum(pairs[i, j] for i, j in enumerate(order)) for order in permutations(range(4)))
    assert pairs[own, partner].sum() == pytest.approx(best)


@examples
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_routers_that_are_permutations_of_each_other_agree_perfectly(seed: int, experts: int):
    generator = np.random.default_rng(seed)
    gates, tokens = soft(generator, 192, experts), tokens_of()
    found = router_agreement.router_agreement(gates, gates[:, generator.permutation(experts)], tokens, 10, seed)
    for name in ("correlation", "same_top1", "kappa", "correlation_adjusted", "same_top1_adjusted"):
        assert found[name] == pytest.approx(1.0), name
    assert found["same_top1_p"] == 1 / 11 and found["same_top1_by_chance"] < 0.9


@pytest.fixture(scope="module")
def independent() -> pd.DataFrame:
    """Routers that choose among 12 experts at random and independently, over few tokens."""
    generator, tokens = np.random.default_rng(0), tokens_of(24, lengths=(4, 5))
    pairs = [[soft(generator, len(tokens), 12) for _ in range(2)] for _ in range(30)]
    return pd.DataFrame([router_agreement.router_agreement(*pair, tokens, 30, seed) for seed, pair in enumerate(pairs)])


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
    for index in router_agreement.partner_tokens(text, position, 3, int(generator.integers(100))):
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
    found = router_agreement.router_agreement(*gates, tokens, 50)
    assert found["kappa"] > 0.5 and abs(found["same_top1_adjusted"]) < 0.2 and found["same_top1_p"] > 0.05


def test_routers_of_different_sizes_are_matched_as_far_as_they_go():
    codes, tokens = np.random.default_rng(0).integers(0, 3, 192), tokens_of()
    found = router_agreement.router_agreement(one_hot(codes, 3), one_hot(codes, 5)[:, ::-1], tokens, 5)
    assert found["same_top1"] == 1.0 and found["correlation"] == pytest.approx(1.0)
    split = np.where(codes == 2, 2 + np.arange(192) % 2, codes)
    found = router_agreement.router_agreement(one_hot(codes, 3), one_hot(split, 4), tokens, 5)
    assert 0.6 < found["same_top1"] < 0.95


def test_experts_that_are_always_equal_do_not_hide_an_agreement():
    gates, tokens = soft(np.random.default_rng(0), 192, 3), tokens_of()
    doubled = np.repeat(gates / 4, 4, axis=1)[:, np.random.default_rng(1).permutation(12)]
    assert router_agreement.router_agreement(doubled, gates, tokens, 5)["same_top1"] == 1.0


def test_a_router_that_does_not_tell_tokens_apart_agrees_with_none():
    even, tokens = np.full((192, 4), 0.25), tokens_of()
    found = router_agreement.router_agreement(even, soft(np.random.default_rng(0), 192, 4), tokens, 5)
    assert np.isnan(found["correlation"]) and np.isnan(found["correlation_adjusted"])
    found = router_agreement.router_agreement(even, even, tokens, 5)
    assert found["same_top1"] == 1.0 and np.isnan(found["same_top1_adjusted"]) and np.isnan(found["kappa"])


def test_tokens_without_gates_are_left_out():
    gates, tokens = soft(np.random.default_rng(0), 192, 4), tokens_of()
    silent = gates.copy()
    silent[::3] = 0.0
    assert router_agreement.router_agreement(gates, silent, tokens, 5)["same_top1"] == 1.0


def test_too_few_texts_and_unequal_tokens_are_refused():
    gates = np.ones((18, 2))
    with pytest.raises(ValueError, match="at least 4 texts"):
        router_agreement.router_agreement(gates, gates, tokens_of(3, lengths=(6,)))
    with pytest.raises(ValueError, match="18 and 17 tokens and the frame 18"):
        router_agreement.router_agreement(gates, gates[1:], tokens_of(3, lengths=(6,)))


def test_layers_are_compared_within_a_projection_and_seeds_within_a_module():
    tokens, generator = tokens_of(), np.random.default_rng(0)
    recorded = [(named_run(seed), {module: soft(generator, 192, 4) for module in MODULES}, tokens) for seed in range(3)]
    layers = router_agreement.between_layers(recorded, 3)
    assert layers[["module", "other"]].drop_duplicates().to_numpy().tolist() == [[MODULES[0], MODULES[2]]]
    assert layers["seed"].tolist() == [0, 1, 2] and set(layers["other_layer"]) == {"layers.1"}
    seeds = router_agreement.between_seeds(recorded, 3)
    assert len(seeds) == 3 * len(MODULES)
    matrix = router_agreement.agreement_matrix(seeds, "seed", "other_seed", "kappa")
    chosen = seeds[(seeds["seed"] == 0) & (seeds["other_seed"] == 2)]["kappa"].mean()
    assert matrix.loc[0, 2] == matrix.loc[2, 0] == pytest.approx(chosen) and (np.diag(matrix) == 1).all()
    other = [recorded[0], (named_run(1), recorded[1][1], tokens.iloc[::-1].reset_index(drop=True))]
    with pytest.raises(ValueError, match="seeds 0 and 1 of 'LoRA-MoE' were recorded on different tokens"):
        router_agreement.between_seeds(other, 3)


@examples
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=6))
def test_the_jackknife_of_pairs_of_added_effects_is_the_interval_of_the_effects(effects: list[float]):
    rows = [(i, j, effects[i] + effects[j]) for i in range(len(effects)) for j in range(i)]
    frame = pd.DataFrame(rows, columns=["seed", "other_seed", "kappa"])
    *found, seeds = router_agreement.pair_interval(frame, "kappa")
    assert seeds == len(effects)
    assert found == pytest.approx(mean_interval(2 * np.array(effects)), abs=1e-9)


def test_one_pair_of_seeds_has_no_interval():
    frame = pd.DataFrame({"seed": [0], "other_seed": [1], "kappa": [0.5]})
    mean, low, high, seeds = router_agreement.pair_interval(frame, "kappa")
    assert mean == 0.5 and np.isnan(low) and np.isnan(high) and seeds == 2


# verdicts -------------------------------------------------------------------------------------------------------------


def frames_of(seeds: int = 3, tells: bool = True, same: bool = True, skewed: bool = False) -> tuple:
    """Frames of runs whose experts tell the data set or not, are the same in all seeds or not, evenly loaded or not."""
    tokens, generator = tokens_of(), np.random.default_rng(0)
    shared = generator.integers(0, 4, 192)
    recorded, before = [], []
    for seed in range(seeds):
        random = shared if same else generator.integers(0, 4, 192)
        codes = pd.factorize(tokens["dataset"])[0] if tells else random
        codes = np.where(generator.random(192) < 0.9, 0, codes) if skewed else codes
        gates = one_hot(codes, 4)[:, generator.permutation(4)]
        recorded.append((named_run(seed), {MODULES[0]: gates, MODULES[2]: gates}, tokens))
        before.append((named_run(seed), {module: soft(generator, 192, 4) for module in MODULES}, tokens))
    told = [specialisation.specialisation(each, {"dataset": list("aabbcc" * 4), "cluster": list("xy" * 12)},
                                          permutations=20) for each in (recorded, before)]  # fmt: skip
    agreements = [function(each, 10) for function, each in (
        (router_agreement.between_seeds, recorded), (router_agreement.between_layers, recorded),
        (router_agreement.between_seeds, before))]  # fmt: skip
    return *told, expert_load.load_summary(recorded), *agreements


def verdicts(**options) -> dict[str, str]:
    table = anatomy_claims(*frames_of(**options))
    assert set(table["source"]) == {"beyond the papers"} and list(table.columns)[-1] == "verdict"
    return dict(table.set_index("claim")["verdict"])


def test_verdicts_follow_the_rules():
    found = verdicts()
    by_task, by_cluster = "experts specialise by data set", "experts specialise by semantic cluster"
    assert found[by_task] == found["training makes experts specialise by data set"] == "reproduced"
    assert found[by_cluster] == "not reproduced" and found["few experts are dead"] == "not reproduced"
    assert found["the gates' mass is spread evenly over experts"] == "reproduced"
    same = "routers of different seeds find the same experts"
    assert found[same] == found["routers of different layers agree beyond chance"] == "reproduced"
    found = verdicts(tells=False, same=False)
    assert found[by_task] == found[same] == "not reproduced"
    assert found["few experts are dead"] == found["every expert has gates of its own"] == "reproduced"
    skewed = verdicts(skewed=True)
    assert skewed["the gates' mass is spread evenly over experts"] == "not reproduced"
    assert skewed["the largest gates are spread evenly over experts"] == "not reproduced"
    assert set(verdicts(seeds=2).values()) == {"not testable at this scale"}


def test_intuition_is_judged_with_and_without_the_priors_share():
    rows = [{"method": method, "seed": seed, "label": "cluster", "view": view, "label_entropy": 5.0,
             "excess": level + 0.01 * generator}
            for method, level in (("T-REX", 0.5), ("mix-and-match", 0.1), ("T-REX, router alone", 0.05))
            for view in ("gates", "top1") for seed, generator in enumerate((0.0, 1.0, -1.0))]  # fmt: skip
    table = semantic_claims(pd.DataFrame(rows))
    assert table["verdict"].tolist() == ["reproduced", "reproduced", "not reproduced"]
    small = pd.DataFrame(rows).assign(excess=lambda frame: frame["excess"] / 2)  # above 0 in every seed, and of no use
    assert set(semantic_claims(small)["verdict"]) == {"not reproduced"}
    with pytest.raises(ValueError, match="label = 'cluster' has no row; the frame has dataset"):
        semantic_claims(pd.DataFrame(rows).assign(label="dataset"))
