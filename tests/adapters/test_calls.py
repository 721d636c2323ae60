"""A part of an adapter that is more than its weights is called: its hooks run and what they change has its effect."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import parametrize, prune

from moe_analysis.adapters import Adapter
from moe_analysis.adapters.calls import plain
from moe_analysis.adapters.fused import fusible
from moe_analysis.theory.count import flop_counter

from .cases import CASES, IN, OUT, build, case_id, context_for, example


def scales(width: int) -> Tensor:
    """A factor for each feature: a common one would go unseen where queries are brought to length 1."""
    return torch.linspace(0.5, 2.0, width, dtype=torch.float64)


class ScaledLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * scales(self.out_features)


class ScaledRows(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * scales(len(weight)).unsqueeze(1)


def by_forward_hook(linear: nn.Linear) -> None:
    linear.register_forward_hook(lambda module, inputs, output: output * scales(output.shape[-1]))


def by_pre_hook(linear: nn.Linear) -> None:
    linear.register_forward_pre_hook(lambda module, inputs: (inputs[0] * scales(module.in_features),))


def by_another_forward(linear: nn.Linear) -> None:
    original = linear.forward
    linear.forward = lambda x: original(x) * scales(linear.out_features)


def by_a_subclass(linear: nn.Linear) -> None:
    linear.__class__ = ScaledLinear


def by_parametrization(linear: nn.Linear) -> None:
    parametrize.register_parametrization(linear, "weight", ScaledRows())


def by_pruning(linear: nn.Linear) -> None:
    """Rows and columns in turns, as a mask; the hook of torch.nn.utils.prune writes the weight at every call."""
    prune.custom_from_mask(linear, "weight", chessboard(linear.weight))
    linear.weight = linear.weight_orig.detach() * 0  # stale, as after an optimizer's step


def scale_weights(linear: nn.Linear) -> None:
    linear.weight.data = ScaledRows()(linear.weight.data)


def scale_outputs(linear: nn.Linear) -> None:
    scale_weights(linear)
    if linear.bias is not None:
        linear.bias.data.mul_(scales(len(linear.bias)))


def scale_inputs(linear: nn.Linear) -> None:
    linear.weight.data.mul_(scales(linear.in_features))


def chessboard(weight: Tensor) -> Tensor:
    return torch.arange(weight.numel()).view_as(weight) % 2


def chessboard_weights(linear: nn.Linear) -> None:
    linear.weight.data.mul_(chessboard(linear.weight))


Change = Callable[[nn.Linear], None]
CHANGES: list[tuple[Change, Change]] = [
    (by_forward_hook, scale_outputs),
    (by_pre_hook, scale_inputs),
    (by_another_forward, scale_outputs),
    (by_a_subclass, scale_outputs),
    (by_parametrization, scale_weights),
    (by_pruning, chessboard_weights),
]


def linear_parts(layer: Adapter) -> list[str]:
    return [name for name, part in layer.named_modules() if type(part) is nn.Linear]


PARTS = [(case, part) for case in CASES for part in linear_parts(build(*case))]


def results(layer: Adapter, fused: bool) -> list[Tensor]:
    """Output, gates and the gradient in x of both and of the balance loss."""
    torch.manual_seed(11)
    x, base = example().requires_grad_(), nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False)
    y, routing = layer(x, context_for(layer.config), base if fused else None)
    if not fused:
        y = y + base(x)
    loss = y.square().sum() + routing.gates.square().sum()
    if routing.balance_loss is not None:
        loss = loss + routing.balance_loss
    loss.backward()
    return [y.detach(), routing.gates.detach(), x.grad]


@pytest.mark.parametrize("fused", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("case, part", PARTS, ids=lambda value: value if isinstance(value, str) else case_id(value))
def test_what_is_done_to_a_linear_part_has_its_effect(case, part, fused):
    untouched = build(*case).train()
    before, by_weights = results(untouched, fused), {}
    for change, equal in CHANGES:
        if equal not in by_weights:  # several changes have the same effect
            expected = copy.deepcopy(untouched)
            equal(expected.get_submodule(part))
            by_weights[equal] = results(expected, fused)
        changed = copy.deepcopy(untouched)
        change(changed.get_submodule(part))
        assert not plain(changed.get_submodule(part)), change.__name__
        ours = results(changed, fused)
        for got, wanted in zip(ours, by_weights[equal], strict=True):
            assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-10), change.__name__
        if untouched.num_gates > 1:  # a single expert has gate 1 whatever its router says
            differ = (not torch.allclose(got, old, rtol=1e-9) for got, old in zip(ours, before, strict=True))
            assert any(differ), change.__name__


@pytest.mark.parametrize("fused", [False, True], ids=["apart", "fused"])
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_every_part_that_is_watched_is_called_once(case, fused):
    layer, calls = build(*case).train(), {}
    names = [name for name, part in layer.named_modules() if name and callable_part(part)]
    before = results(layer, fused)
    for name in names:
        layer.get_submodule(name).register_forward_hook(
            lambda part, inputs, output, name=name: calls.update({name: calls.get(name, 0) + 1})
        )
    after = results(layer, fused)
    assert calls == dict.fromkeys(names, 1)
    for got, wanted in zip(after, before, strict=True):
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-10)


def callable_part(part: nn.Module) -> bool:
    """A list only holds parts; a leaf's activation in S'MoRE's child positions has no children to act on."""
    return not isinstance(part, (nn.ModuleList, nn.ParameterList, nn.Identity)) and not (
        isinstance(part, nn.Sequential) and not len(part)
    )


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_backward_hook_sees_the_gradient_of_every_linear_part(case):
    layer, seen = build(*case).train(), set()
    for name in linear_parts(layer):
        layer.get_submodule(name).register_full_backward_hook(lambda part, into, out, name=name: seen.add(name))
    results(layer, fused=True)
    assert seen == set(linear_parts(layer))


@contextmanager
def class_patched(calls: list) -> Iterator[None]:
    original = nn.Linear.forward
    nn.Linear.forward = lambda self, x: calls.append(self) or original(self, x)
    try:
        yield
    finally:
        nn.Linear.forward = original


@contextmanager
def hooked_everywhere(register: Callable, calls: list) -> Iterator[None]:
    handle = register(lambda module, *_: calls.append(module) if isinstance(module, nn.Linear) else None)
    try:
        yield
    finally:
        handle.remove()


EVERYWHERE = {
    "class": class_patched,
    "forward hook": lambda calls: hooked_everywhere(register_module_forward_hook, calls),
    "forward pre-hook": lambda calls: hooked_everywhere(register_module_forward_pre_hook, calls),
}


@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_what_watches_all_linear_layers_sees_the_adapters(case, kind):
    layer, calls = build(*case).train(), []
    base = nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False)
    with EVERYWHERE[kind](calls):
        layer(example(), context_for(layer.config))
        assert not fusible(base, example(), layer)
    assert {id(part) for part in calls} == {id(layer.get_submodule(name)) for name in linear_parts(layer)}
    assert fusible(base, example(), layer)


@pytest.mark.parametrize("change", [change for change, _ in CHANGES], ids=lambda change: change.__name__)
def test_a_base_layer_that_is_more_than_its_weights_is_not_fused(change):
    layer, base = build("moelora", {"r": 2}), nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False)
    assert fusible(base, example(), layer)
    change(base)
    assert not fusible(base.requires_grad_(False), example(), layer)


def test_a_base_layer_that_accelerate_moves_is_not_fused():
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    layer, base = build("moelora", {"r": 2}), nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False)
    add_hook_to_module(base, AlignDevicesHook("cpu"))
    assert not fusible(base, example(), layer)


def test_counting_operations_counts_what_is_run():
    layer, base = build("smore", {"r": 2}), nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False)
    with flop_counter():
        assert fusible(base, example(), layer) and plain(layer.down)


def test_other_hooks_beside_the_counter_are_run():
    calls: list = []
    with ExitStack() as stack:
        stack.enter_context(flop_counter())
        stack.enter_context(EVERYWHERE["forward hook"](calls))
        assert not plain(nn.Linear(2, 2))


class TokenDropout(nn.Module):
    """Drops every other token whole, in evaluation mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.arange(x.shape[-2]) % 2).unsqueeze(-1)


@pytest.mark.parametrize("case", CASES[::3], ids=case_id)
def test_a_dropout_of_somebodys_own_is_called_on_the_experts_input(case):
    layer, x = build(*case), example()
    context = context_for(layer.config)
    layer.dropout = TokenDropout()
    dropped = layer(x, context)[0]
    layer.dropout = nn.Dropout(0.5).eval()
    layer.dropout.register_forward_hook(lambda module, inputs, output: TokenDropout()(output))
    assert torch.allclose(layer(x, context)[0], dropped, rtol=1e-12, atol=1e-12)
    layer.dropout = nn.Identity()
    assert not torch.allclose(layer(x, context)[0], dropped)


@pytest.mark.parametrize("on_the_class", [True, False], ids=["subclass", "instance"])
@pytest.mark.parametrize(
    "case", [case for case in CASES if case[0] in ("moelora", "sira", "hydralora", "trex")], ids=case_id
)
def test_a_route_of_somebodys_own_is_taken(case, on_the_class):
    layer, x = build(*case), example()
    context = context_for(layer.config)
    delta, routing = layer(x, context)
    original = type(layer).route

    def doubled(self, *args, **kwargs):
        routing = original(self, *args, **kwargs)
        routing.gates = 2 * routing.gates
        return routing

    if on_the_class:
        layer.__class__ = type("Doubled", (type(layer),), {"route": doubled})
    else:
        layer.route = lambda *args, **kwargs: doubled(layer, *args, **kwargs)
    twice, again = layer(x, context)
    assert torch.allclose(again.gates, 2 * routing.gates, rtol=1e-12)
    assert torch.allclose(twice, 2 * delta, rtol=1e-10, atol=1e-12)
