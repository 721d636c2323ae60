"""Conditioning, similarity, load and effective steps of experts from records with known answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.studies.experts.anatomy import (
    KEYS,
    anatomy_bands,
    conditioning,
    load_balance,
    median,
    similarity,
)
from moe_analysis.studies.optimizers.effective_step import effective_steps, matched_lr
from moe_analysis.studies.records import layer_of, normalized_entropy

MODULES = ("layers.0.q_proj", "layers.0.v_proj", "layers.1.q_proj")
EXPERTS, STEPS = 4, 5
examples = settings(deadline=None, max_examples=20)


def watched_run(
    method: str = "RSGD",
    seed: int = 0,
    *,
    stride: int = 2,
    lr: float = 0.1,
    step: float = 1.0,
    load: np.ndarray | None = None,
    entropy: float = 0.9,
    **changes: Any,
) -> Any:
    """A run with records of its experts (every `stride` steps) and of its gates (every step).

    step: norm of every expert's gated change, all in one direction. load (T, modules, E) or (E,); changes: values of
    the experts' record by kind.
    """
    rng = np.random.default_rng(seed)
    shape = (STEPS, len(MODULES), EXPERTS)
    experts = {
        kind: rng.uniform(2.0, 9.0, shape) for kind in ("gram_condition_a", "gram_condition_b", "damped_condition_b")
    }
    experts |= {
        kind: rng.uniform(-1.0, 1.0, shape[:2]) for kind in ("map_similarity", "output_similarity", "update_similarity")
    }
    experts |= {"effective_step": np.full(shape, step), "layer_step": np.full(shape[:2], EXPERTS * step)}
    experts |= {kind: np.broadcast_to(value, experts[kind].shape) for kind, value in changes.items()}
    load = np.broadcast_to(np.full(EXPERTS, 0.5) if load is None else load, shape)
    gates = {"gate_load": load, "gate_importance": load / 2, "gate_entropy": np.full(shape[:2], entropy)}
    config = SimpleNamespace(name=method, seed=seed, lr=lr, system="moelora")
    return SimpleNamespace(config=config, expert_records=dataset(experts, stride), records=dataset(gates, 1))


def dataset(values: dict[str, np.ndarray], stride: int) -> xr.Dataset:
    dims = ("step", "module", "expert")
    arrays = {kind: (dims[: value.ndim], np.asarray(value, dtype=np.float32)) for kind, value in values.items()}
    return xr.Dataset(arrays, coords={"step": np.arange(STEPS) * stride, "module": list(MODULES)})


@pytest.mark.parametrize(
    "module, layer",
    [
        ("layers.3.self_attn.q_proj", "layers.3"),
        ("transformer.h.11.attn.c_attn", "transformer.h.11"),
        ("lm_head", "lm_head"),
        ("block2.layers.0", "block2.layers.0"),
    ],
)
def test_a_layer_is_a_modules_name_up_to_its_first_number(module, layer):
    assert layer_of(module) == layer


def test_frames_have_a_row_for_every_run_step_and_module():
    runs = [watched_run(method, seed) for method in ("RSGD", "gRSGD") for seed in (0, 1)]
    for frame in (conditioning(runs), similarity(runs), load_balance(runs)):
        assert tuple(frame.columns[:5]) == KEYS and len(frame) == 4 * STEPS * len(MODULES)
        assert not frame.duplicated(list(KEYS)).any()
    row = similarity(runs).query("method == 'gRSGD' and seed == 1 and step == 4 and module == @MODULES[1]")
    expected = runs[3].expert_records.sel(step=4, module=MODULES[1])
    assert row["update_similarity"].item() == pytest.approx(float(expected["update_similarity"]))


def test_conditioning_is_the_median_of_the_experts_that_have_a_condition_number():
    frame = conditioning([watched_run(gram_condition_b=np.array([3.0, np.nan, 5.0, np.inf]))])
    assert (frame["gram_condition_b"] == 5.0).all() and (frame["singular_share"] == 0.5).all()
    start = conditioning([watched_run(gram_condition_b=np.nan)])
    assert start["gram_condition_b"].isna().all() and (start["singular_share"] == 1.0).all()
    assert np.isfinite(start["damped_condition_b"]).all()


@examples
@given(st.lists(st.sampled_from([1.0, 2.0, 5.0, 7.0, np.inf, np.nan]), min_size=1, max_size=7))
def test_the_median_is_a_value_with_at_most_half_of_the_others_on_either_side(values):
    found, known = float(median(np.array(values))), [value for value in values if not np.isnan(value)]
    if not known:
        assert np.isnan(found)
    else:
        assert found in known
        assert sum(value < found for value in known) <= len(known) / 2 >= sum(value > found for value in known)


def test_even_gates_of_every_token_are_no_balanced_load():
    """The same two of four experts for every token, and one expert a token with all used alike."""
    narrow = load_balance([watched_run(load=np.array([1.0, 1.0, 0.0, 0.0]), entropy=0.5)]).iloc[0]
    single = load_balance([watched_run(load=np.full(EXPERTS, 0.25), entropy=0.0)]).iloc[0]
    assert narrow[["token_entropy", "load_balance", "dead_share", "load_variation"]].tolist() == [0.5, 0.5, 0.5, 1.0]
    assert single[["token_entropy", "load_balance", "dead_share", "load_variation"]].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_the_balance_of_mean_gates_tells_experts_apart_that_all_tokens_keep():
    run = watched_run(load=np.ones(EXPERTS))
    run.records["gate_importance"][:] = np.array([0.97, 0.01, 0.01, 0.01])
    frame = load_balance([run])
    assert (frame["load_balance"] == 1.0).all() and (frame["importance_balance"] < 0.13).all()


@examples
@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8), st.floats(0.01, 100.0))
def test_entropy_lies_between_its_ends_and_does_not_see_the_scale(weights, scale):
    values = np.array(weights)
    if values.sum() < 1e-6:
        values = values + 1.0
    found = normalized_entropy(values)
    assert 0.0 <= found <= 1.0 + 1e-12
    assert normalized_entropy(values * scale) == pytest.approx(float(found), abs=1e-9)
    assert normalized_entropy(np.ones(len(values))) == pytest.approx(1.0)
    assert normalized_entropy(np.eye(len(values))[0]) == 0.0


def test_routers_of_several_shapes_are_all_there():
    run = watched_run()
    for kind in ("gate_load", "gate_importance", "gate_entropy"):
        other = run.records[kind].rename({"module": "module_2x24"}).assign_coords(module_2x24=["a.0", "b.1", "c.2"])
        run.records[f"{kind}_2x24"] = other
    assert set(load_balance([run])["module"]) == {*MODULES, "a.0", "b.1", "c.2"}


def test_bands_average_modules_within_a_seed_and_span_the_seeds():
    runs = [watched_run(seed=seed, map_similarity=np.array([0.1, 0.3, 0.7]) + 0.1 * seed) for seed in (0, 1, 2)]
    bands = anatomy_bands(similarity(runs)).query("measure == 'map_similarity' and step == 0").set_index("layer")
    assert bands.loc["layers.0", ["mean", "low", "high", "seeds"]].tolist() == pytest.approx([0.3, 0.2, 0.4, 3])
    assert bands.loc["layers.1", "mean"] == pytest.approx(0.8)
    alone = anatomy_bands(similarity(runs), by="module").query("module == @MODULES[1] and measure == 'map_similarity'")
    np.testing.assert_allclose(alone["mean"], 0.4, rtol=1e-6)


def test_bands_of_condition_numbers_are_geometric_and_keep_what_is_infinite_or_undefined():
    runs = [watched_run(seed=seed, gram_condition_a=value) for seed, value in enumerate((1.0, 100.0))]
    band = anatomy_bands(conditioning(runs)).query("measure == 'gram_condition_a'")
    np.testing.assert_allclose(band[["mean", "low", "high"]], np.tile([10.0, 1.0, 100.0], (len(band), 1)), rtol=1e-6)
    for value in (np.inf, np.nan):
        bands = anatomy_bands(conditioning([watched_run(gram_condition_b=value)]))
        band = bands.query("measure == 'gram_condition_b'")
        assert len(band) == 2 * STEPS and band["mean"].to_numpy() == pytest.approx(value, nan_ok=True)
        assert (band["seeds"] == (not np.isnan(value))).all()


def test_bands_take_frames_of_different_strides_and_refuse_another_grouping():
    runs = [watched_run()]
    bands = anatomy_bands(conditioning(runs), load_balance(runs))
    steps = bands.groupby("measure")["step"].unique()
    assert steps["gram_condition_a"].tolist() == [0, 2, 4, 6, 8] and steps["load_balance"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="by = 'expert' is unknown"):
        anatomy_bands(conditioning(runs), by="expert")


def test_effective_steps_are_means_over_layers():
    frame = effective_steps([watched_run(layer_step=[6.0, 6.0, 3.0])])
    np.testing.assert_allclose(frame["effective_step"], [5.0] * STEPS)
    assert frame["step"].tolist() == [0, 2, 4, 6, 8]


@examples
@given(st.floats(0.05, 20.0), st.floats(0.01, 10.0))
def test_a_run_that_steps_a_times_as_far_is_matched_by_a_times_the_learning_rate(ratio, step):
    runs = [watched_run("gRSGD", seed, step=ratio * step * (1 + seed)) for seed in (0, 1, 2)]
    runs += [watched_run("RSGD", seed, step=step * (1 + seed), lr=0.3) for seed in (0, 1, 2)]
    (row,) = matched_lr(runs, "gRSGD", "RSGD").itertuples()
    assert (row.factor, row.low, row.high) == pytest.approx((ratio,) * 3, rel=1e-5)
    assert (row.seeds, row.lr, row.matched_lr) == (3, 0.3, pytest.approx(0.3 * ratio, rel=1e-5))
    (back,) = matched_lr(runs, "RSGD", "gRSGD").itertuples()
    assert back.factor * row.factor == pytest.approx(1.0)


def test_the_factors_interval_is_that_of_the_logarithms_and_widens_with_the_seeds_spread():
    runs = [watched_run("gRSGD", seed, step=2.0 * 4.0 ** (seed - 1)) for seed in (0, 1, 2)]
    runs += [watched_run("RSGD", seed) for seed in (0, 1, 2)]
    (row,) = matched_lr(runs, "gRSGD", "RSGD").itertuples()
    half = 4.302652729911275 * np.log(4.0) / np.sqrt(3)  # 97.5 % point of t with 2 degrees of freedom
    assert (row.factor, row.low, row.high) == pytest.approx((2.0, 2.0 * np.exp(-half), 2.0 * np.exp(half)))


def test_steps_are_matched_by_their_mean_over_the_run():
    decaying = np.array([8.0, 4.0, 1.0, 1.0, 1.0])[:, None]
    runs = [watched_run("gRSGD", layer_step=decaying), watched_run("RSGD", layer_step=1.0, step=0.5)]
    assert matched_lr(runs, "gRSGD", "RSGD")["factor"].item() == pytest.approx(3.0)


@pytest.mark.parametrize(
    "runs, message",
    [
        ([("gRSGD", {}), ("RSGD", {"layer_step": 0.0})], "experts of 'RSGD' never moved"),
        ([("gRSGD", {}), ("RSGD", {"stride": 3})], "recorded at different steps"),
        ([("gRSGD", {}), ("RSGD", {"seed": 1})], "no common seed"),
        ([("gRSGD", {})], "no run of 'RSGD'; runs has 'gRSGD'"),
        ([("gRSGD", {}), ("RSGD", {}), ("RSGD", {"seed": 1, "lr": 9.0})], "learning rates"),
    ],
)
def test_runs_that_cannot_be_matched_are_refused_by_reason(runs, message):
    made = [watched_run(method, **{"seed": 0, **changes}) for method, changes in runs]
    with pytest.raises(ValueError, match=message):
        matched_lr(made, "gRSGD", "RSGD")


def test_runs_of_one_method_and_seed_are_refused():
    for analysis in (conditioning, similarity, load_balance, effective_steps):
        with pytest.raises(ValueError, match="more than one run"):
            analysis([watched_run(), watched_run()])
        with pytest.raises(ValueError, match="runs is empty"):
            analysis([])


def test_an_undefined_measure_of_one_seed_leaves_the_others():
    runs = [watched_run(seed=0, map_similarity=np.nan), watched_run(seed=1, map_similarity=0.5)]
    band = anatomy_bands(similarity(runs)).query("measure == 'map_similarity'")
    assert (band["seeds"] == 1).all()
    np.testing.assert_allclose(band["mean"], 0.5)
