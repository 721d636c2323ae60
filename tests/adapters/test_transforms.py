"""torch.func, forward-mode derivatives, torch.compile, torch.export and tracing see in an adapter what it computes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap

from moe_analysis import adapters
from moe_analysis.adapters import Adapter, RoutingContext
from moe_analysis.adapters.fused import fusible
from moe_analysis.adapters.transforms import transformed

from .cases import BATCH, CASES, IN, OUT, build, case_id, context_for, example

# what vmap warns of when it has no rule for an operation and runs a loop over the inputs
pytestmark = pytest.mark.filterwarnings("error:There is a performance drop")

RESCALED = [
    ("moelora", {"r": 2, "num_experts": 4, "top_k": 2, "gate_backward_power": 0.5}),
    ("moelora", {"r": 2, "num_experts": 4, "top_k": 2, "gate": "switch", "gate_backward_power": 0.0}),
    ("momor", {"r": 2, "gate_backward_power": 0.5}),
]
EVERY = [*CASES, *RESCALED]
every_case = pytest.mark.parametrize("case", EVERY, ids=case_id)
# to compile or export a layer takes a second: of each system only those that together run every line that any runs
OF_SYSTEM = {name: [case for case in EVERY if case[0] == name] for name, _ in EVERY}
ENOUGH = {
    "moelora": (0, 1, 3, 4, 5, 6),
    "sira": (0,),
    "trex": (1, 2, 3, 5),
    "hydralora": (0, 1),
    "momor": (1, 3),
    "smore": (0, 1, 2, 6, 8, 9),
}
TRACED = [cases[place] for name, cases in OF_SYSTEM.items() for place in ENOUGH.get(name, range(len(cases)))]
traced_case = pytest.mark.parametrize("case", TRACED, ids=case_id)
FOLDER = Path(adapters.__file__).parent
Weights = dict[str, Tensor]


class Loss(nn.Module):
    """A loss of the update, the gates and the balance loss."""

    def __init__(self, layer: Adapter, seed: int | None = 5) -> None:
        super().__init__()
        self.layer, self.seed = layer, seed

    def forward(self, x: Tensor, context: RoutingContext | None) -> Tensor:
        if self.seed is not None:
            torch.manual_seed(self.seed)  # the noise of noisy top-k
        delta, routing = self.layer(x, context)
        loss = delta.square().sum() + (delta * torch.linspace(-1, 1, OUT, dtype=x.dtype)).sum()
        loss = loss + routing.gates.square().sum()
        return loss if routing.balance_loss is None else loss + 10 * routing.balance_loss


class Update(nn.Module):
    """The update alone, in one context."""

    def __init__(self, layer: Adapter, context: RoutingContext) -> None:
        super().__init__()
        self.layer, self.context = layer, context

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, self.context)[0]


def weights_of(module: nn.Module) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def gradients(loss: Loss, x: Tensor, context: RoutingContext | None) -> tuple[Weights, Tensor]:
    """By an ordinary backward pass: of the parameters, and of x."""
    x, named = x.clone().requires_grad_(), dict(loss.named_parameters())
    found = torch.autograd.grad(loss(x, context), [x, *named.values()], materialize_grads=True)
    return dict(zip(named, found[1:], strict=True)), found[0]


def assert_same(ours: Any, expected: Any) -> None:
    names = expected if isinstance(expected, dict) else range(len(expected))
    for name in names:
        scale = max(1.0, float(expected[name].detach().abs().max()))
        assert torch.allclose(ours[name], expected[name], rtol=0, atol=1e-10 * scale), name


@every_case
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_grad_of_a_functional_call_is_the_gradient(case, training):
    loss, x = Loss(build(*case).train(training)), example()
    context = context_for(loss.layer.config)
    of_weights, of_x = gradients(loss, x, context)
    ours, into_x = grad(lambda weights, x: functional_call(loss, weights, (x, context)), argnums=(0, 1))(
        weights_of(loss), x
    )
    assert_same(ours, of_weights)
    assert_same([into_x], [of_x])


@every_case
def test_vmap_over_inputs_is_the_layer_on_each(case):
    layer, many = build(*case), torch.stack([example() for _ in range(3)])
    contexts = [context_for(layer.config) for _ in many]
    scores = None if contexts[0].intuition is None else torch.stack([one.intuition for one in contexts])
    mask = torch.stack([one.token_mask for one in contexts]).flip(1)
    over = RoutingContext(None if scores is None else 0, 0)
    delta, routing = vmap(layer, in_dims=(0, over))(many, RoutingContext(scores, mask))
    for place, x in enumerate(many):
        alone, chosen = layer(x, RoutingContext(None if scores is None else scores[place], mask[place]))
        assert_same([delta[place], routing.gates[place]], [alone, chosen.gates])
        if chosen.balance_loss is not None:
            assert_same([routing.balance_loss[place]], [chosen.balance_loss])
        for ours, theirs in zip(getattr(routing, "tree", []), getattr(chosen, "tree", []), strict=True):
            assert torch.equal(ours[place], theirs)


@every_case
def test_vmap_over_weights_is_an_ensemble(case):
    layers, x = [build(*case) for _ in range(3)], example()
    context = context_for(layers[0].config)
    weights, buffers = stack_module_state([Loss(layer, seed=None) for layer in layers])
    skeleton = Loss(layers[0], seed=None)
    losses = vmap(lambda own, buffer: functional_call(skeleton, (own, buffer), (x, context)))(weights, buffers)
    assert_same(losses, torch.stack([Loss(layer)(x, context) for layer in layers]))


@every_case
def test_vmap_of_grad_is_the_gradient_of_each_sample(case):
    loss, x = Loss(build(*case), seed=None), example()
    context = context_for(loss.layer.config, mask=False)
    scores = context.intuition

    def of_one(weights: Weights, x: Tensor, score: Tensor | None) -> Tensor:
        given = RoutingContext(None if score is None else score.unsqueeze(0))
        return functional_call(loss, weights, (x.unsqueeze(0), given))

    dims = (None, 0, None if scores is None else 0)
    ours = vmap(grad(of_one), in_dims=dims)(weights_of(loss), x, scores)
    for sample in range(BATCH):
        given = RoutingContext(None if scores is None else scores[sample : sample + 1])
        alone, _ = gradients(loss, x[sample : sample + 1], given)
        assert_same({name: one[sample] for name, one in ours.items()}, alone)


@every_case
def test_vmap_in_training_draws_noise_for_each_input(case):
    layer, x = build(*case).train(), example()
    context = context_for(layer.config)
    deltas = vmap(lambda x: layer(x, context)[0], randomness="different")(torch.stack([x, x]))
    assert torch.allclose(*deltas) == (case[1].get("gate") != "noisy_topk")


def gradient_field(loss: Loss, context: RoutingContext | None) -> Callable[[Tensor], Tensor]:
    return grad(lambda x: loss(x, context))


@every_case
def test_a_forward_derivative_of_the_gradient_is_how_it_changes(case):
    """Whatever the power that rescales the gradient: forward over reverse differentiates the gradient as it is made."""
    loss, x = Loss(build(*case)), example()
    context = context_for(loss.layer.config)
    direction, step = torch.randn_like(x), 1e-6
    ours = jvp(gradient_field(loss, context), (x,), (direction,))[1]
    ahead, behind = (gradients(loss, x + sign * step * direction, context)[1] for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    assert (ours - expected).norm() <= 1e-6 * max(1.0, expected.norm().item())


@every_case
def test_forward_and_reverse_jacobians_agree_where_nothing_is_rescaled(case):
    layer, x = build(*case), example()
    context = context_for(layer.config)

    def update(x: Tensor) -> Tensor:
        return layer(x, context)[0]

    forward = jacfwd(update)(x)
    direction = torch.randn_like(x)
    along = torch.tensordot(forward, direction, dims=x.dim())
    assert_same([jvp(update, (x,), (direction,))[1]], [along])
    if case[1].get("gate_backward_power", 1.0) == 1.0:
        assert_same([jacrev(update)(x)], [forward])
        assert_same([torch.autograd.functional.jacobian(update, x, vectorize=True)], [forward])


@every_case
def test_dual_numbers_carry_the_forward_derivative(case):
    layer, x = build(*case), example()
    context, direction = context_for(layer.config), torch.randn_like(x)
    with forward_ad.dual_level():
        made = layer(forward_ad.make_dual(x, direction), context)[0]
        tangent = forward_ad.unpack_dual(made).tangent
    assert_same([tangent], [jvp(lambda x: layer(x, context)[0], (x,), (direction,))[1]])


@pytest.mark.parametrize("fused", [False, True], ids=["apart", "fused"])
@every_case
def test_many_gradients_at_once_are_the_gradients_one_by_one(case, fused):
    layer, x = build(*case), example().requires_grad_()
    base = nn.Linear(IN, OUT, dtype=torch.float64).requires_grad_(False) if fused else None
    y = layer(x, context_for(layer.config), base)[0]
    seen, leaves = torch.randn(3, *y.shape, dtype=y.dtype), [x, *layer.parameters()]

    def pull(given: Tensor, **options: Any) -> tuple[Tensor, ...]:
        return torch.autograd.grad(y, leaves, given, retain_graph=True, materialize_grads=True, **options)

    together = pull(seen, is_grads_batched=True)
    for place, one in enumerate(seen):
        assert_same([grads[place] for grads in together], pull(one))


def lines_run(case) -> set[tuple[str, int]]:
    """The lines of the adapters that a pass forward and backward runs."""
    loss, x, lines = Loss(build(*case).train(case[1].get("gate") != "noisy_topk")), example(), set()

    def look(frame, event, _):
        if Path(frame.f_code.co_filename).parent == FOLDER and event == "line":
            lines.add((frame.f_code.co_filename, frame.f_lineno))
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        gradients(loss, x, context_for(loss.layer.config))
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("system", ENOUGH)
def test_the_traced_configurations_of_a_system_run_every_line_that_any_runs(system):
    left_out = [case for case in OF_SYSTEM[system] if case not in TRACED]
    run = set().union(*(lines_run(case) for case in TRACED if case[0] == system))
    assert run and set().union(*map(lines_run, left_out)) <= run


@traced_case
def test_it_compiles_as_one_graph(case):
    torch._dynamo.reset()
    noisy = case[1].get("gate") == "noisy_topk"
    loss, x = Loss(build(*case).train(not noisy), seed=None), example()
    context = context_for(loss.layer.config)
    expected, of_x = gradients(loss, x, context)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    x = x.requires_grad_()
    named = dict(loss.named_parameters())
    found = torch.autograd.grad(compiled(x, context), [x, *named.values()], materialize_grads=True)
    assert_same(found, [of_x, *expected.values()])


@pytest.mark.parametrize("part", ["router", "gates.0", "gates.1.mlp.0", "down"])
def test_hooks_have_their_effect_in_a_compiled_layer_too(part):
    torch._dynamo.reset()
    layer, x = build({"router": "moelora", "gates.0": "momor"}.get(part, "smore"), {"r": 2}), example()
    plain = layer(x)[0]
    factors = torch.linspace(0, 2, layer.get_submodule(part).out_features, dtype=x.dtype)
    layer.get_submodule(part).register_forward_hook(lambda module, inputs, output: output * factors)
    expected = layer(x)[0]
    assert not torch.allclose(plain, expected)
    assert_same([torch.compile(Update(layer, RoutingContext()), fullgraph=True, backend="aot_eager")(x)], [expected])


@traced_case
def test_it_exports_with_its_context_for_any_batch(case):
    layer, x = build(*case), example()
    context = context_for(layer.config)
    batch = torch.export.Dim("batch", min=1)
    of_context = [{0: batch}] * (1 if context.intuition is None else 2)  # in the order of its fields
    program = torch.export.export(layer, (x, context), dynamic_shapes={"x": {0: batch}, "context": of_context})
    for rows in (BATCH, 7):
        x = torch.randn(rows, x.shape[1], IN, dtype=x.dtype)
        scores = None if context.intuition is None else torch.rand(rows, context.intuition.shape[1], dtype=x.dtype)
        given = RoutingContext(scores, torch.rand(rows, x.shape[1]) < 0.7)
        (delta, routing), (ours, traced) = layer(x, given), program.module()(x, given)
        assert_same([ours, traced.gates], [delta, routing.gates])
        if routing.balance_loss is not None:
            assert_same([traced.balance_loss], [routing.balance_loss])


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@every_case
def test_it_is_traced_without_custom_functions(case):
    layer, x = build(*case), example()
    context = context_for(layer.config)
    traced = torch.jit.trace(Update(layer, context), (x,), check_trace=False)
    assert "PythonOp" not in str(traced.graph)
    other = example()
    assert_same([traced(other)], [layer(other, context)[0]])


def test_plain_calls_are_not_transformed():
    assert not transformed()
    assert vmap(lambda x: x + transformed())(torch.zeros(2)).all()
    assert torch.compile(lambda x: x + transformed(), fullgraph=True, backend="eager")(torch.zeros(2)).all()


class Model(nn.Module):
    """The smallest model that PEFT adapts."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(IN, OUT).double().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


ADAPTED = [
    (name, {**options, "intuition": False, "intuition_mapper": False} if name == "trex" else options)
    for name, options in [*CASES[::3], *RESCALED]
    if options.get("router", True) is True
]


@pytest.mark.parametrize("case", ADAPTED, ids=case_id)
def test_an_adapted_linear_layer_is_transformed_as_a_bare_one(case):
    import peft

    from moe_analysis.peft_bridge import CONFIGS

    name, options = case
    model = peft.inject_adapter_in_model(CONFIGS[name](**options, target_modules=["linear"]), Model()).double().eval()
    layer = next(part for part in model.modules() if isinstance(part, Adapter))
    for parameter in layer.parameters():
        parameter.data.normal_(0.0, 0.5 if parameter.dim() else 0.005)
    x = example()
    assert fusible(model.linear.base_layer, x, layer)
    expected = model(x)
    assert_same([vmap(model)(x)], [expected])

    trained = {name: one.detach() for name, one in model.named_parameters() if one.requires_grad}
    found = grad(lambda weights: functional_call(model, weights, (x,)).square().sum())(trained)
    model.zero_grad()
    expected.square().sum().backward()
    by_name = dict(model.named_parameters())
    assert_same(
        found,
        {
            name: torch.zeros_like(one) if by_name[name].grad is None else by_name[name].grad
            for name, one in trained.items()
        },
    )

    output, pull = vjp(model, x)
    assert_same([output], [expected])
    leaf = x.clone().requires_grad_()
    assert_same(pull(torch.ones_like(output)), torch.autograd.grad(model(leaf).sum(), leaf))

    torch._dynamo.reset()
    assert_same([torch.compile(model, fullgraph=True, backend="aot_eager")(x)], [expected])
    assert_same([torch.export.export(copy.deepcopy(model), (x,)).module()(x)], [expected])
