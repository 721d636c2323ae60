"""The path beside a frozen layer gives what the layer and the adapter give apart, and is taken only where it may be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from moe_analysis.adapters.fused import fusible

from .cases import CASES, IN, OUT, build, case_id, context_for, example


def frozen(bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Linear:
    return nn.Linear(IN, OUT, bias=bias, dtype=dtype).requires_grad_(False)


def results(layer, x, context, base, fused: bool) -> dict[str, torch.Tensor]:
    """Output, balance loss, and the gradients of both in x and in every parameter."""
    torch.manual_seed(2)  # the noise of noisy top-k and of dropout
    layer.zero_grad()
    x = x.clone().requires_grad_()
    if fused:
        y, routing = layer(x, context, base)
    else:
        delta, routing = layer(x, context)
        y = base(x) + delta
    loss = (y * torch.linspace(-1, 1, OUT, dtype=y.dtype)).sum() + y.square().sum()
    if routing.balance_loss is not None:
        loss = loss + routing.balance_loss
    loss.backward()
    grads = {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}
    return {"y": y.detach(), "loss": loss.detach(), "x": x.grad, **grads}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_layer_and_adapter_in_one_are_their_sum(case, training, bias):
    layer, x, base = build(*case).train(training), example(), frozen(bias)
    context = context_for(layer.config)
    apart, together = (results(layer, x, context, base, fused) for fused in (False, True))
    assert apart.keys() == together.keys()
    for name, expected in apart.items():
        scale = max(1.0, float(expected.abs().max()))
        assert torch.allclose(together[name], expected, rtol=0, atol=1e-11 * scale), name


@pytest.mark.parametrize("case", [case for case in CASES if "dropout" not in case[1]][::7], ids=case_id)
def test_dropout_reaches_the_experts_and_not_the_frozen_layer(case):
    name, options = case
    layer, x, base = build(name, {**options, "dropout": 0.5}).train(), example(), frozen()
    context = context_for(layer.config)
    apart, together = (results(layer, x, context, base, fused) for fused in (False, True))
    for key, expected in apart.items():
        assert torch.allclose(together[key], expected, rtol=1e-10, atol=1e-10), key


def test_an_input_that_needs_no_gradient_gets_none():
    layer, base, x = build("smore", {"r": 2}), frozen(), example()
    layer(x, None, base)[0].sum().backward()
    assert x.grad is None and layer.W_proj.grad is not None


def test_only_a_frozen_plain_linear_layer_of_the_same_type_is_fused():
    layer, x, base = build("moelora", {"r": 2, "num_experts": 4}), example(), frozen()
    assert fusible(base, x, layer)
    assert not fusible(copy.deepcopy(base).requires_grad_(True), x, layer)
    assert not fusible(nn.Sequential(base), x, layer)
    assert not fusible(frozen(dtype=torch.float32), x, layer)
    assert not fusible(base, x.float(), layer)
    hooked = copy.deepcopy(base)
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    assert not fusible(hooked, x, layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert not fusible(base, x, layer)


def test_layers_without_storage_can_be_asked():
    meta = torch.empty(2, IN, device="meta", dtype=torch.float64)
    assert fusible(frozen().to("meta"), meta, build("moelora", {"r": 2}).to("meta"))
