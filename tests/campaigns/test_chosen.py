"""A grid that grew may choose another cell: what was trained at the former one is named and never pooled."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest

from moe_analysis.campaigns.chosen import best_configuration, chosen_finals

SYSTEMS = ("LoRA", "LoRA-MoE", "SiRA", "HydraLoRA", "MixLoRA", "MoMOR", "S'MoRE", "mix-and-match", "T-REX")


def tuned(system: str, scores: dict[float, float], losses: dict[float, float] | None = None) -> Iterator[dict]:
    """A run of the tuning for each rate, with its accuracy and loss."""
    for lr, accuracy in scores.items():
        yield one(system, "tune", 100, lr, accuracy, (losses or {}).get(lr, 1.0))


def one(system: str, stage: str, seed: int, lr: float, accuracy: float = 0.5, loss: float = 1.0) -> dict:
    steps = {"tune": 300, "final": 1000}[stage]
    return {
        "stage": stage,
        "system": system,
        "seed": seed,
        "configuration": f"{stage} {system} {lr}",
        "config": {"lr": lr, "router_lr": lr / 10, "steps": steps, "seed": seed, "name": system},
        "accuracy": accuracy,
        "accuracy_norm": accuracy,
        "loss": loss,
    }


@pytest.mark.parametrize("system", SYSTEMS)
def test_final_runs_of_a_former_choice_are_left_out_and_named(system) -> None:
    rows = [
        *tuned(system, {0.001: 0.5, 0.003: 0.6}),
        *(one(system, "final", seed, 0.003) for seed in (0, 1)),
        *tuned(system, {0.01: 0.7}),  # the grid grew
        one(system, "final", 0, 0.01),
        *tuned("another", {0.003: 0.9, 0.01: 0.2}),
        one("another", "final", 0, 0.003),
    ]
    kept, told = chosen_finals(pd.DataFrame(rows))
    assert [(row.system, row.config["lr"]) for row in kept[kept["stage"] == "final"].itertuples()] == [
        (system, 0.01),
        ("another", 0.003),
    ]
    assert (kept["stage"] == "tune").sum() == 5
    assert told == [
        f"2 final runs of {system} at lr = 0.003, router_lr = 0.0003 left out: the tuning chose lr = 0.01, "
        "router_lr = 0.001"
    ]


def test_final_runs_of_many_former_choices_are_counted_in_one_sentence() -> None:
    rows = [row for name in ("LoRA", "SiRA", "T-REX") for row in tuned(name, {0.1: 0.4, 0.2: 0.9})]
    rows += [one(name, "final", seed, lr) for name in ("LoRA", "SiRA", "T-REX") for seed, lr in ((0, 0.1), (1, 0.2))]
    kept, told = chosen_finals(pd.DataFrame(rows))
    assert [row["lr"] for row in kept.loc[kept["stage"] == "final", "config"]] == [0.2] * 3
    assert told == ["3 final runs of configurations that the tuning did not choose left out (of LoRA, SiRA, T-REX)"]


def test_a_system_whose_new_choice_is_not_trained_yet_has_no_final_run() -> None:
    rows = pd.DataFrame([*tuned("LoRA", {0.1: 0.4, 0.2: 0.9}), one("LoRA", "final", 0, 0.1)])
    kept, told = chosen_finals(rows)
    assert set(kept["stage"]) == {"tune"} and told[0].startswith("1 final run of LoRA at lr = 0.1")


def test_the_choice_is_by_what_the_campaign_chose_by_and_of_equals_by_the_loss() -> None:
    tune = [*tuned("LoRA", {0.1: 0.9, 0.2: 0.4}, {0.1: 2.0, 0.2: 1.0})]
    rows = pd.DataFrame([*tune, one("LoRA", "final", 0, 0.1), one("LoRA", "final", 0, 0.2)])
    chosen = {
        by: chosen_finals(rows, by)[0].query("stage == 'final'")["config"].iloc[0]["lr"] for by in ("accuracy", "loss")
    }
    assert chosen == {"accuracy": 0.1, "loss": 0.2}
    equal = pd.DataFrame([*tuned("LoRA", {0.1: 0.5, 0.2: 0.5}, {0.1: 2.0, 0.2: 1.0}), one("LoRA", "final", 0, 0.2)])
    assert chosen_finals(equal)[1] == []
    lost = pd.DataFrame(
        [*tuned("LoRA", {0.1: 0.5, 0.2: 0.5}, {0.1: float("nan"), 0.2: 3.0}), one("LoRA", "final", 0, 0.1)]
    )
    assert len(chosen_finals(lost, "loss")[1]) == 1
    with pytest.raises(ValueError, match="choose_by = 'f1' is unknown; choose one of accuracy, accuracy_norm, loss"):
        chosen_finals(rows, "f1")


@pytest.mark.parametrize("trained", [0.003, 0.0003])
@pytest.mark.parametrize("merged", [1, -1])
def test_of_equal_cells_the_one_that_was_trained_counts_in_whichever_order_a_table_has_them(trained, merged) -> None:
    """LoRA has no router, so two rates of a router are the same run."""
    tune = [
        {**row, "configuration": f"tune {router_lr}", "config": {**row["config"], "router_lr": router_lr}}
        for router_lr in (0.003, 0.0003)
        for row in tuned("LoRA", {0.003: 0.6})
    ]
    final = [one("LoRA", "final", seed, 0.003) for seed in (0, 1)]
    final = [{**row, "config": {**row["config"], "router_lr": trained}} for row in final]
    frame = pd.DataFrame([*tune[::merged], *tuned("LoRA", {0.01: 0.4}), *final])
    kept, told = chosen_finals(frame)
    assert len(kept) == len(frame) and told == []
    runs = frame.groupby("stage")
    best = best_configuration(runs.get_group("tune"), "accuracy", runs.get_group("final"))
    assert best == f"tune {trained}"


def test_final_runs_without_tuning_and_fields_in_which_stages_differ_leave_nothing_out() -> None:
    for tune in ([], tuned("LoRA", {0.1: 0.5})):
        rows = pd.DataFrame([*tune, one("LoRA", "final", 0, 0.1), one("LoRA", "final", 1, 0.1)])
        kept, told = chosen_finals(rows)
        assert len(kept) == len(rows) and told == []
