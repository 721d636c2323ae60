"""Operations of a training step against hand counts, and the sizes that compare."""

from __future__ import annotations

import pandas as pd
import peft
import pytest
import torch

import moe_analysis as ma
from moe_analysis.studies.budgets.step_ratios import operation_ratios, ratio_pairs

LAYERS = torch.nn.ModuleDict(
    {
        "up_proj": torch.nn.Linear(8, 12),
        "down_proj": torch.nn.Linear(12, 8),
        "lm_head": torch.nn.Linear(8, 20),
    }
)


def configs(targets) -> dict:
    return {
        "LoRA": peft.LoraConfig(r=3, target_modules=targets),
        "MixLoRA": ma.MoeLoraConfig(r=2, num_experts=4, top_k=1, gate="switch", target_modules=targets),
    }


def test_operations_are_those_of_a_hand_count():
    table = operation_ratios(configs(["up_proj"]), LAYERS).set_index("method")
    assert (table["backbone"] == 2 * (8 * 12 + 12 * 8 + 8 * 20)).all()
    assert table.loc["LoRA", ["trainable", "needed", "computed"]].tolist() == [60, 3 * 60, 3 * 60]
    # one expert of rank 2 and a router of 4 rows; the module computes four experts
    assert table.loc["MixLoRA", ["needed", "computed"]].tolist() == [3 * (40 + 32), 3 * (160 + 32)]
    assert table.loc["LoRA", "needed_ratio"] == pytest.approx((704 + 180) / (704 + 216))
    assert table.loc["MixLoRA", ["needed_ratio", "computed_ratio"]].tolist() == [1, 1]


def test_a_reference_or_target_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="configs has LoRA but not MixLoRA, the reference"):
        operation_ratios({"LoRA": configs(["up_proj"])["LoRA"]}, LAYERS)
    with pytest.raises(ValueError, match="target_modules = .*q_proj.* matches no linear layer"):
        operation_ratios(configs(["q_proj"]), LAYERS)


def times(*intervals: tuple[float, float, float], size_ratio: float = 1.0) -> pd.DataFrame:
    """S'MoRE's ratio with its interval at one size each."""
    rows = []
    for number, (low, ratio, high) in enumerate(intervals):
        rows += [
            ("MixLoRA", 1000, 1.0, 1.0, 1.0, 20, number),
            ("S'MoRE", 1000 * size_ratio, ratio, low, high, 20, number),
        ]
    return pd.DataFrame(rows, columns=["method", "trainable", "ratio", "ratio_low", "ratio_high", "rounds", "size"])


def test_only_sizes_of_equal_parameters_are_compared():
    unequal = times((1.18, 1.2, 1.22), size_ratio=2.0)
    assert ratio_pairs(unequal, "S'MoRE").empty
    assert ratio_pairs(times((1.18, 1.2, 1.22)), "S'MoRE")["size_ratio"].tolist() == [1.0]
    with pytest.raises(ValueError, match="no row of 'SiRA'; there are 'MixLoRA', \"S'MoRE\""):
        ratio_pairs(unequal, "SiRA")
