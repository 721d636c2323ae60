"""S'MoRE's Table 2 beside a stored table whose systems bear its labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from moe_analysis.studies.systems import measure_table_2
from moe_analysis.studies.systems.claims import claims as trex_claims
from moe_analysis.studies.systems.claims_table_2 import claims
from moe_analysis.studies.systems.claims_tasks import claims as task_claims
from moe_analysis.studies.systems.endpoints import task_table, versions
from moe_analysis.studies.systems.measure import Systems, SystemTasks, shared
from moe_analysis.studies.systems.scores import against_level, comparisons, part_summary
from moe_analysis.studies.systems.stored import TUNING_COLUMNS
from moe_analysis.studies.systems.table_2 import DATASETS, PAPER, Table2, paper_gain

LABELS = (
    *[label for label in PAPER if label not in ("base model", "HydraLoRA (8)")],
    "LoRA-MoE",
    "mix-and-match",
    "T-REX",
    "T-REX, smaller",
)
SIZES = {"T-REX": 120, "T-REX, smaller": 65}


def fields(gains: dict[str, float], seeds: int, datasets: tuple[str, ...]) -> dict[str, Any]:
    """Scores of every label, .5 with a little noise and what is gained by some."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.0005, (len(datasets), seeds))
    frame = pd.DataFrame(
        {
            "method": method,
            "seed": seed,
            "part": "in-distribution",
            "dataset": dataset,
            "rows": 400,
            "accuracy": 0.5 + gains.get(method, 0.0) + noise[place, seed] * (1 + len(method) % 3),
            "loss": 1.0,
        }
        for method in LABELS
        for seed in range(seeds)
        for place, dataset in enumerate(datasets)
    )
    levels = pd.DataFrame({"part": "in-distribution", "dataset": datasets, "chance": 0.2, "majority": 0.2})
    levels = levels.assign(guess=0.25, untrained=0.3, untrained_loss=2.0)
    return {
        "scores": frame,
        "levels": levels,
        "summary": part_summary(frame),
        "guessing": against_level(frame, levels, "guess"),
        "tasks": task_table(frame, levels),
        "pairs": comparisons(frame),
        "costs": pd.DataFrame({"method": LABELS, "trainable": [SIZES.get(label, 100) for label in LABELS]}),
    }


def made_up(gains: dict[str, float], seeds: int = 6, datasets: tuple[str, ...] = DATASETS) -> Table2:
    return Table2(**fields(gains, seeds, datasets), tuning=pd.DataFrame(columns=TUNING_COLUMNS))


def of_t_rex(gains: dict[str, float]) -> Systems:
    common = fields(gains, 6, DATASETS)
    return Systems(
        **common,
        gains=against_level(common["scores"], common["levels"], "untrained"),
        losses=comparisons(common["scores"], measure="loss"),
        authors=pd.DataFrame({"method": ["LoRA", "LoRA-MoE", "SiRA", "T-REX"], "trainable": [100, 100, 100, 65]}),
    )


def test_a_name_finds_its_versions_and_no_other_system():
    assert versions(LABELS, "MixLoRA") == ["MixLoRA (4)", "MixLoRA (8)"]
    assert versions(LABELS, "LoRA") == ["LoRA"] and versions(LABELS, "T-REX") == ["T-REX"]
    assert versions(LABELS, "SiRA") == []


def test_the_papers_numbers_stand_beside_ours_with_their_intervals():
    found = made_up({"S'MoRE (4-4)": 0.1})
    table = found.beside_paper.set_index(["method", "dataset"])
    row = table.loc["S'MoRE (4-4)", "commonsense_qa"]
    assert row["paper"] == 67.16 and row["ours"] == pytest.approx(60, abs=1) and row["seeds"] == 6
    assert row["low"] < row["ours"] < row["high"]
    assert row["paper_gain"] == pytest.approx(3.36) and row["gain"] == pytest.approx(10, abs=0.2)
    assert row["gain_low"] < row["gain"] < row["gain_high"]
    assert table.loc["LoRA", ["gain", "paper_gain"]].eq(0).all(axis=None)
    assert table.loc["base model", "ARC-Easy"][["paper", "ours", "seeds"]].tolist() == [66.31, 30.0, 0]
    assert table.loc["T-REX", "paper"].isna().all() and table.loc["T-REX", "ours"].notna().all()
    assert table.loc["HydraLoRA (4)", "average"]["paper"] == pytest.approx(59.63, abs=0.01)
    assert len(table) == 6 * (1 + len(LABELS))
    assert "Table 2 side by side" in found.tables and "table_2" in found.numbers
    assert isinstance(found.plot(), Figure) and found.interactive().data


def test_one_data_set_alone_has_no_average_and_is_judged_over_seeds():
    found = made_up({"S'MoRE (4-4)": 0.1}, datasets=("commonsense_qa",))
    assert set(found.beside_paper["dataset"]) == {"commonsense_qa"}
    claim = next(claim for claim in claims(found) if claim.name.startswith("smore_table2_4-4"))
    assert {part.verdict for part in claim.parts} == {"reproduced"}
    assert {part.over for part in claim.parts} == {"6 seeds on one data set"}
    assert isinstance(found.plot(), Figure)


def test_one_seed_is_drawn_without_intervals_and_decides_nothing():
    found = made_up({}, seeds=1, datasets=("commonsense_qa",))
    assert found.beside_paper[["low", "high", "gain_low"]].isna().all(axis=None)
    assert isinstance(found.plot(), Figure) and found.interactive().data
    assert {part.verdict for claim in claims(found) for part in claim.parts} == {"not testable here"}


def test_a_table_of_other_data_sets_is_refused():
    with pytest.raises(ValueError, match="compact holds runs on .*add_small.* pass it to measure_table"):
        measure_table_2("compact")


def test_without_a_base_model_on_the_same_rows_learning_is_not_testable():
    found = made_up({})
    bare = replace(found, levels=found.levels.assign(untrained=np.nan))
    whole = claims(bare)[-2]
    assert {part.verdict for part in whole.parts} == {"not testable here"}
    assert {part.verdict for part in claims(found)[-2].parts} == {"reproduced"}
    assert isinstance(bare.plot(), Figure)


@pytest.mark.parametrize("gain, word", [(0.1, "reproduced"), (0.0, "not reproduced"), (-0.1, "contradicted")])
def test_both_sizes_of_smore_are_judged_against_every_version_of_the_others(gain, word):
    found = claims(made_up({"S'MoRE (2-2)": gain, "S'MoRE (4-4)": gain}))
    told = {claim.name: claim for claim in found if claim.kind == "paper" and "trained" not in claim.name}
    assert list(told) == [f"smore_table2_{size}_in_distribution" for size in ("2-2", "4-4")]
    for claim in told.values():
        others = [part.compares.partition(" - ")[2] for part in claim.parts]
        assert others == ["LoRA", "HydraLoRA (4)", "MixLoRA (4)", "MixLoRA (8)"]
        assert {part.verdict for part in claim.parts} == {word}
    last = told["smore_table2_4-4_in_distribution"].parts[-1]
    assert last.paper_effect == pytest.approx(paper_gain("S'MoRE (4-4)", "MixLoRA (8)", DATASETS))
    assert last.smallest == pytest.approx(last.paper_effect / 2) and last.paper_effect == pytest.approx(
        0.0096, abs=1e-4
    )


def test_the_papers_gain_is_that_on_the_tasks_that_count():
    assert paper_gain("S'MoRE (4-4)", "LoRA", ["commonsense_qa"]) == pytest.approx(0.0336)
    assert np.isnan(paper_gain("T-REX", "LoRA", DATASETS)) and np.isnan(paper_gain("LoRA", "LoRA", []))
    # the paper is not ahead of LoRA there, so a declared effect is used in place of half of its own
    alone = made_up({"S'MoRE (4-4)": 0.1}, datasets=("ARC-Easy",))
    part = next(claim for claim in claims(alone) if "4-4" in claim.name).parts[0]
    assert part.paper_effect is None and part.smallest == 0.01


def test_a_table_without_a_system_of_table_2_is_refused():
    with pytest.raises(ValueError, match="smollm2_optimizers holds runs of AdamW, .* Table 2 is about LoRA, HydraLoRA"):
        measure_table_2("smollm2_optimizers")


def test_t_rex_is_a_hypothesis_of_ours_on_these_data_sets_at_both_sizes():
    found = made_up({"T-REX": 0.1, "T-REX, smaller": -0.1})
    own = [claim for claim in claims(found) if claim.kind == "own"]
    told = {
        claim.name.removesuffix("_in_distribution"): claim
        for claim in own
        if claim.source == "our hypothesis about T-REX"
    }
    words = {name: claim.verdict for name, claim in told.items()}
    assert words == {
        "smore_table2_trex": "supported",
        "smore_table2_trex_smaller": "not supported",
        "smore_table2_trex_intuition": "supported",
    }
    assert [part.compares for part in told["smore_table2_trex_smaller"].parts] == [
        "T-REX, smaller - LoRA",
        "T-REX, smaller - LoRA-MoE",
    ]
    without = replace(found, scores=found.scores[found.scores["method"].isin(PAPER)])
    assert {claim.kind for claim in claims(without)} == {"paper"}


def test_that_a_system_learns_is_the_papers_claim_only_where_its_table_has_the_system():
    paper, own = claims(made_up({}))[-2:]
    assert [part.compares for part in paper.parts] == [f"{name} - base model" for name in LABELS if name in PAPER]
    assert [part.compares for part in own.parts] == [f"{name} - base model" for name in LABELS if name not in PAPER]
    assert (paper.kind, own.kind) == ("paper", "own") and "T-REX" not in paper.statement and "T-REX" in own.statement
    assert {part.source for part in own.parts} == {"our check of the training"}


def test_a_table_of_one_data_set_is_an_item_of_its_own_and_systems_stand_in_the_papers_order():
    alone = measure_table_2("smollm2_commonsense")
    assert (alone.item, alone.rates.item) == ("smore_table2_alone", "smore_table2_alone_rates")
    assert {claim.source for claim in claims(alone)} == {"S'MoRE Table 2, one data set alone"}
    together = measure_table_2("smollm2_table2")
    assert (together.item, together.rates.item) == ("smore_table2", "smore_table2_rates")
    for found in (alone, together):
        assert found.methods == found.rates.chosen["method"].tolist()
        assert [name for name in found.methods if name in PAPER] == [name for name in PAPER if name in found.methods]


def test_the_smaller_t_rex_and_every_mixture_reach_their_claims():
    found = of_t_rex({"T-REX, smaller": 0.1, "MixLoRA (8)": 0.1})
    joint = next(claim for claim in trex_claims(found) if claim.name.startswith("trex_headline_smaller"))
    assert [part.compares for part in joint.parts][:2] == ["T-REX, smaller - LoRA", "T-REX, smaller - LoRA-MoE"]
    assert joint.parts[0].verdict == "reproduced"
    own = {claim.name: claim.verdict for claim in task_claims(SystemTasks(**shared(found)))}
    assert list(own) == [
        f"own_{label}_in_distribution" for label in ("LoRA-MoE", "HydraLoRA_(4)", "MixLoRA_(4)", "MixLoRA_(8)")
    ]
    assert own["own_MixLoRA_(8)_in_distribution"] == "supported"


def test_the_strongest_reference_is_looked_for_among_all_versions():
    found = made_up({"MixLoRA (8)": 0.48})
    assert not found.tasks["kept"].any() and found.tasks["reference"].gt(0.95).all()
