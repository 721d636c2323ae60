"""AdamW on preconditioned gradients, and the options of both optimizers."""

from __future__ import annotations

import copy

import pytest
import torch

from moe_analysis.optim import (
    RiemannianAdamW,
    RiemannianSGD,
    check_options,
)

from .stacks import HALF, beside_words, factors, layers


def test_adamw_with_bias_correction_and_no_metric_is_torchs_adam_up_to_epsilon():
    ours, theirs = layers((3, 2, 6, 5)), layers((3, 2, 6, 5))
    first = RiemannianAdamW(ours, lr=0.01, precondition=False, correct_bias=True, eps=1e-12)
    second = torch.optim.Adam(theirs.parameters(), lr=0.01, eps=1e-12)
    for _ in range(3):
        first.step(), second.step()
    for p, q in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-8, atol=1e-10)


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


@HALF
@pytest.mark.parametrize("size", [1e-3, 1.0])
@pytest.mark.parametrize("options", [{"precondition": False}, {}, {"update": "sequential"}, {"correct_bias": True}])
def test_moments_of_half_types_lose_neither_small_nor_large_gradients(dtype, size, options):
    half = layers((3, 2, 6, 5), dtype=dtype)
    half[0].B.data.mul_(1e-4)  # A's direction is some 1e6 times its gradient, beyond float16
    exact = copy.deepcopy(half).float()
    start = factors(exact)
    optimizers = [RiemannianAdamW(modules, lr=0.1, **options) for modules in (half, exact)]
    for _ in range(3):
        for p, q in zip(half.parameters(), exact.parameters()):
            p.grad = (torch.randn_like(p) * size).to(dtype)  # squares of 1e-6 are 0 in float16 after (1 - beta)
            q.grad = p.grad.float()
        for one in optimizers:
            one.step()
    for p, q, old in zip(half.parameters(), exact.parameters(), start):
        moved, right = p.float() - old, q - old
        assert (moved - right).norm() <= 0.15 * right.norm()  # bfloat16 rounds three steps to 8 bits


def test_a_sparse_gradient_is_refused_before_anything_moves():
    model, _ = beside_words()
    before = factors(model)
    with pytest.raises(ValueError, match=r"1.weight has a sparse gradient, which RiemannianAdamW .* sparse=False"):
        RiemannianAdamW(model, lr=0.1).step()
    assert all(torch.equal(old, new) for old, new in zip(before, factors(model)))


NO_NUMBERS = ["1e-6", None, True, [1.0], float("nan"), float("inf")]


@pytest.mark.parametrize("name", ["lr", "router_lr", "weight_decay", "damping", "eps"])
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_setting_that_is_no_finite_number_is_named(name, value):
    if (name, value) == ("router_lr", None):
        pytest.skip("None takes the experts' rate")
    with pytest.raises(ValueError, match=f"{name} = .* must be a finite number"):
        RiemannianAdamW(layers((2, 2, 4, 4)), **{"lr": 0.1, name: value})


@pytest.mark.parametrize("value", [0.9, (0.9,), (0.9, 0.99, 0.9), ("0.9", 0.99), None, (float("nan"), 0.9)])
def test_betas_are_two_numbers(value):
    with pytest.raises(ValueError, match="betas = .* must be two numbers"):
        RiemannianAdamW(layers((2, 2, 4, 4)), lr=0.1, betas=value)


@pytest.mark.parametrize("name", ["precondition", "correct_bias"])
@pytest.mark.parametrize("value", ["no", None, 0])
def test_a_switch_is_true_or_false_however_it_is_set(name, value):
    modules = layers((2, 2, 4, 4))
    with pytest.raises(ValueError, match=f"{name} = .* must be True or False"):
        RiemannianAdamW(modules, lr=0.1, **{name: value})
    optimizer = RiemannianAdamW(modules, lr=0.1)
    with pytest.raises(ValueError, match=f"{name} = .* must be True or False"):
        setattr(optimizer, name, value)


def test_a_learning_rate_may_be_a_tensor():
    ours, theirs = layers((2, 2, 4, 4)), layers((2, 2, 4, 4))
    RiemannianAdamW(ours, lr=torch.tensor(0.1, dtype=torch.float64)).step()
    RiemannianAdamW(theirs, lr=0.1).step()
    for p, q in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(p, q)
