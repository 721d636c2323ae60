"""The systems of the comparison: nine labels, one budget, the papers' experts, and series of them."""

from __future__ import annotations

import peft
import pytest
import torch

import moe_analysis as ma
from moe_analysis.comparison import (
    ALL_PROJECTIONS,
    LABELS,
    SCALE,
    fitted,
    gate_series,
    layer_series,
    lora_budget,
    meta_backbone,
    protocol,
    step_time_pairs,
    systems,
)
from moe_analysis.theory.method_table import method_table

MIXTURES = ("LoRA-MoE", "SiRA", "HydraLoRA", "MixLoRA")


@pytest.fixture(scope="module")
def compact():
    return meta_backbone("compact")


@pytest.fixture(scope="module")
def nine(compact):
    return systems(backbone=compact)


@pytest.mark.parametrize(
    ("width", "rank", "least", "most"),
    [(None, 2, 0.35, 0.65), (16, 1, 0.02, 0.2), (32, 2, 0.0, 0.1)],
    ids=["the comparison's", "16", "32"],
)
def test_before_training_narrow_routers_of_smore_are_near_collapse_and_wide_ones_are_not(width, rank, least, most):
    """The share of routers in which one first expert is that of 90 % of the tokens, see campaigns/compact.yaml."""
    from moe_analysis.training.recorders.routing import record_gates

    config = systems()["S'MoRE"] if width is None else protocol(routing_width=width)["S'MoRE"]
    config.r = rank
    rows = ma.load_suite("embedded", split="test").groupby("dataset").head(2).reset_index(drop=True)
    collapsed = []
    for seed in range(4):
        torch.manual_seed(seed)
        model, tokenizer = ma.load_backbone("compact")
        gates, _ = record_gates(peft.get_peft_model(model, config), tokenizer, rows)
        collapsed += [(one == one.max(1, keepdims=True)).mean(0).max() > 0.9 for one in gates.values()]
    assert least <= sum(collapsed) / len(collapsed) <= most


def trainable(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def experts(config) -> tuple:
    return tuple(getattr(config, name, None) for name in ("num_experts", "top_k", "fanout", "gate"))


def test_the_compact_backbone_is_built_without_its_weights(compact):
    assert {parameter.device.type for parameter in compact.parameters()} == {"meta"}
    assert sum(parameter.numel() for parameter in compact.parameters()) == sum(
        parameter.numel() for parameter in ma.load_backbone("compact")[0].parameters()
    )


def test_all_nine_have_the_trainable_parameters_of_lora_of_rank_20(nine, compact):
    budget = 20 * 4 * sum(a + b for a, b in [(128, 128), (128, 128), (128, 352), (128, 352), (352, 128)])
    assert tuple(nine) == LABELS and lora_budget(backbone=compact) == budget
    table = method_table(nine, compact).set_index("method")["trainable"]
    for label, config in nine.items():
        model = peft.get_peft_model(meta_backbone("compact"), config)
        assert trainable(model) == table[label]
        assert abs(trainable(model) - budget) <= 0.025 * budget


def test_a_budget_or_a_width_of_nothing_is_refused_and_is_not_the_default(compact):
    with pytest.raises(ValueError, match="trainable = 0 must be at least 1"):
        fitted("LoRA", 0, backbone=compact)
    with pytest.raises(ValueError, match="_dim = 0 must be at least 1"):
        systems(backbone=compact, routing_width=0)


def test_the_reference_budget_leaves_every_paper_its_experts(nine):
    for label, config in protocol(routing_width=4).items():
        assert experts(nine[label]) == experts(config), label
    assert (nine["T-REX"].num_down, nine["T-REX"].num_up, nine["T-REX"].clusters) == (4, 8, 32)


def test_gates_are_those_of_the_papers(nine):
    used = {label: (nine[label].gate, nine[label].active_experts, nine[label].num_experts) for label in MIXTURES}
    assert used == {
        "LoRA-MoE": ("softmax", 8, 8),
        "SiRA": ("softmax", 6, 8),
        "HydraLoRA": ("dense", 4, 4),
        "MixLoRA": ("switch", 2, 8),
    }
    assert not nine["SiRA"].normalizes and nine["MixLoRA"].normalizes
    assert (nine["S'MoRE"].gate, nine["S'MoRE"].activation, nine["S'MoRE"].fanout) == ("switch", "tanh", [2, 2])
    assert nine["T-REX"].intuition and not nine["mix-and-match"].intuition


@pytest.mark.parametrize("rank", [20, 44])
def test_the_scale_is_the_same_at_every_budget(rank, compact):
    configs = systems(lora_budget(rank, backbone=compact), backbone=compact)
    assert configs["LoRA"].lora_alpha / configs["LoRA"].r == SCALE
    assert [configs[label].alpha / configs[label].r for label in MIXTURES] == [SCALE] * 4
    assert sum(configs["MoMOR"].scales) == SCALE and configs["S'MoRE"].scales == [1.0, 1.0]


def test_intuition_costs_no_parameters(nine, compact):
    table = method_table(nine, compact).set_index("method")
    assert table.loc["T-REX"].equals(table.loc["mix-and-match"])


def test_targets_are_the_callers(compact):
    attention = systems(targets=["q_proj", "v_proj"], backbone=compact)
    assert lora_budget(targets=["q_proj", "v_proj"], backbone=compact) == 20 * 4 * 2 * 256
    assert all(config.target_modules == {"q_proj", "v_proj"} for config in attention.values())
    assert all(config.target_modules == set(ALL_PROJECTIONS) for config in systems(backbone=compact).values())


def test_every_system_trains_on_a_backbone_that_it_was_fitted_to(tiny_llama, tokens):
    for label, config in systems(backbone=tiny_llama, tolerance=0.1).items():
        model = peft.get_peft_model(tiny_llama, config).train()
        scores = {"intuition": torch.rand(2, config.clusters)} if label == "T-REX" else {}
        model(**tokens, **scores).loss.backward()
        moved = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in moved), label
        tiny_llama = model.unload()


def test_more_layers_of_smore_cost_the_same(compact):
    series = layer_series(backbone=compact)
    assert {layers: (config.layers, config.num_experts, config.fanout) for layers, config in series.items()} == {
        layers: (layers, [4] * layers, [2] * layers) for layers in (1, 2, 3)
    }
    sizes = method_table(series, compact)["trainable"]
    assert sizes.max() - sizes.min() <= 0.05 * lora_budget(backbone=compact)
    assert series[2] == systems(backbone=compact)["S'MoRE"]


def test_other_gates_cost_the_same(compact):
    series = gate_series(backbone=compact)
    assert {label: config.gate for label, config in series.items()} == {
        f"{label} ({name})": gate
        for name, gate in (("noisy top-k", "noisy_topk"), ("dense", "dense"))
        for label in ("MixLoRA", "S'MoRE")
    }
    assert series["S'MoRE (dense)"].fanout == [4, 4] and series["S'MoRE (noisy top-k)"].fanout == [2, 2]
    assert series["MixLoRA (dense)"].active_experts == 8 and series["MixLoRA (noisy top-k)"].active_experts == 2
    sizes = method_table(series, compact)["trainable"]
    budget = lora_budget(backbone=compact)
    assert ((sizes - budget).abs() <= 0.05 * budget).all()


def test_timed_pairs_have_equal_parameters(compact):
    pairs = step_time_pairs(backbone=compact)
    assert list(pairs) == [lora_budget(rank, backbone=compact) for rank in (12, 20, 28, 44)]
    for pair in pairs.values():
        assert list(pair) == ["MixLoRA", "S'MoRE"]
        first, second = method_table(pair, compact)["trainable"]
        assert abs(first / second - 1) < 0.06


def test_shapes_and_names_stand_for_a_model(compact):
    layers = [(128, 352), (352, 128)]
    assert fitted("MixLoRA", 20_000, backbone=layers).num_experts == 8
    assert fitted("HydraLoRA", 156_160) == fitted("HydraLoRA", 156_160, backbone=compact)


def test_a_budget_is_matched_on_the_compact_backbone_unless_another_is_named():
    config = ma.MoeLoraConfig(num_experts=4, target_modules=["q_proj"])
    assert ma.match_budget(config, trainable=4 * (4 * 5 * 256 + 4 * 128)).r == 5
    assert ma.match_budget(config, trainable=4 * 2 * 40 + 4 * 10, shapes=[(10, 30)]).r == 2


def test_errors_name_the_system_and_the_remedy(compact):
    with pytest.raises(ValueError, match="LoRA-MoE: trainable = 62,464 .* the nearest has 67,584 .*tolerance=0.09"):
        systems(lora_budget(8, backbone=compact), backbone=compact)
    with pytest.raises(ValueError, match="label = 'MoLoRA' is unknown; choose one of LoRA, LoRA-MoE, SiRA"):
        fitted("MoLoRA", 100_000, backbone=compact)
    with pytest.raises(ValueError, match="backbone = 'no/such folder' has no configuration"):
        systems(backbone="no/such folder")
