"""Timing whole models: what is built, what is left as it was, and how rounds are summarized. No claim on seconds."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import moe_analysis as ma
from moe_analysis.studies.budgets import step_time
from moe_analysis.studies.budgets.step_time import median_interval, round_seconds, summary

TARGETS = ["up_proj", "down_proj"]


@pytest.fixture
def configs() -> dict:
    return {
        "LoRA": peft.LoraConfig(r=2, target_modules=TARGETS, task_type="CAUSAL_LM"),
        "MixLoRA": ma.MoeLoraConfig(r=2, num_experts=4, top_k=2, gate="switch", target_modules=TARGETS),
        "S'MoRE": ma.SmoreConfig(r=2, num_experts=[2, 2], fanout=[1, 1], key_dim=4, down_dim=4, target_modules=TARGETS),
        "T-REX": ma.TRexConfig(num_down=2, num_up=3, target_modules=TARGETS),
    }


@pytest.fixture
def four_threads():
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(1)


def test_every_system_is_timed_on_a_whole_model(tiny_llama, configs):
    found = round_seconds(configs, tiny_llama, batch=(2, 6), rounds=6)
    table = summary(found.seconds, "MixLoRA")
    assert table["method"].tolist() == list(configs)
    assert (table[["seconds", "seconds_low", "seconds_high", "ratio"]] > 0).all(axis=None)
    assert (table["rounds"] == 6).all()
    assert table.set_index("method").loc["MixLoRA", ["ratio", "ratio_low", "ratio_high"]].tolist() == [1, 1, 1]
    assert list(found.trainable.values()) == [
        sum(p.numel() for p in peft.get_peft_model(copy.deepcopy(tiny_llama), config).parameters() if p.requires_grad)
        for config in configs.values()
    ]


def test_the_backbone_is_left_as_it_was(tiny_llama, configs):
    before = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    tiny_llama.model.norm.weight.requires_grad_(False)
    flags = [p.requires_grad for p in tiny_llama.parameters()]
    round_seconds(configs, tiny_llama, batch=(1, 4), rounds=1)
    after = tiny_llama.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert [p.requires_grad for p in tiny_llama.parameters()] == flags and not tiny_llama.training
    assert tiny_llama.config.use_cache and {config.peft_type.value for config in configs.values()} == {
        "LORA",
        "MOELORA",
        "SMORE",
        "TREX",
    }


def test_a_step_trains_the_adapter_and_nothing_else(tiny_llama, configs):
    with step_time.frozen(tiny_llama):
        model = step_time.adapted(tiny_llama, configs["S'MoRE"])
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        step = step_time.training_step(model, (2, 6))
        step(), step()
        moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved and all("smore_adapter" in name for name in moved)
    assert any(name.endswith("W_proj") for name in moved)


def test_models_share_the_weights_of_the_backbone(tiny_llama, configs):
    with step_time.frozen(tiny_llama):
        models = [step_time.adapted(tiny_llama, config) for config in configs.values()]
        own = {p.data_ptr() for p in tiny_llama.parameters()}
        assert all(own <= {p.data_ptr() for p in model.parameters()} for model in models)


def test_threads_and_random_numbers_are_as_before(four_threads, tiny_llama, configs):
    state = torch.get_rng_state()
    round_seconds(configs, tiny_llama, batch=(1, 4), rounds=1)
    assert torch.get_num_threads() == 4 and torch.equal(torch.get_rng_state(), state)
    configs["S'MoRE"].target_modules = {"no_such_layer"}
    with pytest.raises(ValueError, match="no_such_layer"):
        round_seconds(configs, tiny_llama, batch=(1, 4), rounds=1)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"configs": {}}, "configs is empty"),
        ({"batch": (2, 1)}, r"batch = \(2, 1\) must be"),
        ({"rounds": 0}, "rounds = 0 must be at least 1"),
    ],
)
def test_a_wrong_argument_is_refused_before_the_backbone_is_loaded(configs, change, words):
    with pytest.raises(ValueError, match=words):
        round_seconds(**{"configs": configs, "backbone": "no/such/folder", **change})


def test_rounds_take_turns_and_the_first_two_are_not_counted():
    order: list[str] = []
    seconds = step_time.interleaved({name: lambda name=name: order.append(name) or len(order) for name in "abc"}, 2)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert seconds.to_numpy().tolist() == [[8, 9, 7], [10, 11, 12]]


def test_ratios_are_taken_within_a_round():
    drifting = pd.DataFrame({"a": [1.0, 2, 4, 8, 16, 32], "b": [2.0, 4, 8, 16, 32, 64]})  # a machine that slows down
    row = step_time.summary(drifting, "a").set_index("method").loc["b"]
    assert row[["ratio", "ratio_low", "ratio_high"]].tolist() == [2, 2, 2] and row["seconds"] == 12


@given(st.integers(6, 60))
@examples(max_examples=25, deadline=None)
def test_the_interval_holds_the_median_of_any_distribution(n):
    from math import comb

    _, low, high = median_interval(np.arange(n, dtype=float))

    def missed(skipped):  # the median lies below the value number `skipped`, or above its mirror image
        return 2 * sum(comb(n, k) for k in range(skipped + 1)) / 2**n

    assert low + high == n - 1 and missed(int(low)) <= 0.05 < missed(int(low) + 1)


def test_five_rounds_have_no_interval():
    assert np.isnan(median_interval(np.arange(5.0))[1:]).all()


def test_a_random_decoder_of_any_size_can_be_timed(configs):
    decoder = step_time.random_decoder(16, 24, layers=1, vocabulary=50, head=8)
    assert decoder.model.layers[0].mlp.up_proj.weight.shape == (24, 16)
    table = summary(round_seconds({"LoRA": configs["LoRA"]}, decoder, batch=(1, 3), rounds=1).seconds, "LoRA")
    assert table["seconds"].item() > 0 and table["ratio"].item() == 1
    with pytest.raises(ValueError, match="hidden = 20 must be a multiple of head = 8"):
        step_time.random_decoder(20, 24, layers=1, head=8)
