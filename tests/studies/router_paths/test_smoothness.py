"""Smoothness on paths of known shape, and the noise references against simulated walks and against Adam itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.evidence.intervals import mean_interval, method_summary, paired_differences
from moe_analysis.studies.router_paths.smoothness import (
    MEASURES,
    METHOD,
    OTHERS,
    gradient_noise,
    momentum_correlation,
    path_measures,
    path_products,
    smoothness,
)
from tests.studies.fake_runs import fake_run, walk


def only(weights: np.ndarray, **options) -> pd.Series:
    """The single row of a path with one module."""
    frame = smoothness([fake_run(weights, **options)])
    assert len(frame) == 1
    return frame.iloc[0]


def corners(*moves: tuple[float, float]) -> np.ndarray:
    """The path of one expert that makes these moves in a plane, (moves + 1, 1, 2)."""
    return np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])[:, None]


def test_a_straight_path_has_tortuosity_one_and_never_turns():
    row = only(corners((1, 2), (2, 4), (4, 8)))
    assert row["tortuosity"] == pytest.approx(1.0)
    assert row["turning_angle"] == pytest.approx(0.0, abs=1e-2)
    assert row["step_variation"] == pytest.approx(np.log(2.0))


def test_a_staircase_turns_by_ninety_degrees():
    row = only(corners((1, 0), (0, 1), (1, 0), (0, 1)))
    assert row["turning_angle"] == pytest.approx(90.0)
    assert row["tortuosity"] == pytest.approx(4 / np.sqrt(8))
    assert row["path_length"] == pytest.approx(4.0)


def test_a_path_that_turns_back_has_angle_one_hundred_and_eighty():
    assert only(corners((3, 0), (-1, 0)))["turning_angle"] == pytest.approx(180.0)


def test_a_path_that_ends_where_it_began_has_no_tortuosity():
    assert np.isnan(only(corners((1, 0), (0, 1), (-1, 0), (0, -1)))["tortuosity"])


def test_steps_at_learning_rate_zero_change_nothing():
    moves = [(1, 0), (0, 1), (1, 0)]
    still, moving = only(corners((0, 0), *moves)), only(corners(*moves))
    assert still["moves"] == moving["moves"] == 3
    for measure in ("tortuosity", "turning_angle", "step_variation", "walk_tortuosity"):
        assert still[measure] == pytest.approx(moving[measure])


def test_no_turn_is_counted_across_a_standstill():
    assert only(corners((1, 0), (0, 0), (0, 1)))["moves"] == 2
    assert np.isnan(only(corners((1, 0), (0, 0), (0, 1)))["turning_angle"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_measures_ignore_scale_rotation_and_start(seed, scale):
    rng = np.random.default_rng(seed)
    weights = walk(rng, 12, 3, 5, drift=0.5)
    rotation, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    changed = scale * (weights @ rotation + rng.standard_normal((1, 3, 5)))
    before, after = only(weights), only(changed)
    for measure in MEASURES:
        assert after[measure] == pytest.approx(before[measure], rel=1e-3)


def test_the_routers_path_is_that_of_all_its_rows_side_by_side():
    weights = walk(np.random.default_rng(3), 9, 4, 6)
    flat = weights.reshape(len(weights), 1, -1)
    row, alone = only(weights), only(flat)
    for measure in (*MEASURES, "path_length", "displacement"):
        assert row[measure] == pytest.approx(alone[measure], rel=1e-6)
    moves = np.diff(flat[:, 0], axis=0)
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(moves, moves[1:])]
    assert row["turning_angle"] == pytest.approx(np.degrees(np.arccos(cosines)).mean(), rel=1e-4)


def test_each_experts_row_is_multiplied_alone():
    straight, stairs = corners((1, 1), (1, 1), (1, 1)), corners((1, 0), (0, 1), (1, 0))
    run = fake_run(np.concatenate([straight, stairs], axis=1))
    found = path_measures(*path_products(run.records["router_weight"]), 0.9, 1)
    assert found["turning_angle"].tolist() == [pytest.approx([0.0, 90.0], abs=1e-2)]


@pytest.mark.parametrize("chunk", [1, 2, 7, 40])
def test_chunks_of_any_size_give_what_loaded_records_give(chunk):
    weights = np.stack([walk(np.random.default_rng(s), 20, 3, 4) for s in (0, 1)], axis=1)
    gradients = np.random.default_rng(2).standard_normal(weights.shape)
    lazy, loaded = (fake_run(weights, gradients=gradients, chunk=size) for size in (chunk, None))
    pd.testing.assert_frame_equal(smoothness([lazy]), smoothness([loaded]))
    pd.testing.assert_frame_equal(gradient_noise([lazy]), gradient_noise([loaded]))


def test_routers_of_another_shape_are_measured_too():
    run = fake_run(walk(np.random.default_rng(0), 5, 2, 3))
    other = fake_run(walk(np.random.default_rng(1), 5, 4, 7)).records["router_weight"]
    renamed = other.rename(module="module_4x7", expert="expert_4x7", feature="feature_4x7")
    run.records["router_weight_4x7"] = renamed.assign_coords(module_4x7=["layers.0.down_proj"])
    assert smoothness([run])["module"].tolist() == ["layers.0.q_proj", "layers.0.down_proj"]


def test_independent_steps_are_as_tortuous_as_the_random_walk_says():
    lengths = np.linspace(0.2, 3.0, 60)[:, None, None]
    moves = np.random.default_rng(4).standard_normal((60, 8, 400)) / np.sqrt(3200) * lengths
    row = only(np.concatenate([np.zeros((1, 8, 400)), moves.cumsum(0)]), optimizer="sgd")
    assert row["tortuosity"] == pytest.approx(row["walk_tortuosity"], rel=0.03)
    assert row["momentum_tortuosity"] == pytest.approx(row["walk_tortuosity"])
    assert row["turning_angle"] == pytest.approx(90.0, abs=0.5)


@pytest.mark.parametrize("stride", [1, 3])
def test_adam_on_noise_walks_as_the_momentum_reference_says(stride):
    weight = torch.nn.Parameter(torch.zeros(8, 400))
    optimizer = torch.optim.AdamW([weight], lr=1e-2, betas=(0.9, 0.999), weight_decay=0.0)
    recorded = []
    for step in range(240):
        if step % stride == 0:
            recorded.append(weight.detach().numpy().copy())
        weight.grad = torch.randn(8, 400)
        optimizer.step()
    row = only(np.stack(recorded), stride=stride)
    assert row["stride"] == stride
    assert row["turning_angle"] == pytest.approx(row["momentum_angle"], rel=0.05)
    assert row["relative_tortuosity"] == pytest.approx(1.0, abs=0.08)


def test_momentum_correlation_of_single_steps_is_beta_and_falls_with_the_stride():
    assert momentum_correlation(0.9) == pytest.approx(0.9)
    assert momentum_correlation(0.0, 4) == 0.0
    values = [momentum_correlation(0.9, gap) for gap in (1, 2, 5, 20)]
    assert values == sorted(values, reverse=True)
    assert momentum_correlation(0.5, 2) == pytest.approx((0.5 + 2 * 0.5**2 + 0.5**3) / (2 + 2 * 0.5))


def test_records_at_uneven_steps_are_refused():
    run = fake_run(corners((1, 0), (0, 1)))
    run.records = run.records.assign_coords(step=[0, 1, 5])
    with pytest.raises(ValueError, match=r"\[1, 4\] steps apart"):
        smoothness([run])


def test_a_constant_gradient_has_no_noise():
    weights = walk(np.random.default_rng(0), 9, 2, 3)
    row = gradient_noise([fake_run(weights, gradients=np.full(weights.shape, 0.5))]).iloc[0]
    assert row["successive_cosine"] == pytest.approx(1.0)
    assert row["gradient_variance"] == pytest.approx(0.0, abs=1e-9)
    assert row["gradient_norm"] == pytest.approx(0.5 * np.sqrt(6))


def test_white_gradients_are_all_noise():
    weights = np.zeros((80, 8, 100))
    weights[1:] = 1.0
    gradients = 3.0 * np.random.default_rng(5).standard_normal(weights.shape)
    row = gradient_noise([fake_run(weights, gradients=gradients)]).iloc[0]
    assert row["noise_share"] == pytest.approx(1.0, abs=0.02)
    assert row["gradient_variance"] == pytest.approx(9.0 * 800, rel=0.03)
    assert row["successive_cosine"] == pytest.approx(0.0, abs=0.02)


def test_an_interval_is_students_t():
    mean, low, high = mean_interval([1.0, 2.0, 3.0, np.nan])
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - 4.302653 / np.sqrt(3), 2.0 + 4.302653 / np.sqrt(3)))
    assert np.isnan(mean_interval([1.0])[1:]).all()


def measured(values: dict[str, list[float]], seeds: int = 3) -> pd.DataFrame:
    """Frames of `smoothness`, two modules a seed that lie 1 above and 1 below the seed's value."""
    return pd.DataFrame(
        [
            {
                "method": method,
                "seed": seed,
                "module": module,
                **dict.fromkeys(MEASURES, numbers[seed] + offset),
                "momentum_tortuosity": 1.5,
                "momentum_angle": 25.0,
            }
            for method, numbers in values.items()
            for seed in range(seeds)
            for module, offset in (("q", -1.0), ("v", 1.0))
        ]
    )


def converged(values: dict[str, list[float]], seeds: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"method": method, "seed": seed, "mean_loss": numbers[seed]}
            for method, numbers in values.items()
            for seed in range(seeds)
        ]
    )


CLEAR = {"T-REX": [2.0, 3.0, 4.0], "mix-and-match": [3.0, 4.1, 5.0], "LoRA-MoE": [4.0, 5.0, 6.1]}


def test_modules_of_one_seed_do_not_count_as_repetitions():
    summary = method_summary(measured(CLEAR), MEASURES).set_index(["method", "measure"]).loc["T-REX", "tortuosity"]
    assert summary["seeds"] == 3
    assert (summary["mean"], summary["high"]) == pytest.approx((3.0, mean_interval([2, 3, 4])[2]))


def test_differences_are_taken_within_a_seed():
    shifted = {
        name: [value + offset for value in (2.0, 30.0, 400.0)]
        for name, offset in (("T-REX", 0.0), ("mix-and-match", 1.0), ("LoRA-MoE", 2.0))
    }
    row = (
        paired_differences(measured(shifted), MEASURES, METHOD, OTHERS)
        .set_index(["measure", "against"])
        .loc["tortuosity", "LoRA-MoE"]
    )
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((-2.0, -2.0, -2.0))


def test_differences_against_a_method_without_runs_are_refused():
    with pytest.raises(ValueError, match="no run of 'SiRA'"):
        paired_differences(measured(CLEAR), MEASURES, METHOD, ["SiRA"])
