"""T-REX's Fig. 3 on a pretrained model, from a stored table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from moe_analysis.studies import budgets, systems
from moe_analysis.studies.systems import measure_pretrained
from moe_analysis.studies.systems.claims import LORA_BASED
from moe_analysis.studies.systems.scores import INSIDE, OUTSIDE
from moe_analysis.studies.systems.table_2 import DATASETS

from .test_measure import configured, stored_row
from .test_scores import INSIDE_TASKS, OOD_TASKS

STUDY = "smollm2_multitask"
NAMES = [*INSIDE_TASKS, *(f"bbh_{name}" for name in OOD_TASKS)]
SHARES = {"LoRA": 0.5, "LoRA-MoE": 0.5, "SiRA": 0.5, "mix-and-match": 0.5, "T-REX": 0.9}


def of_tasks(row: dict) -> dict:
    """The row of a suite without originals and variants, whose last task outside has no choices, in a table of the
    campaign that ships and chooses by loss."""
    count = len(row["datasets"])
    chances = [0.1] * count
    if count == len(NAMES):
        chances[-1] = np.nan
    roles = ["task" if name in INSIDE_TASKS else "ood" for name in row["datasets"]]
    row = configured(row, backbone="smollm2-135m")
    return {**row, "study": STUDY, "datasets": NAMES[:count], "roles": roles, "chances": chances}


def table(shares: dict[str, float], seeds: int = 4) -> pd.DataFrame:
    rows = [stored_row("base model", 0, 0.1, stage="base")]
    for method, right in shares.items():
        for lr, tuned, loss in (
            (0.001, 0.3, 2.4),
            (0.01, 0.4, 2.0),
            (0.1, 0.8, 6.0),
        ):  # the last is lucky, and diverges
            row = configured(stored_row(method, 100, tuned, "tune", str(lr)), lr=lr)
            rows.append(row | {"losses": [loss] * len(row["datasets"])})
        rows += [configured(stored_row(method, seed, right), lr=0.01) for seed in range(seeds)]
    return pd.DataFrame([of_tasks(row) for row in rows])


def test_a_table_on_the_compact_backbone_is_no_pretrained_model():
    told = "compact holds runs on the backbone 'compact'.*use ma.studies.systems.measure_table"
    with pytest.raises(ValueError, match=told):
        measure_pretrained("compact")


def test_the_stored_table_becomes_the_figure_with_its_claims_and_its_grid():
    found = measure_pretrained(table(SHARES))
    told = {claim.name: claim for claim in found.judged}
    assert list(told) == [
        "trex_pretrained_headline_in_distribution",
        "trex_pretrained_fig3_transfer",
        "trex_pretrained_intuition_in_distribution",
        "trex_pretrained_intuition_transfer",
        "trex_pretrained_trained_in_distribution",
        "trex_pretrained_trained_transfer",
    ]
    headline = told["trex_pretrained_headline_in_distribution"]
    assert [part.compares for part in headline.parts] == [f"T-REX - {other}" for other in LORA_BASED]
    assert {part.verdict for part in headline.parts} == {"reproduced"}
    assert told["trex_pretrained_intuition_transfer"].verdict == "supported"
    assert {part.verdict for part in told["trex_pretrained_trained_transfer"].parts} == {"supported"}
    assert all("on a pretrained model" in claim.source for claim in told.values())
    assert "authors" not in found.numbers and isinstance(found.plot(), Figure)


def test_the_grid_is_drawn_by_the_loss_that_chose_and_its_least_is_ringed():
    rates = measure_pretrained(table(SHARES)).rates
    assert rates.item == "trex_fig3_pretrained_rates" and rates.judged[0].verdict == "holds"
    assert rates.choose_by == "loss" and set(rates.chosen["lr"]) == {0.01} and set(rates.chosen["loss"]) == {2.0}
    panel = rates.plot().axes[0]
    assert panel.get_ylabel() == "held-out loss (nats per token)" and panel.get_yscale() == "log"
    level, curve, ring = panel.lines
    assert set(level.get_ydata()) == {2.0} and ring.get_xydata().tolist() == [[0.01, 2.0]]
    assert curve.get_xydata().tolist() == [[0.001, 2.4], [0.01, 2.0], [0.1, 6.0]]
    page = rates.interactive()
    assert set(page.data[-1].y) == {2.0} and page.layout.yaxis.title.text == "held-out loss (nats per token)"


@pytest.mark.parametrize(
    "measuring", [measure_pretrained, systems.measure_table, systems.measure_table_2, budgets.measure_table]
)
def test_every_reader_of_a_table_takes_what_its_campaign_chose_by_and_refuses_final_runs_of_another_choice(measuring):
    rows = table(SHARES)
    if measuring is systems.measure_table_2:
        rows["datasets"] = [[*DATASETS, *names[len(DATASETS) :]] for names in rows["datasets"]]
    found = measuring(rows)
    assert found.scores.equals(measuring(rows, choose_by="loss").scores)
    assert set(found.scores["seed"]) == set(range(4)) and "left out (of" not in found.origin
    with pytest.raises(
        ValueError, match=r"no final run that counts \(20 final runs of .* left out \(of LoRA, LoRA-MoE, "
    ):
        measuring(rows, choose_by="accuracy")


def test_systems_that_are_behind_contradict_the_headline():
    found = measure_pretrained(table(SHARES | {"T-REX": 0.2}))
    told = {claim.name: claim for claim in found.judged}
    assert {part.verdict for part in told["trex_pretrained_fig3_transfer"].parts} == {"contradicted"}


def test_tasks_outside_without_choices_are_left_out_and_counted():
    found = measure_pretrained(table(SHARES))
    outside = found.scores[found.scores["part"] == OUTSIDE]
    assert set(outside["dataset"]) == set(NAMES[len(INSIDE_TASKS) : -1])
    assert set(found.levels["dataset"]) == set(NAMES[:-1])
    assert found.scores[found.scores["part"] == INSIDE]["dataset"].nunique() == len(INSIDE_TASKS)
    assert "1 out-of-distribution task without choices left out" in found.origin


def test_rows_of_the_drawings_do_not_repeat_what_all_names_begin_with():
    found = measure_pretrained(table(SHARES))
    shown = [label.get_text() for axis in found.plot().axes for label in axis.get_yticklabels()]
    assert any(text.endswith(" 1") for text in shown) and not any("bbh" in text for text in shown)


def test_a_table_without_tasks_outside_is_refused():
    rows = table({"LoRA": 0.5, "T-REX": 0.6}, seeds=2)
    rows["chances"] = [[np.nan if name.startswith("bbh_") else 0.1 for name in names] for names in rows["datasets"]]
    with pytest.raises(ValueError, match=rf"{STUDY} has no test on tasks with choices.* transfer_suites: \[bbh\]"):
        measure_pretrained(rows)
