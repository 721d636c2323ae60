"""Situations of torch itself: compile, export, higher derivatives, function transforms."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call, grad, jvp, vmap

from .contract import situation
from .systems import Case, close, collected, gradients, layers_of, llama


@situation("`torch.compile` of the model as one graph, forward and backward")
def _(case: Case) -> None:
    # aot_eager traces forward and backward as every backend does, and needs no C compiler
    # a second block would be traced as the first is, and takes as long
    model, batch = case.model(llama(use_cache=False, num_hidden_layers=1)).train(), case.batch()
    right = model(**batch)
    expected = gradients(model, right.loss)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    ours = compiled(**batch)
    close(ours.loss, right.loss)
    ours.loss.backward()
    close(collected(model), expected)
    other = case.batch(seed=3)
    close(compiled(**other).logits, model(**other).logits)


@situation("`torch.compile` of one layer, called with the context of two passes")
def _(case: Case) -> None:
    model = case.model(llama(use_cache=False, num_hidden_layers=1))
    right = [model(**case.batch(seed=seed)).logits for seed in (0, 1)]
    torch._dynamo.reset()
    for block in model.get_base_model().model.layers:
        block.mlp.down_proj.compile(fullgraph=True, backend="aot_eager")
    for seed in (0, 1):
        close(model(**case.batch(seed=seed)).logits, right[seed])


@situation("`torch.export`")
def _(case: Case) -> None:
    model, batch = case.model(llama(use_cache=False, num_hidden_layers=1)), case.batch()
    batch.pop("labels")
    program = torch.export.export(model, (), batch, strict=False)
    other = {key: value for key, value in case.batch(seed=3).items() if key != "labels"}
    close(program.module()(**other).logits, model(**other).logits)


class Smooth(nn.Module):
    """A smooth network in float64: a decoder's norms are computed in float32, too coarse for central differences."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x).tanh())


@situation("a second derivative")
def _(case: Case) -> None:
    model = case.model(Smooth().double(), ["one", "two"])
    x, extra = torch.randn(4, 3, 8, dtype=torch.float64, requires_grad=True), case.extra(4)
    direction, step = torch.randn_like(x), 1e-5

    def gradient(at: torch.Tensor, graph: bool = False) -> torch.Tensor:
        return torch.autograd.grad(model(at, **extra).square().sum(), at, create_graph=graph)[0]

    (product,) = torch.autograd.grad((gradient(x, True) * direction).sum(), x)
    up, down = (gradient((x + sign * step * direction).detach().requires_grad_()) for sign in (1, -1))
    close(product, (up - down) / (2 * step), 1e-5)


@situation("`torch.func.grad` and `functional_call` of the model")
def _(case: Case) -> None:
    model, batch = case.model(llama(use_cache=False)), case.batch()
    batch.pop("labels")
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def total(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return functional_call(model, values, (), batch).logits.square().sum()

    ours = torch.cat([value.flatten() for value in grad(total)(weights).values()])
    close(ours, gradients(model, model(**batch).logits.square().sum()))
    changed = {name: value * 1.5 for name, value in weights.items()}
    right = case.model(llama(use_cache=False))
    for name, parameter in right.named_parameters():
        if name in changed:
            parameter.data.copy_(changed[name])
    close(functional_call(model, changed, (), batch).logits, right(**batch).logits)


@situation("`vmap`, `jvp` and per-sample gradients of an adapted layer")
def _(case: Case) -> None:
    options = {"intuition": False} if case.intuitive else {}
    layer = next(iter(layers_of(case.model(**options)).values()))
    x = torch.randn(3, 4, layer.in_features)
    close(vmap(layer)(x), torch.stack([layer(row) for row in x]))
    tangent = torch.randn_like(x)
    value, slope = jvp(layer, (x,), (tangent,))
    close(value, layer(x))
    close(slope, (layer((x + 1e-3 * tangent).double().float()) - layer(x - 1e-3 * tangent)) / 2e-3, 2e-2)
    weights = dict(layer.named_parameters())

    def loss(values: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return functional_call(layer, values, (row,)).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(weights, x)
    for name, value in each.items():
        one = grad(loss)(weights, x[1])[name]
        close(value[1] + 1, one + 1)
