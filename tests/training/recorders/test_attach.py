"""Loops of other people, recorded: the record is that of a run of ours, whatever the loop is made of."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, AdamW

import moe_analysis as ma
from moe_analysis.studies.convergence import loss_curves
from moe_analysis.studies.experts.anatomy import load_balance
from moe_analysis.studies.records import gate_entropy
from moe_analysis.studies.router_paths.paths import distinct_experts, router_paths
from moe_analysis.studies.router_paths.smoothness import gradient_noise, smoothness
from moe_analysis.training.recorders.attached_run import AttachedRun
from tests.adapters.cases import randomize
from tests.training.recorders.attach_loops import MODULE, ROUTER, assert_same_records, backward, router, steps, train


@pytest.mark.parametrize("hooked", [True, False], ids=["optimizer", "step()"])
@pytest.mark.usefixtures("blocks_of_five")
def test_the_record_is_the_weight_before_and_the_gradient_that_makes_each_update(model, folder, hooked) -> None:
    optimizer = SGD(model.parameters(), lr=0.5)
    with ma.attach(model, folder, optimizer if hooked else None) as handle:
        start = router(model)
        train(model, optimizer, 13, None if hooked else handle)
        assert steps(handle) == list(range(13))
    records = ma.open_records(folder)
    weights, grads = records["router_weight"].values, records["router_grad"].values
    assert records["router_weight"].dims == ("step", "module", "expert", "feature") and weights.shape == (13, 2, 4, 16)
    np.testing.assert_array_equal(weights[0, 0], start)
    np.testing.assert_allclose(weights[1:], weights[:-1] - 0.5 * grads[:-1], rtol=1e-5, atol=1e-6)
    assert np.abs(grads).max(axis=(1, 2, 3)).min() > 0
    np.testing.assert_allclose(records["gate_load"].sum("expert").values, 2.0, rtol=1e-5)  # top 2 of 4


def test_hooks_and_step_record_the_same(model, tmp_path) -> None:
    twin = copy.deepcopy(model)
    optimizer, other = AdamW(model.parameters(), lr=1e-2), AdamW(twin.parameters(), lr=1e-2)
    with ma.attach(model, tmp_path / "a", optimizer) as hooked, ma.attach(twin, tmp_path / "b") as told:
        train(model, optimizer, 5)
        train(twin, other, 5, told)
        assert_same_records(hooked.records, told.records, but=("loss",))


def test_the_analyses_take_an_attached_record_as_a_run(model, folder) -> None:
    optimizer = AdamW(model.parameters(), lr=1e-2)
    with ma.attach(model, folder, optimizer, name="my method", seed=3) as handle:
        for number in range(8):
            loss = backward(model, number)
            optimizer.step()
            optimizer.zero_grad()
            handle.log(loss)
            handle.log(99.0)  # the first after an update counts
        paths = router_paths([handle], MODULE)
    kept = AttachedRun.load(folder)
    assert router_paths([kept], MODULE).equals(paths)
    assert set(paths["method"]) == {"my method"} and set(paths["seed"]) == {3}
    assert paths["loss"].between(2, 5).all() and handle.history["loss"].iloc[-1] == pytest.approx(loss.item())
    assert np.isfinite(smoothness([kept])["relative_tortuosity"]).all()
    assert kept.config.optimizer == "adamw" and kept.config.system == "moelora" and kept.id == "mine"
    assert len(gradient_noise([kept])) == 2 and len(gate_entropy([kept])) == 8
    assert len(load_balance([kept])) == 16 and len(loss_curves([kept])) == 8 and len(distinct_experts([kept])) == 2


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    every=st.integers(1, 4),
    parts=st.integers(1, 3),
    updates=st.integers(1, 5),
    start=st.integers(0, 4),
    hooked=st.booleans(),
)
def test_every_nth_update_is_recorded_whatever_is_accumulated(
    model, tmp_path_factory, every, parts, updates, start, hooked
) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    path = tmp_path_factory.mktemp("run")
    with ma.attach(model, path, optimizer if hooked else None, every=every, at_step=start) as handle:
        sums = {}
        for update in range(start, start + updates):
            for part in range(parts):
                backward(model, 10 * update + part)
            sums[update] = model.get_submodule(ROUTER).weight.grad.numpy().copy()
            optimizer.step()
            if not hooked:
                handle.step()
            optimizer.zero_grad()
        due = [update for update in sums if update % every == 0]
        assert steps(handle) == due
        for number, update in enumerate(due):
            np.testing.assert_array_equal(handle.records["router_grad"][number, 0].values, sums[update])


class Own(nn.Module):
    """A user's module with two of our adapters, of other systems and sizes, beside its own layers."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(12, 10)
        self.first = ma.adapters.TRex(12, 10, ma.adapters.TRexConfig(num_down=2, num_up=3))
        self.second = ma.adapters.Smore(10, 5, ma.adapters.SmoreConfig(r=2))

    def forward(self, x: torch.Tensor, context: ma.adapters.RoutingContext) -> torch.Tensor:
        hidden = self.base(x) + self.first(x, context=context)[0]
        return self.second(hidden)[0]


def test_pure_modules_in_a_users_own_model_are_recorded(folder) -> None:
    model = Own()
    randomize(model)
    optimizer = SGD(model.parameters(), lr=1e-3)
    with ma.attach(model, folder, optimizer) as handle:
        for _ in range(3):  # rows of features, without a sequence
            model(torch.randn(8, 12), ma.adapters.RoutingContext(torch.rand(8, 6))).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        records = handle.records
    assert records["router_weight"].shape == (3, 1, 6, 12) and records["module"].values.tolist() == ["first"]
    trees = [name for name in records.data_vars if name.startswith("gate_entropy_")]
    assert len(trees) == 1 and np.isfinite(records[trees[0]].values).all()


def test_padding_is_left_out_of_the_statistics_however_the_context_is_passed(folder) -> None:
    model = Own()
    randomize(model)
    x, mask = torch.randn(2, 5, 12), torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    context = ma.adapters.RoutingContext(torch.rand(2, 6), mask)
    gates = model.first(x, context)[1].gates.flatten(2).detach()  # (2, 5, 6)
    optimizer = SGD(model.parameters(), lr=1e-3)
    with ma.attach(model, folder, optimizer) as handle:
        model(x, context).square().mean().backward()
        optimizer.step()
        importance = handle.records["gate_importance"].values[0, 0]
    np.testing.assert_allclose(importance, gates[mask.bool()].mean(0), rtol=1e-5)


def test_a_wrapped_model_keeps_the_names_of_the_model_inside(model, folder) -> None:
    wrapper = nn.Module()
    wrapper._orig_mod = model  # as torch.compile does, which takes seconds
    optimizer = SGD(wrapper.parameters(), lr=0.1)
    with ma.attach(wrapper, folder, optimizer) as handle:
        train(model, optimizer, 2)
        assert handle.records["module"].values.tolist()[0] == MODULE
