"""Conditioning, similarity and step sizes of experts against dense references, and their record on disk."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import moe_analysis as ma
from moe_analysis.training.recorders.expert_recorder import (
    PER_EXPERT,
    PER_MODULE,
    SAMPLE_TOKENS,
    condition_numbers,
    expert_measures,
    inner_products,
    mean_cosine,
    output_cosine,
)
from moe_analysis.training.recorders.recorder import some_tokens
from moe_analysis.training.recorders.store import RecordError, RecordStore
from moe_analysis.training.trainer import AdapterTrainer

shapes = st.tuples(st.integers(2, 4), st.integers(1, 3), st.integers(3, 7), st.integers(3, 6), st.integers(0, 99))
examples = settings(deadline=None, max_examples=20)


def factors(experts: int, r: int, inputs: int, outputs: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(experts, r, inputs, dtype=torch.double), torch.randn(experts, outputs, r, dtype=torch.double)


def naive_cosine(vectors: list[torch.Tensor]) -> float:
    """Mean cosine over pairs of vectors of any shape, pair by pair."""
    pairs = [(i, j) for i in range(len(vectors)) for j in range(i)]
    return float(np.mean([(vectors[i] * vectors[j]).sum() / vectors[i].norm() / vectors[j].norm() for i, j in pairs]))


def measures(before, after, x=None, gates=None, scaling: float = 2.0) -> dict[str, torch.Tensor]:
    experts, _, inputs = before[0].shape
    x = torch.randn(6, inputs) if x is None else x
    return expert_measures(before, after, x, torch.full((experts,), 0.5) if gates is None else gates, scaling)


@examples
@given(shapes)
def test_condition_numbers_are_those_of_each_experts_gram_matrix(shape):
    A, B = factors(*shape)
    found = measures((A, B), (A, B))
    for expert, (a, b) in enumerate(zip(A.numpy(), B.numpy())):
        assert found["gram_condition_a"][expert] == pytest.approx(np.linalg.cond(a) ** 2, rel=1e-6)
        assert found["gram_condition_b"][expert] == pytest.approx(np.linalg.cond(b) ** 2, rel=1e-6)


def test_damping_bounds_the_condition_number_of_a_small_factor():
    _, B = factors(3, 3, 4, 5, 0)
    damped = measures((torch.ones(3, 3, 4), B * 1e-6), (torch.ones(3, 3, 4), B))["damped_condition_b"]
    expected = [np.linalg.cond(b.T @ b + 1e-6 * np.eye(3)) for b in (B * 1e-6).numpy()]
    np.testing.assert_allclose(damped, expected, rtol=1e-9)
    assert (damped < 1.001).all()


def test_a_zero_factor_has_no_condition_number_and_a_singular_one_an_infinite():
    gram = torch.zeros(4, 2, 2, dtype=torch.double)
    gram[1, 0, 0], gram[2], gram[3] = 3.0, torch.eye(2), torch.nan
    assert torch.isnan(condition_numbers(gram)).tolist() == [True, False, False, True]
    assert condition_numbers(gram)[1:3].tolist() == [np.inf, 1.0]
    assert condition_numbers(gram, 1.0)[:3].tolist() == [1.0, 4.0, 1.0]


def test_two_equal_rows_are_singular_whatever_the_rounding():
    rows = torch.randn(50, 1, 6, dtype=torch.double).expand(-1, 2, -1) * torch.tensor([[1.0], [1 / 3]])
    assert torch.isinf(condition_numbers(rows @ rows.mT)).all()


@examples
@given(shapes)
def test_maps_and_their_changes_compare_as_the_dense_matrices_do(shape):
    before, after = factors(*shape), factors(*shape[:-1], shape[-1] + 1)
    found = measures(before, after)
    old, new = (list(B @ A) for A, B in (before, after))
    moved = [second - first for first, second in zip(old, new)]
    assert float(found["map_similarity"]) == pytest.approx(naive_cosine(old), abs=1e-9)
    assert float(found["update_similarity"]) == pytest.approx(naive_cosine(moved), abs=1e-9)
    np.testing.assert_allclose(found["update_norm"], [2.0 * float(one.norm()) for one in moved], rtol=1e-9)


@examples
@given(shapes)
def test_outputs_compare_as_each_tokens_outputs_do(shape):
    A, B = factors(*shape)
    x = torch.randn(5, shape[2], dtype=torch.double)
    naive = np.mean([naive_cosine([b @ a @ token for a, b in zip(A, B)]) for token in x])
    assert float(output_cosine(x, A, B)) == pytest.approx(naive, abs=1e-9)


@examples
@given(shapes)
def test_the_layers_step_is_the_norm_of_the_gated_sum_of_changes_and_no_more_than_their_sum(shape):
    before, after = factors(*shape), factors(*shape[:-1], shape[-1] + 1)
    gates = torch.rand(shape[0], dtype=torch.double)
    found = measures(before, after, gates=gates, scaling=3.0)
    moved = after[1] @ after[0] - before[1] @ before[0]
    assert float(found["layer_step"]) == pytest.approx(3.0 * float((gates[:, None, None] * moved).sum(0).norm()))
    np.testing.assert_allclose(found["effective_step"], gates * found["update_norm"], rtol=1e-12)
    assert found["layer_step"] <= found["effective_step"].sum() * (1 + 1e-9)


@examples
@given(shapes)
def test_another_split_of_the_same_maps_changes_no_similarity(shape):
    (A, B), (_, r, *_) = factors(*shape), shape
    C = torch.randn(shape[0], r, r, dtype=torch.double) + 3 * torch.eye(r)
    other = C @ A, B @ torch.linalg.inv(C)
    x = torch.randn(5, shape[2], dtype=torch.double)
    first, second = measures((A, B), (A, 2 * B), x), measures(other, (other[0], 2 * other[1]), x)
    for kind in ("map_similarity", "output_similarity", "update_similarity", "update_norm", "layer_step"):
        torch.testing.assert_close(first[kind], second[kind], rtol=1e-6, atol=1e-8)


def test_a_change_far_below_the_weights_is_measured_to_full_precision():
    A, B = factors(3, 2, 6, 5, 0)
    step = 1e-10 * torch.randn_like(B)
    exact = 2.0 * torch.linalg.matrix_norm((B + step - B) @ A)
    np.testing.assert_allclose(measures((A, B), (A, B + step))["update_norm"], exact, rtol=1e-12)


def test_equal_experts_are_alike_and_opposite_ones_opposed():
    A, B = factors(2, 2, 5, 4, 0)
    same = A[:1].expand(2, -1, -1), B[:1].expand(2, -1, -1)
    opposed = same[0], same[1] * torch.tensor([1.0, -1.0])[:, None, None]
    for pair, expected in ((same, 1.0), (opposed, -1.0)):
        found = measures(pair, (pair[0], 2 * pair[1]))
        for kind in ("map_similarity", "output_similarity", "update_similarity"):
            assert float(found[kind]) == pytest.approx(expected, abs=1e-12)


def test_zero_maps_are_left_out_and_fewer_than_two_others_leave_nothing_to_compare():
    A, B = factors(4, 2, 5, 4, 0)
    x = torch.randn(6, 5, dtype=torch.double)
    for kept in (4, 3, 2, 1, 0):
        fewer = torch.where(torch.arange(4)[:, None, None] < kept, B, 0.0)
        maps, outputs = mean_cosine(inner_products(A, fewer)), output_cosine(x, A, fewer)
        if kept < 2:
            assert maps.isnan() and outputs.isnan()
        else:
            assert float(maps) == pytest.approx(naive_cosine(list(B[:kept] @ A[:kept])))
            torch.testing.assert_close(outputs, output_cosine(x, A[:kept], B[:kept]))


def test_weights_that_are_not_finite_give_nan_and_no_error():
    A, B = factors(3, 2, 5, 4, 0)
    found = measures((A, B * torch.nan), (A, B * torch.inf))
    assert all(found[kind].isnan().all() for kind in set(found) - {"gram_condition_a"})


def test_the_sample_holds_evenly_spaced_real_tokens_only():
    x = torch.arange(4 * 300.0)[:, None]
    mask = torch.zeros(4, 300, dtype=torch.bool)
    mask[1], mask[3, :100] = True, True
    kept = some_tokens(x, mask, SAMPLE_TOKENS)[:, 0].int().tolist()
    assert len(kept) == 200 and kept[:2] == [300, 302] and kept[-1] == 998
    assert len(some_tokens(x, None, SAMPLE_TOKENS)) <= SAMPLE_TOKENS < len(some_tokens(x, None, SAMPLE_TOKENS)) * 2
    assert some_tokens(x, torch.zeros(4, 300), SAMPLE_TOKENS).shape == (0, 1)


@pytest.fixture(scope="module")
def recording(backbone: str, suite: str):
    """A function that makes a configuration of nine steps, with the experts recorded at every second one."""

    def make(**changes) -> ma.TrainConfig:
        adapter = ma.MoeLoraConfig(num_experts=4, top_k=2, r=2, target_modules=["q_proj", "v_proj"])
        values = {
            "backbone": backbone,
            "suite": suite,
            "adapter": adapter,
            "optimizer": "riemannian_sgd",
            "steps": 9,
            "lr": 0.02,
            "batch_size": 8,
            "eval_rows": 2,
            "warmup_steps": 0,
            "record_experts_every": 2,
        }
        return ma.TrainConfig(**{**values, **changes})

    return make


@pytest.fixture(scope="module")
def train_once(recording, tmp_path_factory: pytest.TempPathFactory):
    """A function: fixtures of a module come before those that set threads and seeds for a test."""
    return cache(lambda: ma.train(recording(), tmp_path_factory.mktemp("watched")))


@pytest.fixture
def run(train_once) -> ma.Run:
    return train_once()


def test_a_run_holds_its_experts_beside_its_routers(run):
    records = run.expert_records
    assert set(records.data_vars) == {*PER_EXPERT, *PER_MODULE}
    assert all(records[kind].dims == ("step", "module", "expert") for kind in PER_EXPERT)
    assert all(records[kind].dims == ("step", "module") for kind in PER_MODULE)
    assert records["step"].values.tolist() == [0, 2, 4, 6, 8] and run.records.sizes["step"] == 9
    assert records["module"].values.tolist() == run.records["module"].values.tolist()


def test_the_record_begins_with_maps_of_zero_and_goes_on_with_others(run):
    first, last = run.expert_records.isel(step=0), run.expert_records.isel(step=-1)
    for kind in ("gram_condition_b", "map_similarity", "output_similarity"):
        assert np.isnan(first[kind].values).all() and not np.isnan(last[kind].values).any()
    assert (first["damped_condition_b"].values == 1.0).all() and (first["gram_condition_a"].values > 1.0).all()
    assert (run.expert_records["layer_step"].values > 0).all()


def test_the_gates_are_the_mean_gates_of_the_routers_record(run):
    records = run.expert_records
    importance = run.records["gate_importance"].sel(step=records["step"])
    np.testing.assert_allclose(records["effective_step"], importance * records["update_norm"], rtol=1e-4)


def test_the_first_update_is_the_whole_map_of_a_run_of_one_step(recording, out: Path):
    run = ma.train(recording(steps=1), out)
    model = run.model()
    for number, module in enumerate(run.expert_records["module"].values):
        adapter = model.get_submodule(f"base_model.model.model.{module}").adapters["default"]
        expected = adapter.scaling * torch.linalg.matrix_norm(adapter.B.double() @ adapter.A.double()).detach()
        assert (expected > 0).all()
        np.testing.assert_allclose(run.expert_records["update_norm"][0, number], expected, rtol=1e-4)


def test_recording_changes_no_number_of_the_run(run, recording, out: Path):
    plain = ma.train(recording(record_experts_every=0), out)
    assert plain.history.equals(run.history) and plain.evaluation.equals(run.evaluation)
    with pytest.raises(RecordError, match="record_experts_every >= 1"):
        plain.expert_records  # noqa: B018


def test_recomputing_activations_and_evaluating_between_records_leave_them_the_same(run, recording, out: Path):
    other = ma.train(recording(gradient_checkpointing=True, eval_every=2), out).expert_records
    for kind in other.data_vars:
        np.testing.assert_allclose(run.expert_records[kind].values, other[kind].values, rtol=1e-3, atol=1e-5)


def test_accumulated_micro_batches_make_one_record_a_step(run, recording, out: Path):
    parts = ma.train(recording(batch_size=2, gradient_accumulation=4), out).expert_records
    assert parts["step"].values.tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose(run.expert_records["update_norm"], parts["update_norm"], rtol=0.05, atol=1e-4)


class Dying:
    """A zarr group that fails when a flush comes to its last part, the step axis."""

    def __init__(self, group) -> None:
        self.group, self.asked = group, 0

    def __getitem__(self, name: str):
        self.asked += name == "step"
        if self.asked == 2:
            raise KeyboardInterrupt
        return self.group[name]


@pytest.mark.parametrize(
    "owner, moment, call",
    [
        (AdapterTrainer, "compute_loss", 6),
        (AdapterTrainer, "_save_checkpoint", 3),
        (RecordStore, "flush", 3),
    ],
)
def test_a_run_that_dies_anywhere_resumes_to_the_same_record(
    run, recording, out: Path, monkeypatch, owner, moment, call
):
    """Between checkpoints, before one, and halfway through writing a block, which leaves arrays longer than others."""
    original, calls = getattr(owner, moment), []

    def dies(self, *args, **kwargs):
        if isinstance(self, AdapterTrainer) or self.path.name == "experts.zarr":
            calls.append(1)
            if len(calls) == call and moment == "flush":
                self.group = Dying(self.group)
            elif len(calls) == call:
                raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, moment, dies)
    with pytest.raises(KeyboardInterrupt):
        ma.train(recording(save_every=2), out)
    monkeypatch.setattr(owner, moment, original)
    resumed = ma.train(recording(save_every=2), out)
    assert run.expert_records["step"].values.tolist() == resumed.expert_records["step"].values.tolist()
    for name in run.expert_records.data_vars:
        np.testing.assert_array_equal(run.expert_records[name].values, resumed.expert_records[name].values)


def test_adapters_without_stacks_of_experts_are_refused_before_training(recording, out: Path):
    from peft import LoraConfig

    trex = ma.TRexConfig(num_down=2, num_up=3, intuition=False, target_modules=["q_proj"])
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    for adapter, name in ((trex, "TRex"), (lora, "the model")):
        with pytest.raises(ValueError, match=f"record_experts_every = 2 needs experts .* {name} does not have"):
            ma.train(recording(adapter=adapter, optimizer="adamw"), out)


def test_the_recorder_takes_the_damping_of_the_runs_optimizer(recording, out: Path, monkeypatch):
    def refuse(model, path, every, damping):
        raise InterruptedError(f"every {every}, damping {damping}")

    monkeypatch.setattr("moe_analysis.training.unfit.ExpertRecorder", refuse)
    for options, expected in (({}, "1e-06"), ({"damping": 0.5}, "0.5")):
        with pytest.raises(InterruptedError, match=f"every 2, damping {expected}"):
            ma.train(recording(optimizer_options=options), out)
