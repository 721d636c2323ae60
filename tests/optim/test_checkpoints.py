"""What a saved optimizer restores, its settings, and copies of it."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from moe_analysis.optim import (
    RiemannianAdamW,
    RiemannianSGD,
)

from .stacks import HALF, factors, layers, model_of


@pytest.mark.parametrize("kind", [RiemannianSGD, RiemannianAdamW])
@pytest.mark.parametrize("update", ["simultaneous", "sequential"])
def test_a_saved_state_continues_bit_by_bit(kind, update):
    modules = layers((3, 2, 6, 5), (4, 3, 5, 7))
    optimizer = kind(modules, lr=0.05, update=update)
    optimizer.step()
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    other = copy.deepcopy(modules)
    resumed = kind(other, lr=0.05, update=update)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    for model, one in ((modules, optimizer), (other, resumed)):
        torch.manual_seed(7)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        one.step()
    assert all(torch.equal(p, q) for p, q in zip(modules.parameters(), other.parameters()))


SETTINGS = {
    RiemannianSGD: {"damping": 1e-3, "update": "sequential", "precondition": True},
    RiemannianAdamW: {"damping": 1e-3, "update": "sequential", "precondition": True, "correct_bias": True},
}


def settings_of(optimizer: torch.optim.Optimizer) -> dict:
    return {name: getattr(optimizer, name) for name in SETTINGS[type(optimizer)]}


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("other", [{}, {"damping": 0.1, "precondition": False}])
def test_a_saved_state_continues_bit_by_bit_in_an_optimizer_of_other_settings(kind, other):
    modules = layers((3, 2, 6, 5), (4, 3, 5, 7))
    optimizer = kind(modules, lr=0.05, **SETTINGS[kind])
    optimizer.step()
    again = copy.deepcopy(modules)
    for p, q in zip(modules.parameters(), again.parameters()):
        q.grad = p.grad.clone()
    resumed = kind(again, lr=0.3, **other)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    assert settings_of(resumed) == SETTINGS[kind]
    optimizer.step(), resumed.step()
    assert all(torch.equal(p, q) for p, q in zip(modules.parameters(), again.parameters()))


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_checkpoint_from_before_the_settings_were_saved_leaves_those_of_the_optimizer(kind):
    optimizer = kind(layers((3, 2, 6, 5)), lr=0.05)
    optimizer.step()
    old = optimizer.state_dict()
    for group in old["param_groups"]:
        for name in SETTINGS[kind]:
            del group[name]
    resumed = kind(layers((3, 2, 6, 5)), lr=0.3, **SETTINGS[kind])
    resumed.load_state_dict(old)
    assert settings_of(resumed) == SETTINGS[kind] and resumed.param_groups[0]["lr"] == 0.05
    resumed.step()


def test_a_checkpoint_that_does_not_fit_changes_nothing():
    optimizer = RiemannianSGD(layers((3, 2, 6, 5)), lr=0.05)
    broken = optimizer.state_dict()
    broken["fallbacks"], broken["param_groups"][1]["update"] = 7, "both"
    with pytest.raises(ValueError, match="update = 'both' is unknown"):
        optimizer.load_state_dict(broken)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({**optimizer.state_dict(), "param_groups": [], "fallbacks": 7})
    assert (optimizer.update, optimizer.fallbacks) == ("simultaneous", 0)


def test_a_setting_is_one_for_all_groups():
    modules = layers((3, 2, 6, 5))
    optimizer = RiemannianAdamW(modules, lr=0.05)
    optimizer.damping = 1e-3
    assert [group["damping"] for group in optimizer.param_groups] == [1e-3, 1e-3]
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    assert optimizer.param_groups[2]["damping"] == 1e-3
    with pytest.raises(ValueError, match="correct_bias = True of the new group is not False as in the other groups"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "correct_bias": True})
    with pytest.raises(ValueError, match="damping = 0 must be positive"):
        optimizer.damping = 0
    optimizer.param_groups[1]["correct_bias"] = True
    before = factors(modules)
    with pytest.raises(
        ValueError, match=r"correct_bias = \[False, True, False\] differs .* set optimizer.correct_bias"
    ):
        optimizer.step()
    assert all(torch.equal(old, new) for old, new in zip(before, factors(modules)))


@pytest.mark.parametrize("kind", [RiemannianSGD, RiemannianAdamW])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_a_copy_of_the_model_with_its_optimizer_steps_as_they_do(kind, duplicate):
    model = model_of("default")
    optimizer = kind(model, lr=0.1)
    optimizer.step()
    gradients = [parameter.grad for parameter in model.parameters()]
    again, other = duplicate((model, optimizer))
    for parameter, gradient in zip(again.parameters(), gradients):
        parameter.grad = gradient  # a pickle has none
    other.step()
    optimizer.step()
    for ours, theirs in zip(again.parameters(), model.parameters()):
        assert torch.equal(ours, theirs)


@HALF
def test_a_saved_state_of_half_types_keeps_its_moments(dtype):
    modules = layers((3, 2, 6, 5), dtype=dtype)
    optimizer = RiemannianAdamW(modules, lr=1e-2)
    for parameter in modules.parameters():
        parameter.grad *= 1e-3
    optimizer.step()
    again = copy.deepcopy(modules)
    for p, q in zip(modules.parameters(), again.parameters()):
        q.grad = p.grad.clone()
    resumed = RiemannianAdamW(again, lr=1e-2)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    optimizer.step(), resumed.step()
    assert all(torch.equal(p, q) for p, q in zip(modules.parameters(), again.parameters()))
    for p, q in zip(modules.parameters(), again.parameters()):
        assert all(torch.equal(optimizer.state[p][name], resumed.state[q][name]) for name in ("exp_avg", "exp_avg_sq"))


def test_a_state_with_moments_of_a_half_type_of_an_older_version_is_taken_on():
    modules = layers((3, 2, 6, 5), dtype=torch.float16)
    optimizer = RiemannianAdamW(modules, lr=1e-2)
    optimizer.step()
    old = optimizer.state_dict()
    for moments in old["state"].values():
        moments |= {name: moments[name].half() for name in ("exp_avg", "exp_avg_sq")}
    resumed = RiemannianAdamW(modules, lr=1e-2)
    resumed.load_state_dict(old)
    resumed.step()
    assert all(state["exp_avg_sq"].dtype == torch.float32 for state in resumed.state.values())
