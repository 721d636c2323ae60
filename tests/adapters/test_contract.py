"""What every registered adapter owes its users, in every configuration of `cases`; a new adapter joins by itself."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from moe_analysis.adapters import REGISTRY, RoutingContext

from .cases import CASES, IN, OUT, SHAPES, build, case_id, clusters, context_for, example, ours, randomize
from .naive import NAIVE

every_case = pytest.mark.parametrize("case", CASES, ids=case_id)


def loss_and_gradients(layer, x, context, run) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A loss of everything that training sees (update and balance loss) and every gradient, x's too."""
    layer.zero_grad()
    x = x.clone().requires_grad_()
    delta, routing = run(layer, x, context)
    loss = (delta * torch.linspace(-1, 1, OUT, dtype=delta.dtype)).sum() + delta.square().sum()
    if routing.balance_loss is not None:
        loss = loss + routing.balance_loss
    loss.backward()
    return loss.detach(), {"x": x.grad, **{name: parameter.grad for name, parameter in layer.named_parameters()}}


def down_factors(layer) -> list[torch.Tensor]:
    """A of a system with one pool, every A[l] of a system with several."""
    return [layer.A] if isinstance(layer.A, torch.Tensor) else list(layer.A)


def directly(layer, x, context):
    return layer(x, context)


@every_case
def test_a_new_adapter_changes_nothing(case):
    name, options = case
    config = REGISTRY[name].config_class(**options)
    layer = REGISTRY[name](IN, OUT, config).double()
    assert not layer(example(), context_for(config))[0].any()


@every_case
def test_down_factors_start_uniform_within_one_over_the_root_of_the_width(case):
    name, options = case
    layer = REGISTRY[name](400, OUT, REGISTRY[name].config_class(**options))
    if not (ours(name) or hasattr(layer, "A")):
        pytest.skip("an adapter of somebody's own without factors A")
    bound = 400**-0.5  # LoRA's Kaiming-uniform(sqrt 5), whatever the number of experts in the stack
    for A in down_factors(layer):
        assert A.abs().max() <= bound
        assert A.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)


@every_case
def test_the_forward_pass_equals_a_loop_over_tokens_and_experts(case):
    name, options = case
    if name not in NAIVE and not ours(name):
        pytest.skip("nobody wrote this adapter's update as a loop")
    assert name in NAIVE, f"write the update of {name!r} as a loop in tests/adapters/naive.py"
    layer, x = build(name, options), example()
    context = context_for(layer.config)
    intuition = None if context.intuition is None else context.intuition.numpy()
    expected = NAIVE[name](layer, x.numpy(), intuition)
    delta = layer(x, context)[0].detach().numpy()
    assert np.abs(delta - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())


@every_case
def test_a_missing_context_is_a_context_without_padding(case):
    layer, x = build(*case), example()
    if clusters(layer.config) is not None:
        pytest.skip("without a context T-REX leaves its prior out: tested in test_trex")
    (delta, routing), (same, empty) = layer(x), layer(x, RoutingContext())
    assert torch.equal(delta, same)
    assert torch.equal(routing.gates, empty.gates)


@every_case
def test_padding_does_not_change_the_update(case):
    layer, x = build(*case), example()
    context = context_for(layer.config)
    unmasked = RoutingContext(context.intuition)
    assert torch.equal(layer(x, context)[0], layer(x, unmasked)[0])


@every_case
def test_leading_dimensions_only_arrange_the_tokens(case):
    layer, x = build(*case), example()
    context = context_for(layer.config, mask=False)
    delta = layer(x, context)[0]
    flat = layer(x.flatten(0, 1), context)[0]
    split = layer(x.unsqueeze(2), context)[0]
    assert torch.allclose(flat, delta.flatten(0, 1), rtol=0, atol=1e-12)
    assert torch.allclose(split, delta.unsqueeze(2), rtol=0, atol=1e-12)


@every_case
def test_one_vector_is_routed_as_one_token(case):
    layer, x = build(*case), example()
    context = context_for(layer.config, mask=False)
    first = RoutingContext(None if context.intuition is None else context.intuition[:1])
    delta = layer(x[0, 0], first)[0]
    assert delta.shape == (OUT,)
    assert torch.allclose(delta, layer(x, context)[0][0, 0], rtol=0, atol=1e-12)


@every_case
def test_gates_weigh_every_expert_of_every_token(case):
    layer, x = build(*case), example()
    gates = layer(x, context_for(layer.config))[1].gates
    assert gates.shape[: x.dim() - 1] == x.shape[:-1]
    assert gates.flatten(x.dim() - 1).shape[-1] == layer.num_gates


@every_case
def test_gradients_reach_every_parameter_in_training(case):
    layer = build(*case).train()
    if layer.num_gates == 1:
        pytest.skip("a single expert has gate 1 whatever its router says")
    _, grads = loss_and_gradients(layer, example(), context_for(layer.config), directly)
    assert [name for name, grad in grads.items() if grad is None or not grad.any()] == []


@every_case
def test_gradient_checkpointing_gives_the_same_gradients_and_counts_the_balance_loss_once(case):
    layer, x = build(*case).train(), example()
    context = context_for(layer.config)

    def recomputed(layer, x, context):
        return checkpoint(layer, x, context, use_reentrant=False)

    torch.manual_seed(1)
    loss, grads = loss_and_gradients(layer, x, context, directly)
    torch.manual_seed(1)  # the noise of noisy top-k is part of the function
    again, grads_again = loss_and_gradients(layer, x, context, recomputed)
    assert torch.equal(loss, again)
    for name, grad in grads.items():
        assert torch.allclose(grad, grads_again[name], rtol=1e-12, atol=1e-12), name


@every_case
def test_parameter_names_and_shapes_are_the_contract(case):
    name, options = case
    if name not in SHAPES and not ours(name):
        pytest.skip("nobody wrote down this adapter's parameters")
    assert name in SHAPES, f"add the parameter names and shapes of {name!r} to SHAPES in tests/adapters/cases.py"
    layer = build(name, options)
    assert {key: tuple(value.shape) for key, value in layer.state_dict().items()} == SHAPES[name](layer.config)


@every_case
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["deepcopy", "pickle"]
)
def test_a_copy_computes_the_same_bits(case, duplicate):
    layer, x = build(*case), example()
    context = context_for(layer.config)
    layer(x, context)[0].sum().backward()  # nothing of a forward pass may stay behind and hinder the copy
    assert torch.equal(duplicate(layer)(x, context)[0], layer(x, context)[0])


@every_case
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bfloat16_autocast_runs_forward_and_backward(case, training):
    layer = build(*case, dtype=torch.float32).train(training)

    def autocast(layer, x, context):
        with torch.autocast("cpu", torch.bfloat16):  # the backward pass stays outside, as in a training loop
            return layer(x, context)

    _, grads = loss_and_gradients(layer, example(torch.float32), context_for(layer.config, torch.float32), autocast)
    reached = [grad for grad in grads.values() if grad is not None]
    assert all(grad.isfinite().all() for grad in reached)
    factors = [grad for key, grad in grads.items() if key.partition(".")[0] in ("A", "B")]
    assert factors and all(grad is not None and grad.any() for grad in factors)


@every_case
def test_bfloat16_autocast_is_close_to_float32(case):
    layer, x = build(*case, dtype=torch.float32), example(torch.float32)
    context = context_for(layer.config, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = layer(x, context)[0].float()
    full = layer(x, context)[0]
    # bfloat16 keeps 8 bits: three products in a row, each two units of 2^-7 off at most, and the roundings between;
    # the median forgives a token whose k-th and next expert change places
    error = (reduced - full).norm(dim=-1) / full.norm(dim=-1)  # (batch, tokens)
    assert error.median() < 0.06


@every_case
def test_factor_pairs_are_the_modules_own_parameters(case):
    layer = build(*case)
    own = {id(parameter) for parameter in layer.parameters()}
    for A, B in layer.factor_pairs():
        assert id(A) in own and id(B) in own
        assert A.shape[0] == B.shape[0] and A.shape[-2] == B.shape[-1]  # (E, r, in) and (E, out, r)


@every_case
def test_router_parameters_are_the_modules_own_and_no_factors(case):
    layer = build(*case)
    routers = list(layer.router_parameters())
    assert routers and len({id(p) for p in routers}) == len(routers)
    factors = {id(value) for key, value in layer.named_parameters() if key.partition(".")[0] in ("A", "B")}
    assert {id(p) for p in routers} <= {id(p) for p in layer.parameters()} - factors


@every_case
def test_the_router_reads_the_input_before_dropout(case):
    name, options = case
    if options.get("gate") == "noisy_topk":
        pytest.skip("its gates are random in training")
    if options.get("router") == "bottom_up":
        pytest.skip("it reads what the experts below made of the dropped input")
    layer, x = build(name, {**options, "dropout": 0.5}), example()
    context = context_for(layer.config)
    (delta, calm), (dropped, trained) = layer(x, context), layer.train()(x, context)
    # without dropout one product makes the router's and the experts' share, with it each has its own: roundings apart
    torch.testing.assert_close(trained.gates, calm.gates, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(delta, dropped)


@every_case
def test_a_disabled_adapter_leaves_the_base_model_bit_equal(case, tiny_llama, tokens):
    model, inputs, plain = adapted(case, tiny_llama, tokens)
    assert not torch.equal(model(**inputs).logits, plain)
    with model.disable_adapter():
        assert torch.equal(model(**inputs).logits, plain)


@every_case
def test_a_saved_adapter_loads_bit_equal(case, tiny_llama, tokens, tmp_path):
    from peft import PeftModel

    base = copy.deepcopy(tiny_llama)
    model, inputs, _ = adapted(case, tiny_llama, tokens)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path)
    model.requires_grad_(False)  # as the loaded one is: torch chooses between two products by who is trained
    stored, read = (dict(one.named_parameters()) for one in (model, loaded))
    assert stored.keys() == read.keys()
    assert all(torch.equal(stored[key], read[key]) for key in stored)
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def adapted(case, base, tokens):
    """(PEFT model with random adapter weights, its inputs, the base model's logits)."""
    from peft import get_peft_model

    from moe_analysis.peft_bridge import CONFIGS

    name, options = case
    inputs = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    plain = base(**inputs).logits
    config = CONFIGS[name](**options, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(base, config).eval()
    randomize(model)
    if (width := clusters(config)) is not None:
        inputs["intuition"] = torch.rand(2, width)
    return model, inputs, plain
