"""Forward, backward and generation through an adapted model: what reaches the layers and what reaches the loss."""

from __future__ import annotations

import copy

import pytest
import torch

from moe_analysis.peft_bridge import Call, current, opened

from .tiny_models import RESCALED, SWITCH, TREX, adapt, adapted_layers, scores


def balance_by_hand(model, tokens) -> torch.Tensor:
    """Sum of the layers' balance losses, each recomputed from what the layer was given."""
    seen, hooks = [], []
    for layer in adapted_layers(model):
        hooks.append(layer.register_forward_pre_hook(lambda module, args: seen.append((module, args[0].detach()))))
    model(**tokens)
    for hook in hooks:
        hook.remove()
    mask = tokens["attention_mask"]
    return sum(layer.adapters["default"].route(x, mask).balance_loss for layer, x in seen)


def test_a_missing_intuition_is_an_error_from_the_model(tiny_llama, tokens):
    with pytest.raises(ValueError, match="this T-REX layer routes by intuition, but intuition = None"):
        adapt(tiny_llama, **TREX)(**tokens)


def test_an_intuition_of_the_wrong_width_is_an_error_from_the_model(tiny_llama, tokens):
    with pytest.raises(ValueError, match=r"num_down\*num_up = 6 but intuition has 32 clusters"):
        adapt(tiny_llama, **TREX)(**tokens, intuition=scores(width=32))


@pytest.mark.parametrize("sampling", [{"num_beams": 3, "num_return_sequences": 3}, {"num_beams": 1}])
def test_generate_with_beams_equals_generate_with_the_intuition_expanded_by_hand(tiny_llama, tokens, sampling):
    model, intuition = adapt(tiny_llama, **TREX), scores()
    # one length, for the tiny model must not be asked to read padding on the right
    call = {
        "input_ids": tokens["input_ids"][:, :4],
        "attention_mask": tokens["attention_mask"][:, :4],
        "max_new_tokens": 5,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_scores": True,
        **sampling,
    }
    short = model.generate(**call, intuition=intuition)
    full = model.generate(**call, intuition=intuition.repeat_interleave(sampling["num_beams"], 0))
    assert torch.equal(short.sequences, full.sequences)
    torch.testing.assert_close(short.scores, full.scores)  # the prior is made of a row a sample or of a row a beam


def test_generate_follows_the_intuition_of_each_sample(tiny_llama, tokens):
    model = adapt(tiny_llama, **TREX)
    one, other = 10 * scores(1), -10 * scores(1)
    call = {
        "input_ids": tokens["input_ids"][:1, :4],
        "max_new_tokens": 1,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_logits": True,
    }
    logits = [model.generate(**call, intuition=each).logits[0] for each in (one, other)]
    assert not torch.allclose(*logits)
    both = {**call, "input_ids": call["input_ids"].repeat(2, 1)}
    together = model.generate(**both, intuition=torch.cat([one, other])).logits[0]
    assert torch.allclose(together, torch.cat(logits), atol=1e-4)


def test_the_loss_contains_each_layers_balance_loss_once(tiny_llama, tokens):
    model = adapt(tiny_llama, "moelora", **SWITCH)
    output = model(**tokens)
    task = copy.deepcopy(model)
    for layer in adapted_layers(task):
        layer.adapters["default"].config.balance_coef = 0.0
    expected = task(**tokens).loss + balance_by_hand(model, tokens)
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert output["loss"] is output.loss


def test_the_loss_of_a_tuple_output_contains_the_balance_loss_too(tiny_llama, tokens):
    model = adapt(tiny_llama, "moelora", **SWITCH)
    assert model(**tokens, return_dict=False)[0].item() == pytest.approx(model(**tokens).loss.item(), rel=1e-6)


@pytest.mark.parametrize("name, options", [("moelora", SWITCH), ("trex", TREX)])
def test_gradient_checkpointing_changes_neither_the_loss_nor_any_gradient(tiny_llama, tokens, name, options):
    extra = {"intuition": scores()} if name == "trex" else {}
    plain = adapt(tiny_llama, name, **options).train()
    again = copy.deepcopy(plain)
    again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    results, before = [], current()
    for model in (plain, again):
        loss = model(**tokens, **extra).loss
        loss.backward()
        results.append((loss.detach(), {key: p.grad for key, p in model.named_parameters() if p.requires_grad}))
    assert again.base_model.model.is_gradient_checkpointing
    assert current() is before
    assert torch.equal(results[0][0], results[1][0])
    for key, grad in results[0][1].items():
        assert torch.allclose(grad, results[1][1][key], rtol=1e-5, atol=1e-7), key


def test_a_frozen_router_trains_its_experts_beside_a_balance_loss(tiny_llama, tokens):
    """Random fixed routing, the control that a learnt router must beat."""
    model = adapt(tiny_llama, "moelora", **SWITCH).train()
    for layer in adapted_layers(model):
        layer.adapters["default"].router.requires_grad_(False)
    model(**tokens).loss.backward()
    for layer in adapted_layers(model):
        assert layer.adapters["default"].router.weight.grad is None
        assert layer.adapters["default"].B.grad.any()


def test_a_second_batch_carries_nothing_over_from_the_first(tiny_llama, tokens):
    model, before = adapt(tiny_llama, "moelora", **SWITCH), current()
    first = model(**tokens).loss
    assert torch.equal(model(**tokens).loss, first)
    assert current() is before


def test_a_step_with_a_cache_and_the_whole_mask_equals_the_full_pass(tiny_llama, tokens):
    model = adapt(tiny_llama, "moelora", **SWITCH)
    ids, mask = tokens["input_ids"][:1], tokens["attention_mask"][:1]
    cache = model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], use_cache=True).past_key_values
    step = model(input_ids=ids[:, -1:], attention_mask=mask, past_key_values=cache).logits
    assert torch.allclose(step[:, -1], model(input_ids=ids, attention_mask=mask).logits[:, -1], atol=1e-5)


@pytest.mark.parametrize("name, options", [("trex", TREX), ("moelora", RESCALED)])
def test_one_adapted_layer_compiles_as_one_graph(tiny_llama, tokens, name, options):
    model = adapt(tiny_llama, name, **options)
    layer, x = adapted_layers(model)[0], torch.randn(2, 6, 16, requires_grad=True)
    # aot_eager traces forward and backward as every backend does, and needs no C compiler
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with opened(Call(intuition=scores() if name == "trex" else None)):
        y, plain = compiled(x), layer(x)
    assert torch.allclose(y, plain, atol=1e-6)
    ours, expected = (torch.autograd.grad(out.square().sum(), x)[0] for out in (y, plain))
    assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name, options", [("moelora", SWITCH), ("trex", TREX)])  # blocks outside the graph, and inside
def test_a_compiled_model_trains_with_gradient_checkpointing(tiny_llama, tokens, name, options):
    plain = adapt(tiny_llama, name, targets=["q_proj"], **options).train()
    extra = {"use_cache": False} | ({"intuition": scores()} if name == "trex" else {})
    again = copy.deepcopy(plain)
    again.enable_input_require_grads()
    again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch._dynamo.reset()
    for model in (plain, torch.compile(again, backend="eager")):  # what dynamo traces, not what a backend makes of it
        model(**tokens, **extra).loss.backward()
    for one, other in zip(plain.parameters(), again.parameters()):
        assert (one.grad is None and other.grad is None) or torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_a_bfloat16_model_runs_its_adapters_in_float32_and_answers_in_bfloat16(tiny_llama, tokens):
    model, intuition = adapt(tiny_llama.to(torch.bfloat16), **TREX).train(), scores()
    assert all(layer.adapters["default"].A.dtype == torch.float32 for layer in adapted_layers(model))
    output = model(**tokens, intuition=intuition)
    output.loss.backward()
    assert output.logits.dtype == torch.bfloat16 and output.loss.isfinite()


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_autocast_trains_with_either_backward_rule(tiny_llama, tokens, power):
    model = adapt(tiny_llama, "moelora", **RESCALED | {"gate_backward_power": power}).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(**tokens).loss
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
