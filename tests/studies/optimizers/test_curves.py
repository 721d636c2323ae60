"""Comparisons of optimizers on runs whose differences are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.optimizers.curves import (
    at_best_rates,
    best_rates,
    outcomes,
    progress_curves,
    relative_gains,
    runs_at,
)
from moe_analysis.studies.records import seed_bands
from tests.studies.fake_runs import fake_run

FORMS = ("SGD", "RSGD", "gSGD", "gRSGD")


def run(method: str, seed: int, start: float, tested: float = 2.0, accuracy: float = 0.5, lr: float = 0.1):
    """Losses fall by 1 from `start` in 40 steps; two evaluations."""
    one = fake_run(np.zeros((2, 3, 4)), method, seed, losses=np.linspace(start, start - 1, 40))
    tests = pd.DataFrame({"step": [20, 40], "split": "test", "loss": [tested + 1, tested], "accuracy": [0.1, accuracy]})
    one.history = pd.concat([one.history[one.history["split"] == "train"], tests], ignore_index=True)
    one.config.lr = lr
    one.config.steps = 40
    return one


def four(gap: float, spread: float = 0.01, seeds=(0, 1, 2)):
    """SGD, RSGD, gSGD and gRSGD, each by `gap` lower than the one before, with a little noise over seeds."""
    rng = np.random.default_rng(0)
    return [
        run(
            method,
            seed,
            3.0 - gap * index + seed + spread * rng.standard_normal(),
            2.0 - gap * index + seed,
            0.3 + gap * index / 10,
        )
        for index, method in enumerate(FORMS)
        for seed in seeds
    ]


def test_curves_hold_every_training_step_and_every_evaluation():
    curves = progress_curves([run("RSGD", 0, 3.0)], window=1)
    steps = curves.groupby("measure", sort=False)["step"].apply(list).to_dict()
    assert steps == {"train loss": list(range(1, 41)), "eval loss": [20, 40], "eval accuracy": [20, 40]}
    assert curves.loc[curves["measure"] == "eval accuracy", "value"].tolist() == [0.1, 0.5]


def test_bands_hold_the_seeds_extremes():
    curves = progress_curves([run("RSGD", 0, 3.0), run("RSGD", 1, 5.0)], window=1)
    bands = seed_bands(curves, ["measure", "method", "step"])
    first = bands[(bands["measure"] == "train loss") & (bands["step"] == 1)].iloc[0]
    assert first[["mean", "low", "high", "seeds"]].tolist() == [4.0, 3.0, 5.0, 2]


def test_outcomes_are_the_last_evaluation_and_the_area_under_the_loss():
    row = outcomes([run("RSGD", 0, 3.0, tested=1.5, accuracy=0.7)]).iloc[0]
    assert row["mean_loss"] == pytest.approx(2.5)
    assert row[["lr", "loss", "accuracy"]].tolist() == [0.1, 1.5, 0.7]


def test_a_run_that_diverged_has_infinite_losses_and_no_accuracy():
    runs = four(0.5)
    runs[-1].history.loc[5:, "loss"] = np.nan
    last = outcomes(runs).iloc[-1]
    assert np.isinf(last[["mean_loss", "loss"]].astype(float)).all() and np.isnan(last["accuracy"])


def tried(losses: dict[float, float], method: str = "RSGD", seeds=(0, 1)) -> list:
    """Runs of one method with a held-out loss for each learning rate."""
    return [run(method, seed, 3.0, tested=loss + 0.1 * seed, lr=lr) for lr, loss in losses.items() for seed in seeds]


def test_a_methods_best_rate_is_that_of_least_held_out_loss():
    runs = tried({0.1: 2.0, 0.2: 1.0, 0.4: np.inf})
    table = best_rates(outcomes(runs))
    assert table.iloc[0][["lr", "loss"]].tolist() == pytest.approx([0.2, 1.05])
    assert table["tried"].iloc[0] == (0.1, 0.2, 0.4) and table["tuning_seeds"].iloc[0] == 2
    assert [one.config.lr for one in runs_at(runs, table)] == [0.2, 0.2]
    assert at_best_rates(outcomes(runs))["seed"].tolist() == [0, 1]


def test_only_seeds_that_every_rate_has_choose_and_the_others_are_compared():
    runs = [*tried({0.1: 2.0, 0.2: 1.0}), *tried({0.1: 0.0}, seeds=(7,)), *tried({0.2: 5.0}, seeds=(8, 9))]
    table = outcomes(runs)
    assert best_rates(table)["lr"].tolist() == [0.2]
    assert at_best_rates(table)["seed"].tolist() == [8, 9]


def test_rates_without_a_common_seed_are_refused():
    table = outcomes([*tried({0.1: 2.0}, seeds=(0,)), *tried({0.2: 1.0}, seeds=(1,))])
    with pytest.raises(ValueError, match="the learning rates of RSGD have no common seed; run one seed at all of them"):
        best_rates(table)


@pytest.mark.parametrize(
    "runs, message",
    [
        ([], "runs is empty"),
        ([run("RSGD", 0, 3.0), run("RSGD", 0, 3.0)], "more than one run of 'RSGD' with seed 0 at lr 0.1"),
    ],
)
def test_runs_that_cannot_be_told_apart_are_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        outcomes(runs)


def test_runs_of_several_lengths_are_refused():
    short, long = run("RSGD", 0, 3.0), run("RSGD", 1, 3.0)
    long.config.steps = 80
    with pytest.raises(ValueError, match="runs holds runs of 40, 80 steps; pass runs of the same length"):
        outcomes([short, long])


def test_a_gain_over_a_run_that_diverged_is_no_gain():
    first, second = pd.Series({0: 0.5, 1: 0.5, 2: np.inf, 5: 1.0}), pd.Series({2: np.inf, 1: np.inf, 0: 1.0})
    found = relative_gains(first, second)
    assert found[0] == pytest.approx(0.5) and np.isnan(found[1:]).all() and len(found) == 3
