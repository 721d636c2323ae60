"""Updates that did not happen, gradients and layers that were not there: none of them is recorded as if it were."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.optim import SGD, AdamW

import moe_analysis as ma
from tests.training.recorders.attach_loops import ROUTER, backward, router, steps, train


@pytest.mark.parametrize("kind", ["hooks", "hooks, unscaled first", "fused", "step()"])
def test_an_update_that_a_grad_scaler_skips_is_not_recorded(model, folder, kind) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    optimizer = AdamW(model.parameters(), lr=1e-2, fused=kind == "fused")
    with ma.attach(model, folder, None if kind == "step()" else optimizer) as handle:
        expected, weights = [], []
        for number in range(6):
            skipped = number in (0, 3)
            before = router(model)
            backward(model, number, scale=scaler.get_scale() * (torch.inf if skipped else 1.0))
            scaler.scale(torch.zeros(()))  # the scaler wants to have seen a loss
            if kind == "hooks, unscaled first":
                scaler.unscale_(optimizer)
            scale = 1.0 if kind == "hooks, unscaled first" else scaler.get_scale()
            gradient = model.get_submodule(ROUTER).weight.grad.numpy() / scale
            scaler.step(optimizer)
            if kind == "step()":
                handle.step()
            assert np.array_equal(before, router(model)) == skipped
            if not skipped:
                expected.append(gradient)
                weights.append(before)
            optimizer.zero_grad()
            scaler.update()
        assert steps(handle) == [0, 1, 2, 3]
        np.testing.assert_allclose(handle.records["router_grad"][:, 0].values, expected, rtol=1e-5)
        np.testing.assert_array_equal(handle.records["router_weight"][:, 0].values, weights)


def test_a_loop_that_diverges_is_recorded_as_it_diverges(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    with ma.attach(model, folder) as handle:
        train(model, optimizer, 1, handle)
        for p in model.parameters():
            p.grad = None if not p.requires_grad else torch.full_like(p, torch.nan)
        backward(model)
        optimizer.step()
        handle.step()
        assert steps(handle) == [0, 1]
        assert handle.records["router_grad"][1].isnull().all()


@pytest.mark.parametrize("hooked", [True, False], ids=["optimizer", "step()"])
def test_a_router_without_a_gradient_has_the_gradient_zero(model, folder, hooked) -> None:
    model.get_submodule(ROUTER).weight.requires_grad_(False)
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with ma.attach(model, folder, optimizer if hooked else None) as handle:
        train(model, optimizer, 2, None if hooked else handle)
        grads = handle.records["router_grad"].values
    assert not grads[:, 0].any() and grads[:, 1].any()


def test_only_forward_passes_that_can_be_learnt_from_count(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    model.eval()  # some loops train without dropout so
    with ma.attach(model, folder, optimizer) as handle:
        loss = backward(model)
        gates = {name: kept[0].clone() for name, kept in handle.recorder.gates.items()}
        with torch.no_grad():
            model(input_ids=torch.randint(3, 40, (5, 9)))
        twin = copy.deepcopy(model)
        backward(twin, 5)
        assert all(torch.equal(handle.recorder.gates[name][0], gates[name]) for name in gates)
        optimizer.step()
        assert torch.isfinite(loss) and handle.records["gate_load"].notnull().all()


def test_a_layer_that_did_not_run_has_no_statistics(model, folder) -> None:
    optimizer = SGD(model.parameters(), lr=0.1)
    layer = model.get_submodule("base_model.model.model.layers.1.self_attn.q_proj")
    with ma.attach(model, folder, optimizer) as handle:
        layer.enable_adapters(False)
        train(model, optimizer, 1)
        entropy = handle.records["gate_entropy"].values
    assert np.isfinite(entropy[0, 0]) and np.isnan(entropy[0, 1])
