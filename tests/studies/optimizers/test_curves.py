"""Comparisons of optimisers on runs whose differences are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.analysis.optimizers import (
    ORDERS,
    comparison_claims,
    curve_bands,
    figure2_claims,
    figure3_claims,
    identical,
    outcomes,
    progress_curves,
    step_claims,
)

from .fake_runs import fake_run

FORMS = ("SGD", "RSGD", "gSGD", "gRSGD")


def run(method: str, seed: int, start: float, tested: float = 2.0, accuracy: float = 0.5):
    """Losses fall by 1 from `start` in 40 steps; two evaluations."""
    one = fake_run(np.zeros((2, 3, 4)), method, seed, losses=np.linspace(start, start - 1, 40))
    tests = pd.DataFrame({"step": [20, 40], "split": "test", "loss": [tested + 1, tested], "accuracy": [0.1, accuracy]})
    one.history = pd.concat([one.history[one.history["split"] == "train"], tests], ignore_index=True)
    one.config.lr = 0.1
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
    bands = curve_bands(progress_curves([run("RSGD", 0, 3.0), run("RSGD", 1, 5.0)], window=1))
    first = bands[(bands["measure"] == "train loss") & (bands["step"] == 1)].iloc[0]
    assert first[["mean", "low", "high", "seeds"]].tolist() == [4.0, 3.0, 5.0, 2]


def test_outcomes_are_the_last_evaluation_and_the_area_under_the_loss():
    row = outcomes([run("RSGD", 0, 3.0, tested=1.5, accuracy=0.7)]).iloc[0]
    assert row["mean_loss"] == pytest.approx(2.5)
    assert row[["lr", "loss", "accuracy"]].tolist() == [0.1, 1.5, 0.7]


def test_a_run_that_diverged_has_infinite_losses_and_decides_nothing():
    runs = four(0.5)
    runs[-1].history.loc[5:, "loss"] = np.nan
    table = outcomes(runs)
    assert np.isinf(table.iloc[-1][["mean_loss", "loss"]].astype(float)).all()
    verdicts = comparison_claims(table, [("gRSGD", "RSGD")], "mean_loss", "2", "", "")["verdict"]
    assert verdicts.tolist() == ["not testable at this scale"]


@pytest.mark.parametrize(("gap", "verdict"), [(0.5, "reproduced"), (0.0, "not reproduced"), (-0.5, "not reproduced")])
def test_an_order_is_reproduced_only_when_the_paired_differences_are_clear(gap, verdict):
    claims = figure3_claims(outcomes(four(gap)), "SGD")
    assert claims["verdict"].tolist() == [verdict] * len(ORDERS["SGD"])
    assert claims["claim"].iloc[0] == "gRSGD trains to a lower loss than RSGD"


def test_two_seeds_decide_nothing():
    assert set(figure3_claims(outcomes(four(0.5, seeds=(0, 1))), "SGD")["verdict"]) == {"not testable at this scale"}


def test_a_higher_accuracy_counts_as_better_and_is_reported_with_its_own_sign():
    claims = figure2_claims(outcomes(four(0.5))).set_index("claim")
    accuracy = claims.loc["gate rescaling gives a higher test accuracy"]
    assert accuracy["verdict"] == "reproduced" and "difference +0.100" in accuracy["spread"]
    worse = figure2_claims(outcomes(four(-0.5))).set_index("claim")
    assert worse.loc["gate rescaling gives a higher test accuracy", "verdict"] == "not reproduced"


def test_every_condition_is_judged_on_training_and_test_loss():
    pairs = {"at equal effective steps": ("gRSGD", "RSGD"), "upside down": ("RSGD", "gRSGD")}
    claims = step_claims(outcomes(four(0.5)), pairs)
    assert claims["verdict"].tolist() == ["reproduced"] * 2 + ["not reproduced"] * 2
    assert claims["claim"].iloc[1] == "gate rescaling lowers the test loss at equal effective steps (beyond the paper)"


def test_identical_runs_are_told_from_runs_that_differ_in_one_bit():
    first, second = run("RSGD", 0, 3.0), run("gRSGD", 0, 3.0)
    assert identical(first, second)["verdict"] == "reproduced"
    second.history.loc[3, "loss"] = np.nextafter(second.history.loc[3, "loss"], 9.0)
    assert identical(first, second)["verdict"] == "not reproduced"
