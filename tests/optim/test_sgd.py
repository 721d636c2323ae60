"""Preconditioned steps: against the formula written out expert by expert, and by their invariances."""

from __future__ import annotations

import copy
import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.adapters import MoeLora, MoeLoraConfig
from moe_analysis.optim import (
    FallbackWarning,
    RiemannianAdamW,
    RiemannianSGD,
    precondition,
)

from .stacks import DAMPING, HALF, at_the_start, beside_words, by_hand, factors, layers


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


def test_no_warning_is_given_where_nothing_went_wrong():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RiemannianAdamW(layers((3, 2, 6, 5), dtype=torch.float32), lr=0.1).step()


@HALF
@pytest.mark.parametrize("update", ["simultaneous", "sequential"])
def test_a_direction_beyond_the_half_type_takes_the_step_of_float32(dtype, update):
    half = layers((3, 2, 6, 5), dtype=dtype)
    half[0].B.data.mul_(1e-4)  # BᵀB + δ of 1e-6, so that A's direction is some 1e6 times its gradient
    exact = copy.deepcopy(half).float()
    for p, q in zip(half.parameters(), exact.parameters()):
        q.grad = p.grad.float()
    for modules in (half, exact):
        RiemannianSGD(modules, lr=1e-6, update=update).step()
    assert precondition(exact[0].A, exact[0].B, exact[0].A.grad, exact[0].B.grad)[0].abs().max() > 65504
    for p, q in zip(half.parameters(), exact.parameters()):
        torch.testing.assert_close(p, q.to(dtype), rtol=2e-2, atol=1e-3)


def test_a_sparse_gradient_beside_the_pairs_is_a_plain_step():
    model, gradient = beside_words()
    before = model[1].weight.detach().clone()
    RiemannianSGD(model, lr=0.1).step()
    torch.testing.assert_close(model[1].weight.detach(), before - 0.1 * gradient)
