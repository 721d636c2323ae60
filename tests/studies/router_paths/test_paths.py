"""Paths on shared axes: what PCA and displacement must give on constructed routers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.studies.records import gate_entropy, shared_modules
from moe_analysis.studies.router_paths.paths import (
    PATH_COLUMNS,
    distinct_experts,
    moving_module,
    path_axes,
    router_paths,
)
from tests.studies.fake_runs import MODULES, fake_run, walk

Q, V = MODULES


def ramp(steps: int, experts: int, features: int, axis: int, speed: float = 1.0) -> np.ndarray:
    """Every expert moves along one coordinate axis at constant speed."""
    weights = np.zeros((steps, experts, features))
    weights[:, :, axis] = speed * np.arange(steps)[:, None]
    return weights


def points(frame):
    return frame[list(PATH_COLUMNS)].to_numpy()


def test_every_path_begins_at_the_origin_wherever_the_router_started():
    rng = np.random.default_rng(0)
    start = 50 * rng.standard_normal((1, 8, 12))
    paths = router_paths([fake_run(start + walk(rng, 10, 8, 12), "LoRA-MoE"), fake_run(walk(rng, 10, 32, 12))], Q)
    assert (points(paths[paths["step"] == 0]) == 0).all()
    assert paths.groupby("method")["expert"].nunique().to_dict() == {"LoRA-MoE": 8, "T-REX": 32}


def test_a_method_with_more_experts_and_longer_ways_gets_no_more_weight():
    runs = [fake_run(ramp(6, 2, 10, axis=3), "LoRA-MoE"), fake_run(ramp(6, 32, 10, axis=7, speed=100.0), "T-REX")]
    axes = path_axes(runs, Q)
    np.testing.assert_allclose(axes.explained, [0.5, 0.5, 0.0], atol=1e-12)
    plane = np.abs(axes.components[:2]).sum(0)
    assert set(np.flatnonzero(plane > 1e-9)) == {3, 7}


def test_explained_shares_of_each_method_add_up_to_the_pooled_ones():
    rng = np.random.default_rng(1)
    axes = path_axes([fake_run(walk(rng, 9, 4, 6), "LoRA-MoE"), fake_run(walk(rng, 9, 8, 6, drift=2.0))], Q)
    np.testing.assert_allclose(axes.by_method[list(PATH_COLUMNS)].mean(), axes.explained)
    np.testing.assert_allclose(axes.components @ axes.components.T, np.eye(3), atol=1e-12)
    assert (np.diff(axes.explained) <= 1e-12).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_movement_inside_three_dimensions_is_drawn_without_loss(seed):
    rng = np.random.default_rng(seed)
    frame, _ = np.linalg.qr(rng.standard_normal((9, 3)))
    weights = walk(rng, 7, 5, 3) @ frame.T
    axes = path_axes([fake_run(weights)], Q)
    paths = router_paths([fake_run(weights)], Q, axes)
    assert axes.explained.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(np.linalg.norm(points(paths), axis=1), paths["distance"], atol=1e-4)


def test_rank_prefers_experts_that_went_far_and_another_way_than_those_before():
    ends = np.array([[9.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.5, 0.0, 0.0]])  # 0 and 1 go together
    weights = np.linspace(0, 1, 5)[:, None, None] * ends
    ranks = router_paths([fake_run(weights)], Q).drop_duplicates("expert").set_index("expert")["rank"]
    assert ranks.to_dict() == {1: 1, 2: 2, 0: 3, 3: 4}


def test_thinned_paths_keep_both_ends_and_the_order_of_steps():
    paths = router_paths([fake_run(ramp(101, 3, 4, axis=1), stride=2)], Q, points=7)
    line = paths[paths["expert"] == 2]
    assert len(line) == 7 and line["step"].is_monotonic_increasing
    assert (line["step"].iloc[0], line["step"].iloc[-1]) == (0, 200)
    assert line["distance"].iloc[-1] == pytest.approx(100.0)


def test_a_record_carries_the_loss_of_the_update_it_precedes_without_balance_loss():
    losses = np.arange(10.0, 0.0, -1.0)
    paths = router_paths([fake_run(ramp(5, 2, 4, axis=1), stride=2, losses=losses, balance=0.7)], Q)
    assert paths[paths["expert"] == 1]["loss"].tolist() == pytest.approx([10.0, 8.0, 6.0, 4.0, 2.0])


def test_axes_of_lazy_records_are_those_of_loaded_ones():
    weights = walk(np.random.default_rng(2), 30, 8, 10)
    lazy, loaded = path_axes([fake_run(weights, chunk=7)], Q), path_axes([fake_run(weights)], Q)
    np.testing.assert_array_equal(lazy.components, loaded.components)


def test_the_module_to_draw_is_the_one_that_moves_furthest():
    weights = np.stack([ramp(4, 3, 5, axis=0), ramp(4, 3, 5, axis=1, speed=2.0)], axis=1)
    runs = [fake_run(weights, "LoRA-MoE"), fake_run(weights, "T-REX")]
    assert shared_modules(runs) == [Q, V]
    assert moving_module(runs, [Q, V]) == V


def test_experts_that_move_together_count_once():
    ends = np.array([[1.0, 0, 0], [0, 2.0, 0], [1.0, 0, 0], [1.0, 0, 1e-9], [1.0, 0.01, 0]])
    start = np.random.default_rng(0).standard_normal((1, 5, 3)).round(3)
    frame = distinct_experts([fake_run(start + np.linspace(0, 1, 4)[:, None, None] * ends)])
    assert frame[["experts", "distinct"]].values.tolist() == [[5, 3]]


@pytest.mark.parametrize("intuition, distinct", [(None, 2), ("one", 6)])
def test_without_intuition_up_vectors_of_mix_and_match_never_part(intuition, distinct):
    from moe_analysis.adapters import RoutingContext, TRex, TRexConfig

    layer = TRex(5, 4, TRexConfig(num_down=2, num_up=3, intuition=intuition is not None))
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    x, target = torch.randn(8, 6, 5), torch.randn(8, 6, 4)
    context = RoutingContext(intuition=torch.randn(8, 6)) if intuition else None
    weights = []
    for _ in range(20):
        weights.append(layer.router.weight.detach().numpy().copy())
        optimizer.zero_grad()
        (layer(x, context)[0] - target).square().mean().backward()
        optimizer.step()
    assert distinct_experts([fake_run(np.stack(weights))])["distinct"].tolist() == [distinct]


def test_runs_that_share_no_module_are_refused():
    first, second = fake_run(ramp(4, 3, 5, axis=0)), fake_run(ramp(4, 3, 5, axis=0), "LoRA-MoE")
    second.records = second.records.assign_coords(module=["layers.9.k_proj"])
    with pytest.raises(ValueError, match="share no module"):
        shared_modules([first, second])


def test_an_unknown_module_is_named_with_those_there_are():
    with pytest.raises(ValueError, match=f"'nowhere'.*{Q}"):
        router_paths([fake_run(ramp(4, 3, 5, axis=0))], "nowhere")


def test_layers_of_different_input_size_are_refused():
    with pytest.raises(ValueError, match="6 features.*5 in another"):
        path_axes([fake_run(ramp(4, 3, 5, axis=0), "LoRA-MoE"), fake_run(ramp(4, 3, 6, axis=0))], Q)


def test_a_router_that_never_moved_is_named():
    with pytest.raises(ValueError, match="never moved in runs of 'LoRA-MoE'"):
        path_axes([fake_run(np.ones((4, 3, 5)), "LoRA-MoE")], Q)


def test_two_runs_of_one_method_and_seed_are_refused():
    run = fake_run(ramp(4, 3, 5, axis=0))
    with pytest.raises(ValueError, match="more than one run of 'T-REX' with seed 0"):
        router_paths([run, run], Q)


def test_gate_entropy_is_averaged_over_modules_at_each_recorded_step():
    run = fake_run(np.stack([ramp(3, 3, 5, axis=0)] * 2, axis=1), stride=5)
    run.records["gate_entropy"] = (("step", "module"), np.array([[1.0, 0.0], [0.8, 0.4], [0.2, 0.2]]))
    frame = gate_entropy([run])
    assert frame["step"].tolist() == [0, 5, 10]
    assert frame["entropy"].tolist() == pytest.approx([0.5, 0.6, 0.2])
