"""Loss curves of known shape and their summaries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.convergence import (
    accuracy_by_dataset,
    accuracy_by_role,
    common_target,
    convergence,
    loss_bands,
    loss_curves,
)
from tests.studies.fake_runs import fake_run

WEIGHTS = np.zeros((2, 2, 3))


def run(losses, method="T-REX", seed=0, **options):
    return fake_run(WEIGHTS, method, seed, losses=losses, **options)


def test_curves_hold_the_tasks_loss_of_every_training_step_and_no_test_row():
    curves = loss_curves([run([3.0, 2.0, 1.0], balance=0.5)], window=1)
    assert curves["loss"].tolist() == curves["smoothed"].tolist() == [3.0, 2.0, 1.0]
    assert curves["step"].tolist() == [1, 2, 3]


def test_smoothing_is_a_centred_mean_that_shortens_at_the_ends():
    curves = loss_curves([run([6.0, 3.0, 0.0, 3.0])], window=3)
    assert curves["smoothed"].tolist() == pytest.approx([4.5, 3.0, 2.0, 1.5])


def test_smoothing_leaves_a_straight_line_straight_away_from_its_ends():
    curves = loss_curves([run(np.linspace(5, 1, 41))], window=9)
    np.testing.assert_allclose(curves["smoothed"][4:-4], curves["loss"][4:-4])


def test_bands_span_the_seeds():
    bands = loss_bands(loss_curves([run([1.0, 1.0], seed=0), run([2.0, 5.0], seed=1)], window=1))
    assert bands[["mean", "low", "high", "seeds"]].values.tolist() == [[1.5, 1.0, 2.0, 2], [3.0, 1.0, 5.0, 2]]


def test_the_common_target_is_reached_by_every_run():
    curves = loss_curves([run([3.0, 2.0, 1.0]), run([3.0, 2.5, 2.0], "LoRA-MoE")], window=1)
    assert common_target(curves) == 2.0
    steps = convergence(curves).set_index("method")["steps_to_target"]
    assert steps.to_dict() == {"T-REX": 2.0, "LoRA-MoE": 3.0}


def test_a_target_that_is_never_reached_has_no_step():
    assert np.isnan(convergence(loss_curves([run([3.0, 2.0])], window=1), target=1.0)["steps_to_target"][0])


def test_the_mean_loss_is_the_area_under_the_curve_by_its_span():
    row = convergence(loss_curves([run([4.0, 2.0, 0.0])], window=1)).iloc[0]
    assert row["mean_loss"] == pytest.approx((3.0 + 1.0) / 2)
    assert row["final_loss"] == 0.0
    assert row["roughness"] == 0.0


def test_a_jagged_curve_is_rougher_than_a_smooth_one_of_the_same_area():
    smooth, jagged = np.full(40, 2.0), 2.0 + 0.5 * (-1.0) ** np.arange(40)
    table = convergence(loss_curves([run(smooth), run(jagged, "LoRA-MoE")]), target=9.0).set_index("method")
    assert table.loc["T-REX", "roughness"] == pytest.approx(0.0)
    assert table.loc["LoRA-MoE", "roughness"] == pytest.approx(0.5, rel=0.1)


def test_a_window_below_one_is_refused():
    with pytest.raises(ValueError, match="window = 0"):
        loss_curves([run([1.0])], window=0)


def test_a_run_without_training_steps_is_refused():
    with pytest.raises(ValueError, match="the run of T-REX, seed 0, has no training step"):
        loss_curves([run([])])


EVALUATION = pd.DataFrame(
    {
        "dataset": ["add", "add_over", "sort"],
        "accuracy": [1.0, 0.2, 0.6],
        "loss": [0.1, 0.9, 0.5],
        "rows": [10, 1000, 10],
    }
)


def test_accuracy_by_role_weighs_data_sets_equally():
    roles = {"add": "original", "sort": "original", "add_over": "variant"}
    table = accuracy_by_role([run([1.0], evaluation=EVALUATION)], roles).set_index("role")
    assert table["accuracy"].to_dict() == pytest.approx({"original": 0.8, "variant": 0.2, "all": 0.6})
    assert table["datasets"].to_dict() == {"original": 2, "variant": 1, "all": 3}


def test_accuracy_by_role_takes_the_series_that_the_suite_gives():
    roles = pd.Series(["original", "variant", "original"], index=["add", "add_over", "sort"])
    assert set(accuracy_by_role([run([1.0], evaluation=EVALUATION)], roles)["role"]) == {"original", "variant", "all"}


def test_a_data_set_without_a_role_is_named():
    with pytest.raises(ValueError, match="roles has no entry for add_over, sort"):
        accuracy_by_role([run([1.0], evaluation=EVALUATION)], {"add": "original"})


def test_accuracy_stands_beside_guessing_as_the_mean_over_seeds():
    columns = {"chance": [0.5, np.nan, 0.25], "majority": [0.6, 0.1, 0.3]}
    guessing = pd.DataFrame(columns, index=["add", "add_over", "sort"])
    other = EVALUATION.assign(accuracy=[0.8, 0.0, 0.4])
    table = accuracy_by_dataset([run([1.0], evaluation=EVALUATION), run([1.0], seed=1, evaluation=other)], guessing)
    assert table.columns.tolist() == ["chance", "majority", "T-REX"]
    assert table["T-REX"].to_dict() == pytest.approx({"add": 0.9, "add_over": 0.1, "sort": 0.5, "mean": 0.5})
    assert table.loc["mean", "chance"] == pytest.approx(0.375)
    with pytest.raises(ValueError, match="guessing has no row for sort"):
        accuracy_by_dataset([run([1.0], evaluation=EVALUATION)], guessing.drop("sort"))
