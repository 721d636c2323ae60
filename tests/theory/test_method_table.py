"""The table beside every comparison, against PEFT models, torch's FLOP counter and counts on modules."""

from __future__ import annotations

import peft
import pytest
import torch

from moe_analysis import peft_bridge
from moe_analysis.adapters import HydraLoraConfig, MoeLoraConfig, MomorConfig, TRexConfig
from moe_analysis.theory.budget import match_budget
from moe_analysis.theory.count import count, flop_counter, meta_layer
from moe_analysis.theory.method_table import COLUMNS, backbone_operations, layer_shapes, method_table

FEED_FORWARD = ["gate_proj", "up_proj", "down_proj"]


def methods(targets) -> dict[str, peft.PeftConfig]:
    return {
        "LoRA": peft.LoraConfig(r=3, target_modules=targets, task_type="CAUSAL_LM"),
        "LoRA-MoE": peft_bridge.MoeLoraConfig(num_experts=4, r=2, top_k=2, target_modules=targets),
        "HydraLoRA": peft_bridge.HydraLoraConfig(r=2, target_modules=targets),
        "MoMOR": peft_bridge.MomorConfig(r=[1, 2], target_modules=targets),
        "S'MoRE": peft_bridge.SmoreConfig(r=1, down_dim=4, key_dim=4, target_modules=targets),
        "T-REX": peft_bridge.TRexConfig(target_modules=targets),
    }


def trainable(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], "all-linear", r".*\.0\.mlp\.(up|gate)_proj"], ids=str)
def test_totals_are_those_of_the_peft_models(tiny_llama, targets):
    table = method_table(methods(targets), tiny_llama)
    for label, config in methods(targets).items():
        row = table.set_index("method").loc[label]
        model = peft.get_peft_model(tiny_llama, config)
        assert row["trainable"] == trainable(model) > 0
        assert row["total"] == sum(parameter.numel() for parameter in model.parameters())
        tiny_llama = model.unload()


def test_layers_are_chosen_as_peft_chooses_them(tiny_gpt2):
    config = peft_bridge.MoeLoraConfig(
        num_experts=2, r=1, target_modules=["c_attn", "c_fc"], layers_to_transform=[1], exclude_modules=["c_fc"]
    )
    assert layer_shapes(tiny_gpt2, config) == [(16, 48)]
    counted = method_table({"LoRA-MoE": config}, tiny_gpt2)["trainable"].iloc[0]
    assert counted == trainable(peft.get_peft_model(tiny_gpt2, config))


def test_a_budget_over_a_model_is_one_over_its_layers(tiny_llama):
    config = peft_bridge.SmoreConfig(down_dim=4, key_dim=4, target_modules=FEED_FORWARD)
    found = match_budget(config, 6000, tiny_llama)
    assert found == match_budget(config, 6000, [(16, 24), (16, 24), (24, 16)] * 2)
    assert abs(trainable(peft.get_peft_model(tiny_llama, found)) - 6000) <= 300


@pytest.mark.parametrize(
    "name, config",
    [
        ("moelora", MoeLoraConfig(num_experts=4, top_k=2, r=3)),
        ("hydralora", HydraLoraConfig(r=2)),
        ("momor", MomorConfig(r=[1, 2])),
        ("trex", TRexConfig(intuition_mapper=True)),
    ],
)
def test_operations_are_those_counted_on_the_modules(name, config):
    layers = [(12, 20), (20, 12), (12, 20)]
    row = method_table({name: config}, layers).iloc[0]
    counted = [count(meta_layer(name, *shape, config)) for shape in layers]
    routers = sum(one.router_parameters for one in counted)
    assert row["computed"] == sum(one.expert_macs + one.router_macs for one in counted)
    assert row["trainable"] == routers + sum(one.expert_parameters for one in counted)
    assert row["router_share"] == pytest.approx(routers / row["trainable"])
    assert (row["operations"] < row["computed"]) == (name in ("moelora", "momor"))  # which leave experts idle


def test_a_tokens_parameters_are_its_experts_and_the_router():
    row = method_table({"MixLoRA": MoeLoraConfig(num_experts=8, top_k=2, r=3)}, [(10, 30)]).iloc[0]
    assert (row["trainable"], row["active"]) == (8 * 3 * 40 + 80, 2 * 3 * 40 + 80)
    assert row["router_share"] == 80 / (8 * 3 * 40 + 80)
    assert row["operations"] == row["active"] and row["computed"] == row["trainable"]


def test_only_shapes_leave_the_backbone_unknown():
    table = method_table({"MixLoRA": MoeLoraConfig()}, [(10, 30)])
    assert list(table.columns) == list(COLUMNS)
    assert table[["total", "total_operations"]].isna().all(axis=None)
    assert table[["trainable", "active", "operations", "computed"]].notna().all(axis=None)


def test_the_backbones_operations_are_torchs_count_less_attention_of_one_token_to_itself(tiny_llama):
    with flop_counter() as counter:
        tiny_llama(input_ids=torch.tensor([[5]]))
    attention = 2 * 2 * 16  # layers × (scores, values) × width
    assert counter.get_total_flops() // 2 == backbone_operations(tiny_llama) + attention


def test_nothing_is_allocated(tiny_llama):
    table = method_table(methods(FEED_FORWARD), tiny_llama)
    meta = tiny_llama.to("meta")
    assert method_table(methods(FEED_FORWARD), meta).equals(table)
    assert {parameter.device.type for parameter in meta.parameters()} == {"meta"}


def test_targets_that_meet_nothing_are_named(tiny_llama):
    with pytest.raises(ValueError, match="target_modules = .*'query'.* matches no linear layer"):
        method_table(methods(["query"]), tiny_llama)
    with pytest.raises(ValueError, match="target_modules = None does not say which layers"):
        match_budget(MoeLoraConfig(), 1000, tiny_llama)
