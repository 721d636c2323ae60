"""The regression bench against a plain loop over one real student, and its grids against single runs."""

from __future__ import annotations

import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.adapters import MoeLora, MoeLoraConfig
from moe_analysis.optim import RiemannianAdamW, RiemannianSGD
from moe_analysis.studies.optimizers import regression_grid
from moe_analysis.studies.optimizers.regression import RegressionTask, new_student, side_by_side, train_regression
from moe_analysis.studies.optimizers.regression_grid import RegressionConfig, grid, match_steps, train_grid
from moe_analysis.training.files import RunError

TASK = RegressionTask(in_features=6, out_features=5, num_experts=4, r=2, clusters=5, samples=64, validation=32)
ADAPTER = MoeLoraConfig(num_experts=4, r=2, top_k=2, temperature=0.7, gate_backward_power=0.5)
SMALL = RegressionConfig(task=TASK, top_k=2, lr=0.01, steps=4, batch=8, record_every=2, seeds=(0, 1))


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def alone(optimizer: type, adapter: MoeLoraConfig, seed: int, steps: int, lr: float, router_lr: float, **options):
    """One real `MoeLora` under the protocol, written out: (last batch error, validation error, last step length)."""
    data, student = TASK.draw(seed), new_student(TASK, adapter, seed)
    order = torch.randint(TASK.samples, (steps, 8), generator=torch.Generator().manual_seed(seed))
    optim = optimizer(student, lr, router_lr, **options)
    for step in range(steps):
        for group, start in zip(optim.param_groups, (lr, router_lr)):
            group["lr"] = start * (1 - 0.9 * step / steps)
        before = [student.scaling * (b @ a).detach() for a, b in zip(student.A, student.B)]
        optim.zero_grad()
        x, y = data.x[order[step]], data.y[order[step]]
        loss = ((x @ data.base.T + student(x)[0] - y) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.router.parameters(), 1.0)
        optim.step()
        moved = (
            sum(
                float(((student.scaling * b @ a - old) ** 2).sum().detach())
                for a, b, old in zip(student.A, student.B, before)
            )
            ** 0.5
        )
    validation = ((data.valid_x @ data.base.T + student(data.valid_x)[0] - data.valid_y) ** 2).mean()
    return float(loss.detach()), float(validation.detach()), moved


@pytest.mark.parametrize(
    "name, optimizer, lr", [("riemannian_sgd", RiemannianSGD, 0.05), ("riemannian_adamw", RiemannianAdamW, 0.02)]
)
@pytest.mark.parametrize("power, precondition", [(1.0, True), (0.5, True), (0.5, False)])
def test_students_side_by_side_are_each_the_student_alone(double, name, optimizer, lr, power, precondition):
    adapter, options = replace(ADAPTER, gate_backward_power=power), {"precondition": precondition}
    history = train_regression(
        TASK, adapter, name, options, lr=lr, router_lr=2.0, steps=12, batch=8, seeds=(3, 0, 1), record_every=1
    )
    last = history[history["step"] == 12].set_index("seed")
    for seed in (0, 1, 3):
        expected = alone(optimizer, adapter, seed, 12, lr, 2.0, **options)
        found = last.loc[seed, ["train_mse", "validation_mse", "effective_step"]].tolist()
        assert found == pytest.approx(expected, rel=1e-8)


def test_a_students_tokens_see_its_own_experts_alone():
    students = [new_student(TASK, ADAPTER, seed) for seed in (0, 1, 2)]
    x = torch.randn(3, 7, TASK.in_features)
    gates = side_by_side(students)(x)[1].gates.unflatten(-1, (3, 4))  # (S, N, S, E)
    for own, student in enumerate(students):
        assert torch.allclose(gates[own, :, own], student(x[own])[1].gates)
        assert gates[own].sum((1, 2)).allclose(torch.ones(7))


def test_one_expert_a_token_makes_every_exponent_the_same_to_the_last_bit():
    single = replace(ADAPTER, top_k=1)
    histories = [
        train_regression(
            TASK,
            replace(single, gate_backward_power=power),
            lr=0.03,
            router_lr=0.3,
            steps=8,
            batch=8,
            seeds=(0, 1),
            record_every=4,
        )
        for power in (1.0, 0.5, 0.0)
    ]
    pd.testing.assert_frame_equal(histories[0], histories[1], check_exact=True)
    pd.testing.assert_frame_equal(histories[0], histories[2], check_exact=True)
    assert histories[0]["validation_mse"].nunique() == 6 and histories[0]["gate_entropy"].isna().all()


@settings(deadline=None, max_examples=5)
@given(power=st.floats(0.0, 0.9), top_k=st.integers(2, 4))
def test_even_gates_make_rescaling_a_learning_rate(power, top_k):
    torch.set_default_dtype(torch.float64)
    try:
        even = replace(ADAPTER, top_k=top_k, temperature=1e9, gate_backward_power=power)
        shared = {"router_lr": 0.0, "steps": 10, "batch": 8, "seeds": (0,), "record_every": 5}
        rescaled = train_regression(TASK, even, lr=0.02, **shared)
        plain = train_regression(TASK, replace(even, gate_backward_power=1.0), lr=0.02 * top_k ** (1 - power), **shared)
    finally:
        torch.set_default_dtype(torch.float32)
    pd.testing.assert_frame_equal(rescaled, plain, rtol=1e-6)
    assert rescaled["gate_entropy"].to_numpy() == pytest.approx(1.0)


def test_temperature_moves_the_entropy_from_one_expert_to_all_alike():
    entropies = [
        train_regression(
            TASK, replace(ADAPTER, temperature=t), lr=0.1, router_lr=0.0, steps=2, batch=8, record_every=2
        )["gate_entropy"].iloc[-1]
        for t in (1e-3, 0.3, 1e4)
    ]
    assert entropies[0] < 0.05 < entropies[1] < 0.99 < entropies[2] <= 1 + 1e-6


def test_an_untrained_student_has_error_one_on_targets_without_noise(double):
    data = replace(TASK, noise=0.0).draw(4)
    update = data.y - data.x @ data.base.T
    assert float((update**2).mean()) == pytest.approx(1.0)
    history = train_regression(TASK, ADAPTER, lr=0.0, router_lr=0.0, steps=2, batch=8, seeds=(4,), record_every=1)
    expected = float(((data.valid_y - data.valid_x @ data.base.T) ** 2).mean())
    assert history["validation_mse"].tolist() == pytest.approx([expected] * 3)
    assert history["effective_step"].iloc[1:].tolist() == [0, 0]
    assert history["train_mse"].isna().tolist() == [True, False, False]


def test_the_teacher_needs_more_than_one_map(double):
    data = replace(TASK, noise=0.0, samples=400, clusters=3).draw(0)
    target, cluster = data.y - data.x @ data.base.T, torch.arange(400) % 3
    one = torch.linalg.lstsq(data.x, target).solution
    residual = [
        float(
            (
                target[cluster == c]
                - data.x[cluster == c] @ torch.linalg.lstsq(data.x[cluster == c], target[cluster == c]).solution
            ).norm()
        )
        for c in range(3)
    ]
    assert max(residual) < 1e-9 < 0.1 < float(((target - data.x @ one) ** 2).mean())


def test_the_same_seed_gives_the_same_data_and_another_does_not():
    first, again, other = TASK.draw(1), TASK.draw(1), TASK.draw(2)
    assert torch.equal(first.y, again.y) and not torch.equal(first.y, other.y)
    assert not torch.equal(replace(TASK, seed=1).draw(1).base, first.base)


@dataclass(frozen=True)
class Exploding(RegressionTask):
    """The targets of seed 1 are too large for float32."""

    def draw(self, seed: int = 0):
        data = super().draw(seed)
        return replace(data, y=data.y * (1e25 if seed == 1 else 1))


def test_a_seed_that_diverges_leaves_the_others_as_they_are():
    task = Exploding(**{field.name: getattr(TASK, field.name) for field in fields(TASK)})
    shared = {"lr": 0.03, "router_lr": 0.3, "steps": 8, "batch": 8, "record_every": 2}
    both = train_regression(task, ADAPTER, seeds=(0, 1), **shared).set_index("seed")
    alone = train_regression(TASK, ADAPTER, seeds=(0,), **shared).set_index("seed")
    pd.testing.assert_frame_equal(both.loc[[0]], alone)
    lost = both.loc[1]
    assert lost["step"].tolist() == [0, 2, 4, 6, 8] and lost["diverged"].tolist() == [False, True, True, True, True]
    assert (lost["validation_mse"].iloc[1:] == math.inf).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"record_every": 3}, "steps = 4 is not a multiple of record_every = 3"),
        ({"adapter": replace(ADAPTER, gate="dense", top_k=None)}, "gate = 'dense'"),
        ({"adapter": replace(ADAPTER, dropout=0.1)}, "dropout = 0.1"),
        ({"task": replace(TASK, active=5)}, "active = 5 must be between 1 and num_experts = 4"),
    ],
)
def test_settings_that_cannot_be_trained_are_named(change, message):
    settings = {"task": TASK, "adapter": ADAPTER, "lr": 0.1, "router_lr": 0.1, "steps": 4, "record_every": 2, **change}
    with pytest.raises(ValueError, match=message):
        train_regression(**settings)


def test_methods_have_the_papers_names():
    names = [one.method for one in grid(SMALL, precondition=(True, False), power=(1.0, 0.5, 0.25))]
    assert names == ["RSGD", "gRSGD", "gRSGD (p = 0.25)", "SGD", "gSGD", "gSGD (p = 0.25)"]
    assert replace(SMALL, optimizer="riemannian_adamw", power=0.5).method == "gRAdamW"


def test_every_choice_changes_the_digest():
    changes = {
        "task": replace(TASK, noise=0.2),
        "power": 0.5,
        "top_k": 3,
        "temperature": 2.0,
        "lr": 0.5,
        "steps": 6,
        "optimizer": "riemannian_adamw",
        "precondition": False,
        "router_lr": 0.1,
        "batch": 4,
        "record_every": 1,
        "seeds": (0,),
    }
    assert set(changes) == {field.name for field in fields(RegressionConfig)}
    assert len({SMALL.digest, *(replace(SMALL, **{name: value}).digest for name, value in changes.items())}) == 13


def test_a_grid_is_trained_once_and_then_read(tmp_path: Path, monkeypatch):
    configs = grid(SMALL, power=(1.0, 0.5), lr=(0.01, 0.02))
    with ThreadPoolExecutor(1) as pool:
        first = train_grid(configs, tmp_path, executor=pool)
    monkeypatch.setattr(regression_grid, "train_alone", None)
    pd.testing.assert_frame_equal(train_grid(configs, tmp_path), first)
    assert len(first) == 4 * 2 * 3 and first["method"].unique().tolist() == ["RSGD", "gRSGD"]
    wanted = first[(first["power"] == 0.5) & (first["lr"] == 0.02)].reset_index(drop=True)
    pd.testing.assert_frame_equal(wanted, replace(SMALL, power=0.5, lr=0.02).train())


def test_several_configurations_go_to_spawned_processes(tmp_path: Path, monkeypatch):
    asked = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *work):
            return super().submit(*pickle.loads(pickle.dumps(work)))

    monkeypatch.setattr(regression_grid, "shared_pool", lambda workers: asked.append(workers) or Pool(1))
    histories = train_grid(grid(SMALL, lr=(0.01, 0.02)), tmp_path, workers=7)
    assert asked == [7] and histories["lr"].unique().tolist() == [0.01, 0.02]
    train_grid(grid(SMALL, lr=(0.01, 0.02, 0.03)), tmp_path, workers=7)
    assert asked == [7]  # what is left is one, which starting a process would only delay


def test_no_workers_are_not_all_of_them(tmp_path: Path):
    with pytest.raises(ValueError, match="workers = 0 must be at least 1"):
        train_grid([SMALL], tmp_path / "bench", workers=0)
    assert not list(tmp_path.iterdir())


def test_a_failing_configuration_is_named_and_stops_no_other(tmp_path: Path):
    bad = replace(SMALL, top_k=9)
    with pytest.raises(RunError, match=r"1 of 2 configurations failed(?s:.*)top_k = 9"):
        train_grid([bad, SMALL], tmp_path, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == [f"{SMALL.digest}.parquet"]


def test_matched_steps_are_as_long_as_the_targets(tmp_path: Path):
    config = replace(SMALL, steps=20, lr=0.01)
    rounds = match_steps(replace(config, power=0.5), config, tmp_path)
    ratios = rounds.groupby("round")["step_ratio"].first().to_numpy()
    lrs = rounds.groupby("round")["lr"].first().to_numpy()
    assert ratios[0] > 1.1 and abs(np.log(ratios[2])) < 0.2 * np.log(ratios[0])
    assert lrs[1:] == pytest.approx(lrs[:-1] * ratios[:-1]) and (rounds["reference"] == 0.01).all()


def test_nothing_can_be_matched_to_runs_that_diverged(tmp_path: Path):
    config = replace(SMALL, lr=0.01)
    rounds = match_steps(replace(config, power=0.5, lr=1e12), config, tmp_path)
    assert rounds["round"].unique().tolist() == [0] and rounds["step_ratio"].isna().all()


def test_the_student_is_a_real_adapter():
    assert type(side_by_side([new_student(TASK, ADAPTER, 0)])) is MoeLora
