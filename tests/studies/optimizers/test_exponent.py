"""Analyses of the regression bench on runs whose answer is planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from moe_analysis.studies.optimizers import exponent

SEEDS, TUNING, LRS = (0, 1, 2, 3), (8, 9), tuple(0.02 * 2.0**i for i in range(9))


def rows(loss, powers=(1.0, 0.5), temperatures=(1.0,), top_ks=(4,), seeds=SEEDS) -> pd.DataFrame:
    """Runs with loss(power, temperature, k, seed); the entropy is the temperature."""
    table = [
        ("RSGD" if p == 1 else "gRSGD", p, k, t, 0.1, seed, loss(p, t, k, seed), t)
        for p in powers
        for t in temperatures
        for k in top_ks
        for seed in seeds
    ]
    return pd.DataFrame(table, columns=[*exponent.KEYS, "loss", "entropy"])


def curves(factor: float = 2.0, gain: float = 0.0, noise: float = 0.0) -> pd.DataFrame:
    """A parabola in log lr about 0.64; the rescaled one is `factor` ahead and `gain` higher."""
    rng = np.random.default_rng(0)
    table = [
        (method, seed, lr, 0.5 + 0.02 * (np.log(lr * ahead / 0.64) + 0.01 * seed) ** 2 + up + noise * rng.normal())
        for method, ahead, up in (("RSGD", 1.0, 0.0), ("gRSGD", factor, gain))
        for seed in (*SEEDS, *TUNING)
        for lr in LRS
    ]
    return pd.DataFrame(table, columns=["method", "seed", "lr", "loss"])


def matched(frame: pd.DataFrame, lr: float, at: float) -> pd.DataFrame:
    runs = frame[(frame["method"] == "RSGD") & np.isclose(frame["lr"], at)]
    last = runs.assign(round=2, step_ratio=1.01, reference=lr)
    return pd.concat([last.assign(round=0, loss=9.0, step_ratio=2.0), last])


def test_a_run_is_its_last_error_and_its_mean_entropy():
    history = pd.DataFrame(
        {
            "method": "RSGD",
            "power": 1.0,
            "top_k": 4,
            "temperature": 1.0,
            "lr": 0.1,
            "seed": [0, 0, 1, 1],
            "step": [10, 0, 0, 10],
            "validation_mse": [0.4, 1.0, 1.0, np.inf],
            "gate_entropy": [0.6, 0.8, 0.5, np.nan],
            "load_balance": [0.9, 1.0, 1.0, np.nan],
            "effective_step": [0.2, 0.0, 0.0, np.inf],
            "diverged": [False, False, False, True],
        }
    )
    found = exponent.run_rows(history).set_index("seed")
    assert found.loc[0, ["loss", "entropy", "load_balance"]].tolist() == pytest.approx([0.4, 0.7, 0.9])
    assert found.loc[1, "loss"] == np.inf and found["diverged"].tolist() == [False, True]
    assert "reference" in exponent.run_rows(history.assign(round=0, step_ratio=1.0, reference=0.1))


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=6))
def test_gaps_are_those_of_a_paired_t_test(pairs):
    first, second = (pd.DataFrame({"seed": range(len(pairs)), "loss": values}) for values in zip(*pairs))
    gap = exponent.paired_gap(first, second.iloc[::-1])
    interval = ttest_rel(first["loss"], second["loss"]).confidence_interval()
    assert gap["difference"] == pytest.approx((first["loss"] - second["loss"]).mean(), abs=1e-12)
    if first["loss"].sub(second["loss"]).std() > 1e-9:
        assert (gap["low"], gap["high"]) == pytest.approx(tuple(interval), abs=1e-9)
    assert gap["seeds"] == len(pairs) and gap["diverged"] == 0


def test_a_diverged_seed_leaves_a_comparison_undecided():
    gap = exponent.paired_gap(
        pd.DataFrame({"seed": [0, 1, 2], "loss": [0.1, np.inf, 0.1]}),
        pd.DataFrame({"seed": [0, 1, 2, 5], "loss": [0.9, 0.9, 0.9, 0.9]}),
    )
    assert gap["diverged"] == 1 and gap["seeds"] == 3 and np.isnan([gap["difference"], gap["low"], gap["high"]]).all()


def test_counts_of_experts_stand_beside_the_reproductions_numbers():
    table = exponent.expert_count_table(
        rows(lambda p, t, k, seed: 0.5 + 0.01 * seed + 0.1 * (p - 1) * (k > 1), top_ks=(1, 2, 3))
    )
    assert table["identical"].tolist() == [True, False, False]
    assert table["difference"].tolist() == pytest.approx([0, -0.05, -0.05])
    assert table.loc[1, ["paper_rsgd", "paper_grsgd"]].tolist() == [0.577, 0.545]
    assert table.loc[2, ["paper_rsgd", "paper_grsgd"]].isna().all()


def test_a_last_bit_of_difference_is_not_identical():
    runs = rows(lambda p, t, k, seed: 0.5 if p == 1 else np.nextafter(0.5, 1), top_ks=(1,))
    table = exponent.expert_count_table(runs)
    assert not table["identical"].iloc[0]


def test_exponents_are_compared_with_the_plain_one_of_their_temperature():
    table = exponent.exponent_table(
        rows(
            lambda p, t, k, seed: t + seed + (1 - p) * (0.1 if t > 0.5 else -0.1) + 0.001 * seed * (1 - p),
            (1.0, 0.5, 0.0),
            (0.9, 0.1),
        )
    )
    assert table["entropy"].tolist() == pytest.approx([0.1] * 3 + [0.9] * 3)
    assert table["power"].tolist() == [1.0, 0.5, 0.0] * 2
    assert table["difference"].tolist() == pytest.approx([0, -0.04925, -0.0985, 0, 0.05075, 0.1015])
    assert table["decided"].tolist() == [False, True, True] * 2


def test_the_best_exponent_has_those_beside_it_that_are_as_good():
    def loss(p: float, t: float, k: int, seed: int) -> float:
        return {1.0: 0.5, 0.5: 0.4, 0.25: 0.41 + 0.05 * (-1) ** seed, 0.0: 0.9}[p]

    best = exponent.best_powers(rows(loss, (1.0, 0.5, 0.25, 0.0))).iloc[0]
    assert best["best"] == 0.5 and best["as_good"] == [0.25, 0.5]
    assert best["low"] < np.mean([0.5, 0.25, 0.5, 0.25]) < best["high"]


@settings(deadline=None, max_examples=10)
@given(slope=st.floats(-1, 1), level=st.floats(-1, 1))
def test_a_planted_slope_of_the_gain_is_found_for_every_seed(slope, level):
    frame = rows(lambda p, t, k, seed: 3 + t**2 + seed - (p == 0.5) * (level + slope * t), (1.0, 0.5), (0.1, 0.4, 0.9))
    found = exponent.entropy_slopes(frame)
    assert found["slope"].tolist() == pytest.approx([slope] * 4, abs=1e-9) and found["runs"].tolist() == [3] * 4


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 99))
def test_no_compared_seed_has_a_say_in_tuning(seed):
    frame, random = curves(), np.random.default_rng(seed)
    compared = ~frame["seed"].isin(TUNING)
    other = frame.assign(loss=np.where(compared, random.random(len(frame)), frame["loss"]))
    pd.testing.assert_frame_equal(exponent.tuned_lr(frame, TUNING), exponent.tuned_lr(other, TUNING))
    assert exponent.tuned_lr(frame, TUNING).set_index("method")["lr"].to_dict() == pytest.approx(
        {"RSGD": 0.64, "gRSGD": 0.32}
    )
    compared = [case.rescaled["seed"] for case in exponent.confound_cases(frame, TUNING)]
    assert not set(pd.concat(compared)) & set(TUNING)


def test_an_optimum_at_the_end_of_the_grid_is_said_to_be_none():
    frame = curves()
    assert exponent.tuned_lr(frame, TUNING)["interior"].all()
    cut = frame[frame["lr"] < 0.4]
    assert exponent.tuned_lr(cut, TUNING).set_index("method")["interior"].to_dict() == {"RSGD": False, "gRSGD": False}


def test_a_learning_rate_at_which_a_tuning_seed_diverged_is_not_chosen():
    frame = curves()
    best = (frame["method"] == "RSGD") & np.isclose(frame["lr"], 0.64) & (frame["seed"] == 8)
    chosen = exponent.tuned_lr(frame.assign(loss=frame["loss"].where(~best, np.inf)), TUNING).set_index("method")["lr"]
    assert chosen["RSGD"] in (0.32, 1.28)


@pytest.mark.parametrize("seeds", [(77,), (*SEEDS, *TUNING)])
def test_tuning_needs_some_but_not_all_seeds(seeds):
    with pytest.raises(ValueError, match="must be some, not all"):
        exponent.tuned_lr(curves(), seeds)


def test_methods_that_are_no_pair_are_refused():
    with pytest.raises(ValueError, match="RSGD and gRSGD"):
        exponent.method_pair(curves().replace("gRSGD", "SGD"))
    assert exponent.method_pair(curves().replace({"RSGD": "RAdamW", "gRSGD": "gRAdamW"})) == ("RAdamW", "gRAdamW")


def test_a_pure_learning_rate_shows_as_an_advantage_only_where_it_is_too_small():
    frame = curves(factor=2.0)
    table = exponent.confound_comparisons(exponent.confound_cases(frame, TUNING, matched(frame, 0.02, 0.04))).set_index(
        "comparison"
    )
    assert table.index.tolist() == [
        "equal lr, the lowest",
        "equal lr, a quarter of RSGD's best",
        "equal lr, RSGD's best",
        "matched step, gRSGD at lr 0.02",
        "both tuned",
    ]
    assert table["difference"].iloc[:3].round(6).tolist() == sorted(table["difference"].iloc[:3].round(6).tolist())
    assert (table["high"].iloc[:2] < 0).all() and table["low"].iloc[2] > 0
    assert table["difference"].iloc[3:].abs().max() < 1e-12 and (table["seeds"] == len(SEEDS)).all()
    assert table["plain_lr"].tolist() == pytest.approx([0.02, 0.16, 0.64, 0.04, 0.64])
    assert table["step_ratio"].tolist()[3] == 1.01 and table["step_ratio"].isna().sum() == 4


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0, 3.0])
def test_a_planted_factor_of_the_learning_rate_is_found(factor):
    shifts = exponent.lr_shift(curves(factor=factor))
    assert shifts["factor"].to_numpy() == pytest.approx(factor, rel=0.03)
    assert shifts["gap_shifted"].max() < 0.005 and (shifts["gap_shifted"] <= shifts["gap_equal"]).all()
    assert shifts["remaining"].abs().max() < 0.003


def test_a_gain_that_no_learning_rate_gives_remains():
    shifts = exponent.lr_shift(curves(factor=2.0, gain=-0.2))
    assert (shifts["remaining"] < -0.1).all()


def test_too_few_finite_learning_rates_give_no_factor():
    frame = curves()
    frame = frame.assign(loss=frame["loss"].where((frame["seed"] != 0) | (frame["lr"] < 0.05), np.inf))
    shifts = exponent.lr_shift(frame).set_index("seed")
    assert np.isnan(shifts.loc[0, "factor"]) and shifts["factor"].notna().sum() == 5
