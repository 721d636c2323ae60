"""Adapters of float32 beside a layer of half precision: fused they are as close to float64 as they are apart from it.

Upstream gradients are given and rows whose experts depend on a rounding left out, so that an error is one of the passes
themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from moe_analysis.adapters import REGISTRY, Adapter, MoeLora, Routing, RoutingContext
from moe_analysis.adapters.fused import fusible

from .cases import CASES, case_id, clusters, ours, randomize

IN, OUT, ROWS, SEEDS = 64, 48, 96, 4
HALF, SHORT, FULL = torch.bfloat16, torch.float16, torch.float32
PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype, torch.dtype | None]] = {  # input, frozen weights, autocast
    "bfloat16": (HALF, HALF, None),
    "float16": (SHORT, SHORT, None),
    "autocast": (HALF, HALF, HALF),
    "autocast over float32": (FULL, FULL, HALF),
    "autocast in float16": (SHORT, SHORT, SHORT),
}
# where few rows have their experts from anything but a rounding, an error says nothing: noise, and three pools bottom-up
SETTLED = [
    (name, options)
    for name, options in CASES
    if ours(name)
    and options.get("gate") != "noisy_topk"
    and not (options.get("router") == "bottom_up" and len(options["num_experts"]) == 3)
]
RESCALED = [
    (name, {"r": 2, "gate_backward_power": power}) for name in ("moelora", "hydralora", "momor") for power in (0.5, 0.0)
]
SYSTEMS = [(name, {}) for name in REGISTRY if ours(name)]
every_precision = pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
every_system = pytest.mark.parametrize("case", SYSTEMS, ids=case_id)
Numbers = dict[str, Tensor]
Passes = Callable[["Setting", bool, Tensor], Numbers]


@dataclass
class Setting:
    """An adapter beside a frozen layer, an input (ROWS, IN), and the type of autocast."""

    layer: Adapter
    base: nn.Linear
    x: Tensor
    context: RoutingContext
    reduced: torch.dtype | None

    def __call__(self, fused: bool) -> tuple[Tensor, Routing]:
        """Output and routing; apart as `AdapterLayer` adds them up."""
        with torch.autocast("cpu", self.reduced, enabled=self.reduced is not None):
            if fused:
                return self.layer(self.x, self.context, self.base)
            y = self.base(self.x)
            delta, routing = self.layer(self.x.to(next(self.layer.parameters()).dtype), self.context)
            return y + delta.to(y.dtype), routing

    def exact(self) -> Setting:
        layer, base = (copy.deepcopy(one).double() for one in (self.layer, self.base))
        return replace(self, layer=layer, base=base, x=self.x.double(), reduced=None)

    def rows(self, kept: Tensor) -> Setting:
        scores = self.context.intuition
        return replace(self, x=self.x[kept], context=RoutingContext(None if scores is None else scores[kept]))


def build(case: tuple[str, dict[str, Any]], precision: tuple, training: bool = False) -> Setting:
    (name, options), (of_x, of_weight, reduced) = case, precision
    if name == "smore":
        options = {"router_activation": "tanh", **options}  # a ReLU's gradient may change with a rounding
    layer = REGISTRY[name](IN, OUT, REGISTRY[name].config_class(**options)).train(training)
    randomize(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter /= 3 if parameter.dim() else 1  # float16 ends at 65504
    width = clusters(layer.config)
    context = RoutingContext(None if width is None else torch.rand(ROWS, width))
    base = nn.Linear(IN, OUT, dtype=of_weight).requires_grad_(False)
    return Setting(layer, base, torch.randn(ROWS, IN).to(of_x), context, reduced)


def results(setting: Setting, fused: bool, upstream: Tensor) -> Numbers:
    """Output, and the gradients in x and every parameter that upstream and the balance loss make."""
    torch.manual_seed(2)  # of dropout and of noisy top-k
    setting.layer.zero_grad()
    setting = replace(setting, x=setting.x.clone().requires_grad_())
    y, routing = setting(fused)
    made = [(y, upstream.to(y.dtype))]
    if routing.balance_loss is not None:
        made.append((routing.balance_loss, torch.full_like(routing.balance_loss, 10)))
    torch.autograd.backward(*zip(*made, strict=True))
    grads = {name: one.grad for name, one in setting.layer.named_parameters() if one.grad is not None}
    return {"y": y.detach(), "x": setting.x.grad, **grads}


@torch.no_grad()
def settled(setting: Setting) -> Tensor:
    """(ROWS,): the rows that choose the same experts fused, apart and in float64."""
    runs = [setting.exact()(False), setting(False), setting(True)]
    chosen = [getattr(routing, "tree", None) or [routing.gates > 0] for _, routing in runs]
    same = [(one == first).flatten(1).all(1) for run in chosen for one, first in zip(run, chosen[0], strict=True)]
    return torch.stack(same).all(0)


def relative(ours: Numbers, exact: Numbers) -> Numbers:
    return {name: (ours[name].double() - one).norm() / one.norm() for name, one in exact.items() if one.any()}


def typical(found: list[Numbers]) -> dict[str, float]:
    """Root mean square over the seeds: of the output, of the gradient in x, and of those in the parameters."""
    table = {name: torch.stack([one[name] for one in found]) for name in found[0]}
    rows = {name: table.pop(name) for name in ("y", "x") if name in table}
    rows["parameters"] = torch.stack(list(table.values()))
    return {name: float(errors.square().mean().sqrt()) for name, errors in rows.items()}


def assert_as_close(case: tuple[str, dict[str, Any]], precision: tuple, passes: Passes) -> None:
    """Over some seeds the errors of passes(setting, fused, upstream) are no more fused than apart."""
    errors: dict[bool, list[Numbers]] = {False: [], True: []}
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        setting = build(case, precision)
        assert allowed(setting)
        setting = setting.rows(settled(setting))
        assert len(setting.x) > ROWS // 4
        upstream = torch.randn(len(setting.x), OUT).to(HALF)
        exact = passes(setting.exact(), False, upstream)
        for fused, found in errors.items():
            found.append(relative(passes(setting, fused, upstream), exact))
    apart, fused = (typical(found) for found in errors.values())
    # in half precision a product that another processor rounds by more than one unit counts as often as it is made
    bound = 1.5 if precision[-1] is None else 5.0
    for name, error in apart.items():
        assert fused[name] <= bound * error + 1e-6, (name, fused[name], error)


@every_precision
@pytest.mark.parametrize("case", [*SETTLED, *RESCALED], ids=case_id)
def test_fused_is_as_close_to_float64_as_apart(case, precision):
    assert_as_close(case, precision, results)


def curvature(setting: Setting, fused: bool, upstream: Tensor) -> Numbers:
    """How the gradient of a loss changes with x and every parameter, along one direction."""
    setting = replace(setting, x=setting.x.clone().requires_grad_())
    y, routing = setting(fused)
    loss = (y.double() * upstream).sum() + y.double().square().sum() / 8
    if routing.balance_loss is not None:
        loss = loss + 10 * routing.balance_loss
    named = {"x": setting.x, **dict(setting.layer.named_parameters())}
    leaves = list(named.values())
    torch.manual_seed(5)
    seen = [torch.randn(one.shape).to(HALF) / one.numel() ** 0.5 for one in leaves]
    gradient = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
    along = torch.stack([(one.double() * other.double()).sum() for one, other in zip(gradient, seen, strict=True)])
    found = torch.autograd.grad(along.sum(), leaves, materialize_grads=True)
    return dict(zip(named, found, strict=True))


@every_precision
@every_system
def test_a_second_derivative_is_as_close_too(case, precision):
    assert_as_close(case, precision, curvature)


def allowed(setting: Setting) -> bool:
    with torch.autocast("cpu", setting.reduced, enabled=setting.reduced is not None):
        return fusible(setting.base, setting.x, setting.layer)


class SameForAll(nn.Module):
    """A dropout that takes the same features from every row, in any type."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.arange(IN) % 3 > 0) * 1.5


@every_precision
@every_system
def test_experts_that_read_after_dropout_are_as_close_too(case, precision):
    def dropped(setting: Setting, fused: bool, upstream: Tensor) -> Numbers:
        setting.layer.dropout = SameForAll()
        return results(setting, fused, upstream)

    assert_as_close(case, precision, dropped)


@every_precision
@every_system
def test_checkpointing_gives_the_same_gradients(case, precision):
    torch.manual_seed(0)
    setting = build((case[0], {**case[1], "dropout": 0.2}), precision, training=True)
    upstream = torch.randn(ROWS, OUT)

    @dataclass
    class Recomputed(Setting):
        def __call__(self, fused: bool) -> tuple[Tensor, Routing]:
            return checkpoint(super().__call__, fused, use_reentrant=False)

    once = results(setting, True, upstream)
    again = results(Recomputed(**vars(setting)), True, upstream)
    assert once.keys() == again.keys()
    for name, value in once.items():
        assert torch.equal(value, again[name]), name  # the very same operations


@every_system
def test_a_backward_pass_inside_autocast_gives_the_gradients_of_one_outside(case):
    torch.manual_seed(0)
    setting = build(case, PRECISIONS["autocast"])
    upstream = torch.randn(ROWS, OUT).to(HALF)
    outside = results(setting, True, upstream)
    with torch.autocast("cpu", HALF):
        inside = results(setting, True, upstream)
    for name, error in relative(inside, outside).items():
        assert error < 0.05, name
    assert inside.keys() == outside.keys()


@pytest.mark.parametrize("case", [case for case in CASES if ours(case[0]) and case not in SETTLED], ids=case_id)
@every_precision
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_gates_that_a_rounding_changes_train_too(case, precision, training):
    """Most rows have the experts that they have apart, and those rows the same output."""
    torch.manual_seed(0)
    setting = build(case, precision, training)
    found = {fused: results(setting, fused, torch.randn(ROWS, OUT)) for fused in (False, True)}
    assert found[True].keys() == found[False].keys()
    assert all(value.isfinite().all() for value in found[True].values())
    off = (found[True]["y"].double() - found[False]["y"].double()).norm(dim=1) / found[False]["y"].double().norm(dim=1)
    assert off.median() < 0.05


@every_precision
@every_system
def test_without_gradients_the_output_is_the_same(case, precision):
    torch.manual_seed(0)
    setting = build(case, precision)
    y = setting(True)[0].detach().double()
    for without in (torch.no_grad, torch.inference_mode):
        with without():  # torch.matmul may choose another kernel
            assert (setting(True)[0].double() - y).norm() < 0.02 * y.norm()


@every_precision
def test_what_has_to_be_called_gets_float32_outside_autocast(precision):
    """A hooked router, a hooked S'MoRE projection, and the route of a subclass."""
    torch.manual_seed(0)
    given: list[tuple[torch.dtype, bool]] = []

    def note(x: Tensor) -> None:
        given.append((x.dtype, torch.is_autocast_enabled("cpu")))

    class Even(MoeLora):
        def route(self, x: Tensor, token_mask: Tensor | None = None) -> Routing:
            note(x)
            return Routing(x.new_full((*x.shape[:-1], self.config.num_experts), 1 / self.config.num_experts))

    for name, part in (("moelora", "router"), ("smore", "down")):
        setting = build((name, {}), precision)
        setting.layer.get_submodule(part).register_forward_pre_hook(lambda module, inputs: note(*inputs))
        assert setting(True)[0].isfinite().all()
    setting = build(("moelora", {}), precision)
    setting.layer.__class__ = Even
    assert setting(True)[0].isfinite().all()
    assert given == [(FULL, False)] * 3


@every_precision
@every_system
def test_transforms_take_the_layer_apart(case, precision):
    setting = build(case, precision)
    assert allowed(setting)
    refused: list[bool] = []
    torch.func.vmap(lambda x: refused.append(allowed(replace(setting, x=x))) or x)(setting.x)
    assert refused == [False]


def test_types_that_nobody_fused_are_refused():
    torch.manual_seed(0)
    setting = build(("moelora", {}), PRECISIONS["bfloat16"])
    assert allowed(setting)
    assert not allowed(replace(setting, x=setting.x.float()))  # the frozen layer itself would refuse it
    assert not allowed(replace(setting, x=setting.x.to(SHORT)))
    assert not allowed(replace(setting, layer=copy.deepcopy(setting.layer).double()))
    assert not allowed(replace(setting, reduced=SHORT))
    half = replace(setting, layer=copy.deepcopy(setting.layer).to(HALF))
    assert allowed(half)
    assert not allowed(replace(half, reduced=HALF))  # its gates would be left in bfloat16, too
    setting.base.weight.requires_grad_()
    assert not allowed(setting)


def test_a_forward_of_ones_own_is_called_with_the_layers_type_only():
    class Own(MoeLora):
        def forward(self, x: Tensor, context: Any = None, base: Any = None) -> tuple[Tensor, Routing]:
            return super().forward(x, context, base)

    setting = build(("moelora", {}), PRECISIONS["bfloat16"])
    setting.layer.__class__ = Own
    assert not allowed(setting)
    assert allowed(replace(setting, layer=setting.layer.to(HALF)))
