"""What gates tell of a text, against counting by hand and shuffled labels."""

from __future__ import annotations

from collections import Counter
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
from moe_analysis.studies.routing import load, specialization
from tests.studies.fake_routers import MODULES, named_run, one_hot, soft, tokens_of

examples = settings(deadline=None, max_examples=15)


@examples
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 4))
def test_information_of_hard_gates_is_that_of_counting(seed: int, experts: int, labels: int):
    generator = np.random.default_rng(seed)
    text = np.sort(np.append(np.arange(6), generator.integers(0, 6, 20)))
    names, codes = generator.integers(0, labels, 6), generator.integers(0, experts, len(text))
    pairs = Counter(zip(names[text].tolist(), codes.tolist()))

    def entropy(counts: Counter) -> float:
        return -sum(count / len(text) * log2(count / len(text)) for count in counts.values())

    table = specialization.text_table(one_hot(codes, experts)[:, None], text)
    found, label = specialization.information(table, names[None])
    expected = entropy(Counter(names[text].tolist())) + entropy(Counter(codes.tolist())) - entropy(pairs)
    assert found.item() == pytest.approx(expected, abs=1e-9)
    assert label.item() == pytest.approx(entropy(Counter(names[text].tolist())), abs=1e-9)


@examples
@given(st.integers(0, 10**6))
def test_information_of_soft_gates_is_the_mean_divergence_from_all_gates(seed: int):
    """I = Σ_d p(d) KL(gates of d ‖ all gates), a formula that the code does not use."""
    generator = np.random.default_rng(seed)
    tokens, gates = tokens_of(), soft(generator, 192, 5)
    table = specialization.text_table(gates[:, None], tokens["row"].to_numpy())
    names = tokens.drop_duplicates("row").sort_values("row")["dataset"]
    expected = sum(
        len(rows) / len(gates) * (gates[rows].mean(0) @ np.log2(gates[rows].mean(0) / gates.mean(0)))
        for rows in tokens.groupby("dataset").indices.values()
    )
    found, _ = specialization.information(table, pd.factorize(names)[0][None])
    assert found.item() == pytest.approx(expected, abs=1e-9)


def test_many_labelings_in_blocks_are_each_one_alone(monkeypatch):
    generator = np.random.default_rng(0)
    table, codes = generator.random((24, 3, 4)), generator.integers(0, 3, (7, 24))
    whole = specialization.information(table, codes)
    monkeypatch.setattr(specialization, "BLOCK_VALUES", 1)
    for found, alone in zip(whole, specialization.information(table, codes)):
        np.testing.assert_allclose(found, alone, atol=1e-12)


def test_an_expert_for_each_data_set_tells_all_of_it_and_random_gates_no_more_than_chance():
    tokens = tokens_of()
    own = one_hot(pd.factorize(tokens["dataset"])[0], 4)
    frame = specialization.specialization([(named_run(), {MODULES[0]: own}, tokens)], permutations=50)
    assert set(frame["view"]) == {"gates", "top1"} and (frame["p"] == 1 / 51).all() and (frame["run_p"] == 1 / 51).all()
    assert frame["information"].to_numpy() == pytest.approx(frame["label_entropy"].to_numpy())
    assert frame["normalized"].to_numpy() == pytest.approx(1 - (frame["by_chance"] / frame["label_entropy"]).to_numpy())
    assert frame["most"].to_numpy() == pytest.approx(log2(3), rel=0.01)
    generator = np.random.default_rng(1)
    silent = specialization.specialization(
        [(named_run(seed), {MODULES[0]: soft(generator, 192, 4)}, tokens) for seed in range(8)], permutations=50
    )
    assert abs(silent["excess"]).mean() < 0.02 and silent["p"].mean() > 0.25 and (silent["information"] > 0).all()


def test_shuffling_moves_whole_texts():
    """Each text has an expert of its own: tokens shuffled one by one would seem informative, texts do not."""
    tokens = tokens_of(12, lengths=(8,))
    gates = one_hot(tokens["row"].to_numpy(), 12)
    frame = specialization.specialization([(named_run(), {MODULES[0]: gates}, tokens)], permutations=30)
    assert frame["excess"].to_numpy() == pytest.approx(0.0, abs=1e-9) and (frame["p"] == 1.0).all()


def test_routers_of_different_sizes_are_measured_as_each_alone():
    generator, tokens = np.random.default_rng(3), tokens_of()
    gates = {MODULES[0]: soft(generator, 192, 3), MODULES[2]: soft(generator, 192, 6)}
    together = specialization.specialization([(named_run(), gates, tokens)], permutations=20)
    for module, values in gates.items():
        alone = specialization.specialization([(named_run(), {module: values}, tokens)], permutations=20)
        columns = ["information", "by_chance", "p", "most"]
        np.testing.assert_allclose(together.loc[together["module"] == module, columns], alone[columns])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"permutations": 0}, "permutations = 0"),
        ({"labels": {"cluster": [0, 1]}}, r"labels\['cluster'\] has shape \(2,\) but row 23 was recorded"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message):
    recorded = [(named_run(), {MODULES[0]: np.ones((192, 2))}, tokens_of())]
    with pytest.raises(ValueError, match=message):
        specialization.specialization(recorded, **options)


def test_gates_of_a_run_that_diverged_are_refused():
    with pytest.raises(ValueError, match="contain NaN or infinity"):
        specialization.split_routers(named_run(), {MODULES[0]: np.array([[np.nan, 1.0]])})


def test_pools_are_routers_of_their_own_and_signs_and_empty_rows_are_kept_apart():
    run = named_run(num_experts=[2, 1])
    routers = specialization.split_routers(run, {MODULES[0]: np.array([[-1.0, 3.0, 2.0], [0.0, 0.0, 5.0]])})
    assert list(routers) == [f"{MODULES[0]} pool 0", f"{MODULES[0]} pool 1"]
    assert routers[f"{MODULES[0]} pool 0"].tolist() == [[0.25, 0.75], [0.0, 0.0]]
    assert routers[f"{MODULES[0]} pool 1"].tolist() == [[1.0], [1.0]]


SYSTEMS = [
    (MoeLora, MoeLoraConfig(num_experts=4, r=2), [4]),
    (Sira, SiraConfig(num_experts=4, top_k=3, r=2), [4]),
    (MoeLora, MoeLoraConfig(num_experts=4, r=2, gate="switch", top_k=2), [4]),
    (HydraLora, HydraLoraConfig(num_experts=3, r=2), [3]),
    (Momor, MomorConfig(num_experts=[4, 2], r=2), [4, 2]),
    (Smore, SmoreConfig(num_experts=[4, 3], fanout=[2, 2], r=2, key_dim=4, down_dim=4), [4, 3]),
    (TRex, TRexConfig(num_down=2, num_up=3, intuition=False), [6]),
]


@pytest.mark.parametrize("kind, config, sizes", SYSTEMS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_gates_of_every_system_are_read_as_distributions(kind, config, sizes):
    torch.manual_seed(0)
    with torch.no_grad():
        gates = kind(5, 4, config).eval()(torch.randn(192, 5))[1].gates.flatten(1).numpy()
    run = SimpleNamespace(config=SimpleNamespace(name="m", seed=0, system="m", adapter=config))
    routers = specialization.split_routers(run, {MODULES[0]: gates})
    assert [part.shape for part in routers.values()] == [(192, size) for size in sizes]
    assert all(part.sum(1) == pytest.approx(1.0) for part in routers.values())
    found = load.load_summary([(run, {MODULES[0]: gates}, tokens_of())])
    assert found["experts"].tolist() == sizes and (found["mass_balance"] >= found["token_entropy"] - 1e-9).all()


def test_the_lift_of_an_expert_is_its_share_of_a_label_over_its_share_of_all():
    tokens = pd.DataFrame({"row": [0, 0, 1, 1], "position": [0, 1, 0, 1], "dataset": ["a", "a", "b", "b"]})
    gates = np.array([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    frame = specialization.expert_shares([(named_run(), {MODULES[0]: gates}, tokens)]).set_index(["label", "expert"])
    assert frame.loc[("a", 0), "share"] == 0.75 and frame.loc[("b", 1), "share"] == 0.5
    assert frame.loc[("a", 0), "load"] == frame.loc[("b", 0), "load"] == 0.625
    assert frame.loc[("a", 1), "log_lift"] == pytest.approx(log2(0.25 / 0.375))
