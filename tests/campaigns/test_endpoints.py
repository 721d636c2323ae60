"""Which tasks count is settled by rows held out of train, and by the strongest reference alone."""

from __future__ import annotations

import numpy as np
import pytest

from moe_analysis.campaigns.campaign import FINAL, TUNE, Campaign
from moe_analysis.campaigns.endpoints import endpoint_table, strongest_reference, system_means, task_table
from moe_analysis.campaigns.files import campaign_of
from moe_analysis.campaigns.row import configuration_digest, packed
from moe_analysis.training.config import TrainConfig
from tests.campaigns.made_up import made_up
from tests.campaigns.made_up_campaigns import sections_of

ROWS = 20
RULE = {
    "endpoints__parts": {"choosing": {"datasets": ["choose"]}, "saying": {"datasets": ["say"]}},
    "endpoints__references": ["LoRA", "MixLoRA"],
    "endpoints__floor": 0.2,
    "endpoints__ceiling": 0.9,
}


@pytest.fixture
def campaign(backbone: str, suite: str) -> Campaign:
    return campaign_of(sections_of(backbone, suite, tune__grid={"lr": [0.001, 0.01]}, **RULE))


def row_of(config: TrainConfig, stage: str, choose: float, say: float) -> dict:
    """The row of a run that answers these shares of both data sets right."""
    right = [packed(np.arange(ROWS) < share * ROWS) for share in (choose, say)]
    row = made_up(config.seed, str(config.name), configuration=configuration_digest(config), stage=stage)
    counts = {"rows": [ROWS] * 2, "datasets": ["choose", "say"], "suites": [config.suite] * 2}
    return {**row, **counts, "correct": right, "correct_norm": right, "losses": [1.0, 1.0]}


def tuned(campaign: Campaign, best: dict[str, tuple[float, float]]) -> list[dict]:
    """A table of a complete tuning: the second rate of every system as given, the first with nothing right."""
    return [
        row_of(one, TUNE, *(best[str(one.name)] if one.lr == 0.01 else (0, 0))) for one in campaign.tuning_configs()
    ]


@pytest.mark.parametrize(
    "strong, kept",
    [
        ((0.8, 0.5), [True, True]),
        ((0.95, 0.5), [False, True]),
        ((0.9, 0.1), [True, False]),
        ((0.3, 0.95), [False, False]),
    ],
)
def test_a_task_at_floor_or_ceiling_of_the_strongest_reference_is_left_out(campaign, strong, kept) -> None:
    rows = tuned(campaign, {"LoRA": (0.5, 0.0), "MixLoRA": strong})
    assert strongest_reference(campaign, rows) == "MixLoRA"
    table = task_table(campaign, rows)
    assert table["reference"].tolist() == pytest.approx(list(strong))
    assert table["kept"].tolist() == kept and table["part"].tolist() == ["choosing", "saying"]


def test_while_a_reference_is_not_tuned_nothing_is_left_out(campaign: Campaign) -> None:
    rows = tuned(campaign, {"LoRA": (1.0, 1.0), "MixLoRA": (1.0, 1.0)})[:-1]
    assert strongest_reference(campaign, rows) is None and task_table(campaign, rows)["kept"].all()


def test_no_outcome_of_a_final_run_moves_the_rule(campaign: Campaign) -> None:
    rows = tuned(campaign, {"LoRA": (0.5, 0.5), "MixLoRA": (0.8, 0.5)})
    finals = [row_of(campaign.config(FINAL, label, (0.01,), 0), FINAL, 1.0, 0.0) for label in campaign.systems]
    assert task_table(campaign, [*rows, *finals]).equals(task_table(campaign, rows))
    table = endpoint_table(campaign, [*rows, *finals])
    assert table[["part", "accuracy"]].drop_duplicates().values.tolist() == [["choosing", 1.0], ["saying", 0.0]]


def test_runs_of_a_cell_that_was_not_chosen_are_no_part_of_the_means(campaign: Campaign) -> None:
    rows = tuned(campaign, {"LoRA": (0.5, 0.5), "MixLoRA": (0.8, 0.5)})
    other = row_of(campaign.config(FINAL, "LoRA", (0.001,), 0), FINAL, 1.0, 1.0)
    mine = row_of(campaign.config(FINAL, "LoRA", (0.01,), 1), FINAL, 0.25, 0.5)
    means = system_means(campaign, [*rows, other, mine])
    assert means.values.tolist() == [["LoRA", 1, 0.25, 0.5]]


def test_before_any_final_run_there_are_no_means(campaign: Campaign) -> None:
    assert system_means(campaign, []).empty
