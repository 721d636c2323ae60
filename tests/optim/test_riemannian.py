"""The preconditioned optimizers: against formulas written out expert by expert, and by their invariances."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from functools import partial

import peft
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import moe_analysis as ma
from moe_analysis.adapters import MoeLora, MoeLoraConfig, TRex, TRexConfig
from moe_analysis.optim import (
    FallbackWarning,
    RiemannianAdamW,
    RiemannianSGD,
    check_options,
    factor_pairs,
    precondition,
)

DAMPING = 1e-6


def layers(*shapes: tuple[int, int, int, int], seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.ModuleList:
    """A MoeLora for every (experts, r, in, out) with random factors and gradients."""
    torch.manual_seed(seed)
    modules = nn.ModuleList(
        MoeLora(width, out, MoeLoraConfig(num_experts=experts, r=rank)) for experts, rank, width, out in shapes
    ).to(dtype)
    for parameter in modules.parameters():
        parameter.data.normal_()
        parameter.grad = torch.randn_like(parameter)
    return modules


def factors(modules: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in modules.parameters()]


def by_hand(A: torch.Tensor, B: torch.Tensor, grad_a: torch.Tensor, grad_b: torch.Tensor, damping: float = DAMPING):
    """Section 2.2, one expert at a time, with an explicit inverse."""
    eye = damping * torch.eye(A.shape[1], dtype=A.dtype)
    moved = [
        (torch.inverse(b.T @ b + eye) @ ga, gb @ torch.inverse(a @ a.T + eye))
        for a, b, ga, gb in zip(A, B, grad_a, grad_b)
    ]
    return torch.stack([a for a, _ in moved]), torch.stack([b for _, b in moved])


def test_simultaneous_steps_are_the_papers_formula_for_every_expert_of_every_shape():
    modules = layers((3, 2, 6, 5), (4, 3, 5, 7), (2, 2, 6, 5))
    before = copy.deepcopy(modules)
    RiemannianSGD(modules, lr=0.1, router_lr=0.3).step()
    for old, new in zip(before, modules):
        grads = [copy.deepcopy(p.grad) for p in (new.A, new.B)]
        moved_a, moved_b = by_hand(old.A.detach(), old.B.detach(), *grads)
        torch.testing.assert_close(new.A.detach(), old.A.detach() - 0.1 * moved_a)
        torch.testing.assert_close(new.B.detach(), old.B.detach() - 0.1 * moved_b)
        router = old.router.weight.detach() - 0.3 * new.router.weight.grad
        torch.testing.assert_close(new.router.weight.detach(), router)


def test_sequential_steps_precondition_b_by_the_updated_a():
    modules = layers((3, 2, 6, 5))
    old = copy.deepcopy(modules[0])
    RiemannianSGD(modules, lr=0.1, update="sequential").step()
    new = modules[0]
    moved_a, _ = by_hand(old.A.detach(), old.B.detach(), new.A.grad, new.B.grad)
    _, moved_b = by_hand(old.A.detach() - 0.1 * moved_a, old.B.detach(), new.A.grad, new.B.grad)
    torch.testing.assert_close(new.B.detach(), old.B.detach() - 0.1 * moved_b)


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


@settings(max_examples=25, deadline=None)
@given(experts=st.integers(1, 4), rank=st.integers(1, 4), seed=st.integers(0, 99))
def test_the_change_of_the_product_does_not_depend_on_how_it_is_factored(experts, rank, seed):
    module = layers((experts, rank, 7, 6), seed=seed)[0]
    A, B, full = module.A.detach(), module.B.detach(), torch.randn(experts, 6, 7, dtype=torch.float64)
    mix = torch.randn(experts, rank, rank, dtype=torch.float64) + 3 * torch.eye(rank, dtype=torch.float64)

    def change(A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
        moved_a, moved_b = precondition(A, B, B.mT @ full, full @ A.mT, damping=1e-12)
        return moved_b @ A + B @ moved_a

    torch.testing.assert_close(change(mix @ A, B @ torch.linalg.inv(mix)), change(A, B), rtol=1e-6, atol=1e-6)


# a damping that is more than the rounding of a Gram matrix with entries of some 10: less may have no Cholesky factor
RESOLVED = {torch.float32: 1e-4, torch.float64: DAMPING}


@settings(max_examples=25, deadline=None)
@given(
    rank=st.integers(1, 4), deficient=st.booleans(), scale=st.sampled_from([1e-6, 1.0, 1e3]), seed=st.integers(0, 99)
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_direction_always_descends(dtype, rank, deficient, scale, seed):
    module = layers((3, rank, 7, 6), seed=seed, dtype=dtype)[0]
    A, B = module.A.detach() * scale, module.B.detach() * scale
    if deficient:
        A[:, -1], B[:, :, -1] = A[:, 0], B[:, :, 0]
    damping = RESOLVED[dtype] * max(1.0, scale**2)
    moved_a, moved_b = precondition(A, B, module.A.grad, module.B.grad, damping)
    assert ((moved_a * module.A.grad).sum((1, 2)) > 0).all()
    assert ((moved_b * module.B.grad).sum((1, 2)) > 0).all()


def test_zero_up_factors_at_the_start_give_a_finite_first_step_that_leaves_a_alone():
    torch.manual_seed(0)
    module = MoeLora(6, 5, MoeLoraConfig(num_experts=3, r=2))
    start = module.A.detach().clone()
    x, target = torch.randn(20, 6), torch.randn(20, 5)
    (module(x)[0] - target).square().mean().backward()
    optimizer = RiemannianSGD(module, lr=0.1)
    optimizer.step()
    assert torch.equal(module.A, start) and module.B.isfinite().all() and module.B.any()
    assert optimizer.fallbacks == 0


def test_a_gram_matrix_that_cannot_be_factored_falls_back_to_a_plain_step_and_is_counted():
    module = layers((3, 2, 6, 5), dtype=torch.float32)[0]
    # BᵀB = 4e6 [[1, 1], [1, 1]], exact in float32, where adding the damping changes nothing
    module.B.data[1] = torch.tensor([1e3, 1e3, 1e3, 1e3, 0.0]).unsqueeze(1).expand(5, 2)
    plain, gradient = module.A.detach().clone()[1], module.A.grad[1].clone()
    optimizer = RiemannianSGD(module, lr=0.1)
    with pytest.warns(FallbackWarning, match="1 of 6 Gram matrices are not positive definite at damping = 1e-06"):
        optimizer.step()
    torch.testing.assert_close(module.A.detach()[1], plain - 0.1 * gradient)
    assert optimizer.fallbacks == 1 and optimizer.state_dict()["fallbacks"] == 1


def test_fallbacks_are_all_counted_and_told_at_every_tenfold():
    module = layers((3, 2, 6, 5), dtype=torch.float32)[0]
    optimizer = RiemannianSGD(module, lr=0.0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(12):
            module.B.data[1] = torch.tensor([1e3, 1e3, 1e3, 1e3, 0.0]).unsqueeze(1).expand(5, 2)
            optimizer.step()
    assert optimizer.fallbacks == 12
    assert [int(str(warning.message).split("(")[1].split()[0]) for warning in told] == [1, 10]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("factor", ["A", "B"])
@pytest.mark.parametrize("update", ["simultaneous", "sequential"])
@pytest.mark.parametrize("kind", [RiemannianSGD, RiemannianAdamW])
def test_a_factor_that_is_not_finite_is_named_and_nothing_changes(kind, update, factor, value):
    modules = layers((3, 2, 6, 5), (2, 3, 4, 4), dtype=torch.float32)
    modules[0].B.data[1] = torch.tensor([1e3, 1e3, 1e3, 1e3, 0.0]).unsqueeze(1).expand(5, 2)  # would be a fallback
    getattr(modules[1], factor).data[1, 0, 0] = value
    before = factors(modules)
    optimizer = kind(modules, lr=0.1, update=update)
    with pytest.raises(FloatingPointError, match=f"1 factors are not finite, the first is {factor} of 1, expert 1"):
        optimizer.step()
    assert optimizer.fallbacks == 0 and not optimizer.state
    assert all(torch.equal(old, new) or not old.isfinite().all() for old, new in zip(before, factors(modules)))


def test_a_factor_that_a_sequential_step_itself_makes_infinite_is_named_before_b_follows_it():
    modules = layers((3, 2, 6, 5))
    modules[0].A.grad[2, 0, 0] = float("inf")
    before = modules[0].B.detach().clone()
    with pytest.raises(FloatingPointError, match="the first is A of 0, expert 2"):
        RiemannianSGD(modules, lr=0.1, update="sequential").step()
    assert torch.equal(modules[0].B, before)


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


def test_adamw_with_bias_correction_and_no_metric_is_torchs_adam_up_to_epsilon():
    ours, theirs = layers((3, 2, 6, 5)), layers((3, 2, 6, 5))
    first = RiemannianAdamW(ours, lr=0.01, precondition=False, correct_bias=True, eps=1e-12)
    second = torch.optim.Adam(theirs.parameters(), lr=0.01, eps=1e-12)
    for _ in range(3):
        first.step(), second.step()
    for p, q in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


def test_factors_in_bfloat16_are_preconditioned_in_float32():
    exact, half = layers((3, 2, 6, 5), dtype=torch.float32), layers((3, 2, 6, 5), dtype=torch.float32)
    for p, q in zip(exact.parameters(), half.parameters()):
        p.data, p.grad = p.data.bfloat16().float(), p.grad.bfloat16().float()
        q.data, q.grad = p.data.bfloat16(), None
        q.grad = p.grad.bfloat16()
    RiemannianSGD(exact, lr=0.1).step()
    RiemannianSGD(half, lr=0.1).step()
    for p, q in zip(exact.parameters(), half.parameters()):
        assert q.dtype == torch.bfloat16
        torch.testing.assert_close(q.float(), p, rtol=2e-2, atol=2e-2)


HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def at_the_start(dtype: torch.dtype) -> nn.ModuleList:
    """A layer with B = 0, so the gradient of A, Bᵀ of that of BA, is zero."""
    modules = layers((3, 2, 6, 5), dtype=dtype)
    modules[0].B.data.zero_()
    modules[0].A.grad.zero_()
    return modules


@HALF
@pytest.mark.parametrize("update", ["simultaneous", "sequential"])
@pytest.mark.parametrize("kind", [RiemannianSGD, partial(RiemannianAdamW, eps=1e-8)])
def test_a_first_step_in_half_types_is_finite_and_leaves_a_alone(dtype, update, kind):
    modules = at_the_start(dtype)
    start = modules[0].A.detach().clone()
    kind(modules, lr=0.01, update=update).step()
    assert torch.equal(modules[0].A, start) and modules[0].B.isfinite().all() and modules[0].B.any()


@HALF
def test_a_first_step_in_half_types_is_that_of_float32_rounded(dtype):
    half, exact = at_the_start(dtype), at_the_start(torch.float32)
    for p, q in zip(half.parameters(), exact.parameters()):
        q.data, q.grad = p.data.float(), p.grad.float()
    for modules in (half, exact):
        RiemannianSGD(modules, lr=0.01).step()
    for p, q in zip(half.parameters(), exact.parameters()):
        torch.testing.assert_close(p, q.to(dtype), rtol=2e-2, atol=1e-3)


@HALF
def test_the_direction_of_half_types_is_that_of_float32_rounded(dtype):
    torch.manual_seed(0)
    A, grad_A, grad_B = (torch.randn(3, *shape).to(dtype) for shape in ((2, 6), (2, 6), (5, 2)))
    grad_A *= 1e-2  # through 1/δ = 1e6 to 1e4, which float16 can hold
    exact = precondition(A.float(), torch.zeros(3, 5, 2), grad_A.float(), grad_B.float())
    for direction, right in zip(precondition(A, torch.zeros(3, 5, 2, dtype=dtype), grad_A, grad_B), exact):
        assert torch.equal(direction, right.to(dtype)) and direction.isfinite().all()


def test_a_frozen_factor_stays_and_the_other_moves():
    module = layers((3, 2, 6, 5))[0]
    module.A.requires_grad_(False)
    module.A.grad = None
    a, b = module.A.clone(), module.B.detach().clone()
    _, moved = by_hand(a, b, torch.zeros_like(a), module.B.grad)
    RiemannianSGD(module, lr=0.1).step()
    assert torch.equal(module.A, a)
    torch.testing.assert_close(module.B.detach(), b - 0.1 * moved)


def test_a_model_without_pairs_is_refused_with_its_adapters():
    with pytest.raises(ValueError, match=r"no pair of low-rank factors.*TRex.*plain optimizer"):
        RiemannianSGD(nn.ModuleList([TRex(4, 4, TRexConfig(num_down=2, num_up=2))]), lr=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1.0}, "lr = -1.0"),
        ({"lr": 0.1, "damping": 0.0}, "damping = 0.0 must be positive"),
        ({"lr": 0.1, "update": "both"}, "update = 'both'.*simultaneous, sequential"),
        ({"lr": 0.1, "betas": (0.9, 1.0)}, r"betas = \(0.9, 1.0\)"),
        ({"lr": 0.1, "eps": 0.0}, "eps = 0.0"),
    ],
)
def test_a_setting_that_makes_no_optimizer_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        RiemannianAdamW(layers((2, 2, 4, 4)), **options)


@pytest.mark.parametrize("kind", [RiemannianSGD, RiemannianAdamW])
@pytest.mark.parametrize("option", ["maximize", "momentum", "nesterov", "amsgrad", "betass", "own", "defaults"])
def test_an_option_that_an_optimizer_does_not_have_is_refused_by_its_name(kind, option):
    with pytest.raises(TypeError, match=f"{kind.__name__}.*unexpected keyword argument '{option}'"):
        kind(layers((2, 2, 4, 4)), lr=0.1, **{option: True})


def test_a_configuration_accepts_the_options_that_the_class_has():
    check_options("riemannian_sgd", {"damping": 1e-6, "update": "sequential", "precondition": False})
    check_options("riemannian_adamw", {"betas": (0.9, 0.99), "eps": 1e-8, "correct_bias": True, "damping": 1e-6})
    with pytest.raises(ValueError, match="own, which riemannian_sgd .* accepts damping, precondition, update$"):
        check_options("riemannian_sgd", {"own": {}})


def test_no_warning_is_given_where_nothing_went_wrong():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RiemannianAdamW(layers((3, 2, 6, 5), dtype=torch.float32), lr=0.1).step()


def model_of(*names: str) -> nn.Module:
    """A PEFT model with a MoeLora of each name beside one layer, all of them active, every factor random."""
    torch.manual_seed(0)
    model = None
    for name in names:
        config = ma.MoeLoraConfig(num_experts=3, r=2, target_modules=["0"])
        if model is None:
            model = peft.get_peft_model(nn.Sequential(nn.Linear(6, 5)), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    model.base_model.set_adapter(list(names))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
            parameter.grad = torch.randn_like(parameter)
    return model


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
