"""Which parameters of a model are two factors: of our adapters and of PEFT's LoRA, what is refused."""

from __future__ import annotations

import warnings

import peft
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from moe_analysis.adapters import TRex, TRexConfig
from moe_analysis.optim import (
    RiemannianAdamW,
    RiemannianSGD,
    factor_pairs,
)

from .stacks import by_hand, layers, model_of


def test_a_single_lora_of_peft_is_a_pair():
    torch.manual_seed(0)
    model = peft.get_peft_model(nn.Sequential(nn.Linear(6, 5)), peft.LoraConfig(r=2, target_modules=["0"])).double()
    pairs = factor_pairs(model)
    assert [pair.shape for pair in pairs] == [(2, 6, 5)]
    for parameter in (pairs[0].A, pairs[0].B):
        parameter.data.normal_()
        parameter.grad = torch.randn_like(parameter)
    a, b = pairs[0].A.detach().clone(), pairs[0].B.detach().clone()
    moved_a, moved_b = by_hand(a[None], b[None], pairs[0].A.grad[None], pairs[0].B.grad[None])
    RiemannianSGD(model, lr=0.1).step()
    torch.testing.assert_close(pairs[0].A.detach(), a - 0.1 * moved_a[0])
    torch.testing.assert_close(pairs[0].B.detach(), b - 0.1 * moved_b[0])


class ExpertWeights(nn.Module):
    """Four experts whose weights are one parameter, (E, out, in), or (E, in, out) as in gpt-oss if transposed."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.is_transposed = transposed  # PEFT's name
        self.w = nn.Parameter(torch.randn(4, 6, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ti,eio->teo", x, self.w if self.is_transposed else self.w.mT)


class Experts(nn.Module):
    """A model with such a layer, for PEFT."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.ex = ExpertWeights(transposed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ex(x)


def adapted_experts(transposed: bool) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """(model, its LoRA layer, a gradient that reaches expert 0 alone and is now in the factors, as (out, in))."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_parameters=["ex.w"], target_modules=[], init_lora_weights=False, lora_alpha=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns that no module is named
        model = peft.get_peft_model(Experts(transposed), config).double()
    x, weights = torch.randn(5, 6 if transposed else 8).double(), torch.randn(5, 8 if transposed else 6).double()
    (model(x)[:, 0] * weights).sum().backward()
    return model, model.base_model.model.ex, weights.T @ x


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("update", ["simultaneous", "sequential"])
@pytest.mark.parametrize("kind", [RiemannianSGD, RiemannianAdamW])
def test_an_expert_of_pefts_target_parameters_moves_by_its_own_gradient_alone(kind, update, transposed):
    model, layer, _ = adapted_experts(transposed)
    before = layer.get_delta_weight("default").detach()
    kind(model, lr=1e-2, update=update).step()
    moved = (layer.get_delta_weight("default").detach() - before).abs().amax((1, 2))
    assert moved[0] > 1e-3 and (moved[1:] < 1e-12).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_the_experts_of_pefts_target_parameters_step_by_the_papers_formula(transposed):
    model, layer, full = adapted_experts(transposed)
    (pair,) = factor_pairs(model)
    a, b = pair.down(pair.A).detach().clone(), pair.up(pair.B).detach().clone()
    delta = layer.get_delta_weight("default").detach()
    torch.testing.assert_close(b @ a, delta.mT if transposed else delta)
    assert pair.shape == ((2, 6, 8) if transposed else (2, 8, 6))
    moved_a, moved_b = by_hand(a[:1], b[:1], (b[0].T @ full)[None], (full @ a[0].T)[None])
    RiemannianSGD(model, lr=0.1).step()
    torch.testing.assert_close(pair.down(pair.A).detach()[0], a[0] - 0.1 * moved_a[0])
    torch.testing.assert_close(pair.up(pair.B).detach()[0], b[0] - 0.1 * moved_b[0])
    assert torch.equal(pair.down(pair.A)[1:], a[1:]) and torch.equal(pair.up(pair.B)[1:], b[1:])


def test_a_factor_of_pefts_experts_that_is_not_finite_is_named_by_its_expert():
    model, layer, _ = adapted_experts(transposed=False)
    layer.lora_B["default"].weight.data[0, 6] = float("nan")  # rank 1 of expert 2: column 1·4 + 2
    with pytest.raises(FloatingPointError, match="the first is B of base_model.model.ex.default, expert 2"):
        RiemannianSGD(model, lr=0.1).step()


def test_an_update_of_peft_that_is_no_product_of_two_factors_is_refused():
    config = peft.LoraConfig(r=2, target_modules=["0"], kasa_config=peft.tuners.lora.config.KasaConfig())
    model = peft.get_peft_model(nn.Sequential(nn.Linear(6, 5)), config)
    with pytest.raises(ValueError, match=r"0.default: kasa_config puts a diagonal .* use a plain optimizer"):
        RiemannianSGD(model, lr=0.1)


def test_a_model_without_pairs_is_refused_with_its_adapters():
    with pytest.raises(ValueError, match=r"no pair of low-rank factors.*TRex.*plain optimizer"):
        RiemannianSGD(nn.ModuleList([TRex(4, 4, TRexConfig(num_down=2, num_up=2))]), lr=0.1)


def test_the_pairs_of_an_adapter_that_came_later_are_preconditioned_in_a_group_of_their_own():
    right = model_of("default", "later")
    RiemannianSGD(right, lr=0.1).step()
    model = model_of("default", "later")
    later = [parameter for name, parameter in model.named_parameters() if ".later." in name]
    for parameter in later:
        parameter.requires_grad_(False)
    optimizer = RiemannianSGD(model, lr=0.1)
    for parameter in later:
        parameter.requires_grad_(True)
    optimizer.add_param_group({"params": later})
    assert len(optimizer.pairs) == 2
    optimizer.step()
    for ours, theirs in zip(model.parameters(), right.parameters()):
        torch.testing.assert_close(ours, theirs)


def test_parameters_in_the_place_of_the_model_are_refused():
    with pytest.raises(ValueError, match="model = list is not a torch module; pass the model itself"):
        RiemannianAdamW(list(layers((3, 2, 6, 5)).parameters()), lr=0.1)


def test_a_pair_that_two_layers_share_is_moved_once_by_the_gradient_of_both():
    alone, shared = layers((3, 2, 6, 5)), layers((3, 2, 6, 5), (3, 2, 6, 5))
    shared[0].load_state_dict(alone[0].state_dict())
    shared[1].A, shared[1].B = shared[0].A, shared[0].B
    for p, q in zip(alone.parameters(), shared[0].parameters()):
        q.grad = p.grad.clone()
    for model in (alone, shared):
        RiemannianSGD(model, lr=0.1).step()
    assert len(factor_pairs(shared)) == 1
    assert torch.equal(alone[0].A, shared[1].A) and torch.equal(alone[0].B, shared[1].B)


@pytest.mark.parametrize("factor", ["A", "B"])
def test_a_factor_with_two_partners_is_refused(factor):
    modules = layers((3, 2, 6, 5), (3, 2, 6, 5))
    setattr(modules[1], factor, getattr(modules[0], factor))
    with pytest.raises(ValueError, match="1 shares one factor with 0 and not the other"):
        RiemannianSGD(modules, lr=0.1)


class Twice(nn.Module):
    """A parametrization."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


@pytest.mark.parametrize("factor", ["A", "B"])
@pytest.mark.parametrize(
    "compute",
    [
        lambda layer, name: prune.l1_unstructured(layer, name, 0.3),
        lambda layer, name: parametrize.register_parametrization(layer, name, Twice()),
    ],
    ids=["pruned", "parametrized"],
)
def test_a_factor_that_is_computed_from_another_weight_is_refused(compute, factor):
    module = layers((3, 2, 6, 5))[0]
    compute(module, factor)
    with pytest.raises(ValueError, match=f"MoeLora: {factor} is computed from another weight"):
        RiemannianSGD(module, lr=0.1)
