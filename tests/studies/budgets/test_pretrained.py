"""S'MoRE's Fig. 4 and Table 5 on a pretrained model, from a table of one data set that is whole or half done."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from moe_analysis.campaigns.table import PER_DATASET
from moe_analysis.comparison import meta_backbone
from moe_analysis.places import shipped
from moe_analysis.studies.budgets import measure_pretrained, measure_pretrained_layers
from moe_analysis.studies.budgets.differences import EQUAL
from moe_analysis.studies.budgets.measure import AT, LAYERS
from moe_analysis.studies.budgets.pretrained import DATASET
from moe_analysis.studies.budgets.results import sizes_of
from moe_analysis.training.adapter_source import read_adapter
from tests.studies.systems.test_measure import configured, stored_row

THREE = ("LoRA", "MixLoRA", "S'MoRE")
BUDGETS = (20_000, 40_000)


def row(system: str, seed: int, right: float, stage: str = "final", cell: str = "a") -> dict:
    """Of one data set."""
    made = stored_row(system, seed, right, stage, cell)
    made |= {name: made[name][:1] for name in PER_DATASET} | {"roles": ["task"], "datasets": [DATASET]}
    return configured(made, backbone="smollm2-135m")


def table(systems: dict[str, float]) -> pd.DataFrame:
    labels = {f"{system}{AT}{budget}": right for system, right in systems.items() for budget in BUDGETS}
    rows = [row("base model", 0, 0.1, "base"), *(row(label, 100, 0.7, "tune") for label in labels)]
    return pd.DataFrame([*rows, *(row(label, seed, right) for label, right in labels.items() for seed in range(3))])


def test_smore_is_held_against_lora_and_mixlora_at_every_size_over_seeds_of_one_data_set():
    found = measure_pretrained(table({"LoRA": 0.6, "MixLoRA": 0.65, "S'MoRE": 0.95}))
    told = {claim.name: claim for claim in found.judged}
    for name in ("smore_fig4_switch_pretrained_in_distribution", "smore_table2_pretrained_in_distribution"):
        assert [part.compares for part in told[name].parts] == ["S'MoRE - LoRA", "S'MoRE - MixLoRA"]
        assert {part.over for part in told[name].parts} == {"3 seeds on one data set"}
        assert told[name].verdict == "reproduced"
    assert [part.smallest for part in told["smore_table2_pretrained_in_distribution"].parts] == pytest.approx(
        [0.0336 / 2, 0.0131 / 2]
    )
    assert told["own_smore_loss_pretrained_in_distribution"].verdict == "not supported"
    assert told["smore_fig4_trained_pretrained_in_distribution"].verdict == "reproduced"
    assert all(claim.source.endswith(", on a pretrained model") for claim in told.values())
    assert set(found.points["budget"]) == set(BUDGETS) and found.item == "smore_fig4_pretrained"
    assert set(found.rates.tuning["method"]) == {f"{name}, {size} M" for name in THREE for size in ("0.02", "0.04")}


@pytest.mark.parametrize("measure", [measure_pretrained, measure_pretrained_layers])
def test_a_table_on_the_compact_backbone_is_no_pretrained_model(measure):
    told = "compact holds runs on the backbone 'compact'.*use ma.studies.budgets.measure_table"
    with pytest.raises(ValueError, match=told):
        measure("compact")


@pytest.mark.parametrize(
    "stored, told",
    [
        ("smollm2_multitask", "the paper's on commonsense_qa; pass the table to ma.studies.budgets.measure_table"),
        ("smollm2_optimizers", "this figure is about LoRA, HydraLoRA, MixLoRA, S'MoRE; pass a table of these"),
    ],
)
def test_a_table_of_other_data_sets_or_systems_is_refused(stored, told):
    with pytest.raises(ValueError, match=f"{stored} holds runs o.*{told}"):
        measure_pretrained(stored)


def test_the_model_before_training_is_a_line():
    found = measure_pretrained(table({"LoRA": 0.55, "S'MoRE": 0.9}))
    (level,) = found.untrained.values()
    assert len([line for line in found.plot().axes[0].lines if set(line.get_ydata()) == {level}]) == 1


def test_a_half_finished_table_says_which_runs_are_missing():
    found = measure_pretrained(table({"S'MoRE": 0.9}))
    reasons = {part.note for claim in found.judged[:4] for part in claim.parts}
    assert reasons == {"no run of LoRA", "no run of MixLoRA"}
    assert found.plot() and found.interactive().data
    with pytest.raises(ValueError, match="no budget has final runs of two of S'MoRE, L = 1, .* there are S'MoRE"):
        measure_pretrained_layers(table({"S'MoRE": 0.9}))


def test_more_layers_are_compared_at_their_budget():
    found = measure_pretrained_layers(table({"LoRA": 0.4, "S'MoRE, L = 1": 0.5, "S'MoRE": 0.9}))
    assert found.item == "smore_table5_pretrained" and set(found.points["layers"]) == {1, 2}
    assert [claim.verdict for claim in found.judged if claim.name.startswith("smore_table5")] == ["supported"]
    assert found.plot()


def test_a_figure_counts_the_runs_that_it_shows():
    stored = table({"LoRA": 0.4, "S'MoRE, L = 1": 0.5, "S'MoRE": 0.9})
    larger = [row(f"S'MoRE{AT}80000", seed, 0.9) for seed in range(3)]  # a budget with one number of layers
    stored = pd.concat([stored, pd.DataFrame(larger)], ignore_index=True)
    assert measure_pretrained_layers(stored).origin.startswith("12 runs of 3 seeds")
    assert measure_pretrained(stored).origin.startswith("15 runs of 3 seeds")


def test_the_campaign_has_a_size_of_every_system_and_every_number_of_layers_within_a_tenth():
    systems = yaml.safe_load((shipped("campaigns") / "smollm2_budgets.yaml").read_text("utf-8"))["systems"]
    shell = meta_backbone("smollm2-135m")
    sizes: dict[int, dict[str, int]] = {}
    for label, fields in systems.items():
        method, budget = label.split(AT)
        sizes.setdefault(int(budget), {})[method] = sizes_of(read_adapter(fields["adapter"]), shell)["trainable"]
    assert len(sizes) == 3 and all(set(own) >= set(THREE) for own in sizes.values())
    assert set(sizes[6_700_000]) >= set(LAYERS)
    assert all(max(own.values()) / min(own.values()) <= 1 + EQUAL for own in sizes.values())
