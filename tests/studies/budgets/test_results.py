"""Runs as points of accuracy against size: sizes by formula, means by part."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import peft
import pytest
import torch

import moe_analysis as ma
from moe_analysis.studies.budgets.points import COLUMNS, check_results
from moe_analysis.studies.budgets.results import budget_results, sizes_of
from moe_analysis.studies.systems.scores import scores

BACKBONE = torch.nn.ModuleDict({"up_proj": torch.nn.Linear(8, 12), "down_proj": torch.nn.Linear(12, 8)})


def evaluation(accuracies: list[float]) -> pd.DataFrame:
    names = ("add_small", "add_small_one_over")[: len(accuracies)]  # an original of the embedded suite and its variant
    return pd.DataFrame(
        {
            "dataset": names,
            "group": "arithmetic",
            "kind": "exact match",
            "rows": 10,
            "loss": [2.0 - value for value in accuracies],
            "accuracy": accuracies,
        }
    )


def run(method: str, seed: int, accuracies: list[float], rank: int):
    adapter = peft.LoraConfig(r=rank, target_modules=["up_proj"])
    config = SimpleNamespace(name=method, seed=seed, suite="embedded", adapter=adapter, system="lora")
    return SimpleNamespace(id=f"{method}-{rank}-{seed}", config=config, evaluation=evaluation(accuracies))


def results_of(runs: dict, transferred: dict | None = None) -> pd.DataFrame:
    """`budget_results` of runs by budget."""
    frames = [scores(own, (transferred or {}).get(budget, ())).assign(budget=budget) for budget, own in runs.items()]
    sizes = {
        (run.config.name, budget): sizes_of(run.config.adapter, BACKBONE) for budget, own in runs.items() for run in own
    }
    rows = [{"method": method, "budget": budget, **own} for (method, budget), own in sizes.items()]
    return budget_results(pd.concat(frames), pd.DataFrame(rows))


def test_a_run_becomes_a_row_a_part_with_the_means_over_its_data_sets():
    runs = {
        40: [run("LoRA", seed, [0.4 + seed, 0.6 + seed], 2) for seed in (0, 1)],
        80: [run("LoRA", 0, [0.5, 0.9], 4)],
    }
    table = results_of(runs)
    check_results(table)
    assert list(table.columns) == list(COLUMNS) and len(table) == 3 * 3
    first = table[(table["budget"] == 40) & (table["seed"] == 0)].set_index("part")
    assert first["accuracy"].to_dict() == pytest.approx({"originals": 0.4, "variants": 0.6, "in-distribution": 0.5})
    assert first["loss"].to_dict() == pytest.approx({"originals": 1.6, "variants": 1.4, "in-distribution": 1.5})
    assert table.groupby("budget")["trainable"].unique().map(list).to_dict() == {40: [40], 80: [80]}


def test_tables_of_another_suite_are_a_part_of_their_own():
    runs = {40: [run("LoRA", 0, [0.4, 0.6], 2)]}
    outside = evaluation([0.1]).assign(dataset="elsewhere")
    table = results_of(runs, {40: [outside]}).set_index("part")
    assert table.loc["ood", "accuracy"] == pytest.approx(0.1) and table.loc["in-distribution", "accuracy"] == 0.5


def test_active_parameters_leave_idle_experts_out_and_count_the_router():
    config = ma.MoeLoraConfig(num_experts=4, top_k=1, r=2, target_modules=["up_proj"])
    assert sizes_of(config, BACKBONE) == {"trainable": 4 * 40 + 32, "active": 40 + 32, "operations": 40 + 32}
