"""Situations of forward and backward passes: whose intuition, whose mask, whose balance loss."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from moe_analysis.peft_bridge import current, keeping_call

from .contract import BALANCED, situation
from .systems import Case, close, gradients, llama, twin

ALL = (*BALANCED, "trex")
NO_GRADIENT = "runs without gradients inside a pass with gradients"


def two_losses(model, case: Case):
    """A preference-like loss of two passes with different context."""
    chosen, rejected = (model(**case.batch(seed=seed)).loss for seed in (0, 1))
    return chosen - 2 * rejected


def checkpointed(model, reentrant: bool):
    model = twin(model).train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    return model


@situation(
    "`model.forward(...)` of a model with `add_adapter`, where torch runs no hooks",
    dict.fromkeys(BALANCED, "was called by itself, so no hook runs"),
)
def _(case: Case) -> None:
    model, batch = case.model().get_base_model(), case.batch()
    if case.intuitive:
        close(model.forward(**batch).loss, model(**batch).loss)
        with pytest.raises(ValueError, match="was called by itself"):  # which the head could not read
            model.forward(**batch, adapter_names=["default", "__base__"])
    else:
        alone = case.model(torch.nn.Sequential(torch.nn.Linear(8, 8)), ["0"]).get_base_model()
        with pytest.raises(ValueError, match="forward of this Sequential was called by itself"):
            alone.forward(torch.randn(2, 8))
    close(model(**batch, output_hidden_states=True).hidden_states[-1], model.model(**batch)[0])  # a part of it may be
    model.forward(**batch)


@situation("two forward passes, one backward pass")
def _(case: Case) -> None:
    model = case.model().train()
    one, two = (gradients(model, model(**case.batch(seed=seed)).loss) for seed in (0, 1))
    close(gradients(model, two_losses(model, case)), one - 2 * two)


@situation("two forward passes under gradient checkpointing")
def _(case: Case) -> None:
    model = case.model().train()
    again, before = checkpointed(model, reentrant=False), current()
    close(gradients(again, two_losses(again, case)), gradients(model, two_losses(model, case)))
    assert current() is before


@situation("two forward passes under reentrant checkpointing")
def _(case: Case) -> None:
    model = case.model().train()
    again = checkpointed(model, reentrant=True)
    right = gradients(model, two_losses(model, case))
    two_losses(again, case).backward()
    close(torch.cat([p.grad.flatten() for p in again.parameters() if p.requires_grad]), right)


@situation(
    "a frozen part of the model under `torch.no_grad`, with adapters in it", dict.fromkeys(BALANCED, NO_GRADIENT)
)
def _(case: Case) -> None:
    model = case.model().train()
    block = model.get_base_model().model.layers[0].mlp
    block.forward = torch.no_grad()(block.forward)
    right = twin(model)
    for parameter in right.get_base_model().model.layers[0].mlp.parameters():
        parameter.requires_grad_(False)
    frozen = {name for name, parameter in right.named_parameters() if not parameter.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    close(gradients(model, model(**case.batch()).loss), gradients(right, right(**case.batch()).loss))


@situation("a checkpoint made by hand, with `keeping_call`")
def _(case: Case) -> None:
    model = case.model().train()
    right = gradients(model, two_losses(model, case))
    for block in model.get_base_model().model.layers:
        plain = block.mlp.forward
        block.mlp.forward = lambda x, plain=plain: checkpoint(keeping_call(plain), x, use_reentrant=False)
    close(gradients(model, two_losses(model, case)), right)


@situation(
    "a checkpoint made by hand, without `keeping_call`",
    {**dict.fromkeys(BALANCED, "keeping_call(function)"), "trex": "keeping_call(function)"},
)
def _(case: Case) -> None:
    model = case.model().train()
    for block in model.get_base_model().model.layers:
        plain = block.mlp.forward
        block.mlp.forward = lambda x, plain=plain: checkpoint(plain, x, use_reentrant=False)
    gradients(model, two_losses(model, case))


@situation("a reference pass with the adapter disabled, between forward and backward")
def _(case: Case) -> None:
    model = checkpointed(case.model(), reentrant=False)
    right = gradients(model, model(**case.batch()).loss)
    loss = model(**case.batch()).loss
    with torch.no_grad(), model.disable_adapter():
        reference = model(**case.batch(seed=1)).logits
        plain = model.get_base_model()(**case.batch(seed=1)).logits
    close(reference, plain)
    close(gradients(model, loss), right)


@situation("a pass with the adapter disabled inside another pass")
def _(case: Case) -> None:
    model, batch, seen = case.model().train(), case.batch(), []
    right = model(**batch)
    with torch.no_grad(), model.disable_adapter():
        reference = model(**case.batch(seed=1)).logits

    def look(*_) -> None:
        handle.remove()
        with torch.no_grad(), model.disable_adapter():
            seen.append(model(**case.batch(seed=1)).logits)

    handle = model.get_base_model().model.layers[0].register_forward_hook(look)
    output = model(**batch)
    close(output.logits, right.logits)
    close(output.balance_loss + 1, right.balance_loss + 1)
    close(seen[0], reference)


def interrupted(model, step) -> None:
    """Run the step, and end it by Ctrl-C in the second block of the model."""

    def stop(*_) -> None:
        raise KeyboardInterrupt

    handle = model.get_base_model().model.layers[1].mlp.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        step()
    handle.remove()


@situation("a pass, a pass inside a pass and a generation that Ctrl-C ended")
def _(case: Case) -> None:
    model, batch, before = case.model(), case.batch(), current()
    inner = model.get_base_model().model  # a model inside the model would share what the interrupted pass left
    prompt = {name: value for name, value in batch.items() if name != "labels"}
    right, states = model(**batch), inner(**prompt)[0]

    def inside() -> None:
        def another(*_) -> None:
            handle.remove()
            model(**case.batch(seed=1))

        handle = inner.layers[0].register_forward_pre_hook(another)
        model(**batch)

    for step in (lambda: model(**case.batch(seed=1)), inside, lambda: model.generate(**prompt, max_new_tokens=2)):
        interrupted(model, step)
        assert current() is before
        close(inner(**prompt)[0], states)
        again = model(**batch)
        close(again.logits, right.logits)
        close(again.balance_loss + 1, right.balance_loss + 1)


@situation("a recompute that Ctrl-C ended")
def _(case: Case) -> None:
    model, before = checkpointed(case.model(), reentrant=False), current()
    right = gradients(model, model(**case.batch()).loss)
    loss = model(**case.batch(seed=1)).loss
    interrupted(model, loss.backward)
    assert current() is before
    model.zero_grad()
    close(gradients(model, model(**case.batch()).loss), right)


@situation("a gradient through a pass that disabled the adapter, checkpointed")
def _(case: Case) -> None:
    model = checkpointed(case.model(), reentrant=False)
    embeds = model.get_input_embeddings()(case.batch()["input_ids"]).detach().requires_grad_()
    with model.disable_adapter():
        right = torch.autograd.grad(model(inputs_embeds=embeds, **case.extra()).logits.square().sum(), embeds)[0]
        loss = model(inputs_embeds=embeds, **case.extra()).logits.square().sum()
    close(torch.autograd.grad(loss, embeds)[0], right)  # the recompute runs after the adapter is enabled again


@situation("four threads, each with its own batch")
def _(case: Case) -> None:
    model = case.model()
    batches = [case.batch(seed=seed) for seed in range(4)]
    right, off = [model(**batch) for batch in batches], []

    def run(place: int) -> None:
        for _ in range(10):
            output = model(**batches[place])
            off.append((output.logits - right[place].logits).abs().max().item())
            off.append((output.balance_loss - right[place].balance_loss).abs().item())

    threads = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(off) == 80 and max(off) < 1e-5


@situation("four threads with gradients, checkpointed")
def _(case: Case) -> None:
    model = checkpointed(case.model(), reentrant=False)
    right = [gradients(model, model(**case.batch(seed=seed)).loss) for seed in range(4)]
    found: dict[int, torch.Tensor] = {}

    def run(seed: int) -> None:
        found[seed] = gradients(model, model(**case.batch(seed=seed)).loss)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        close(found[seed], right[seed])


@situation("left padding")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch()
    row = {key: value[-1:] for key, value in batch.items() if key != "labels"}
    left = dict(row, input_ids=row["input_ids"].roll(2, 1), attention_mask=row["attention_mask"].roll(2, 1))
    right = dict(row, input_ids=row["input_ids"][:, :4], attention_mask=row["attention_mask"][:, :4])
    positions = torch.tensor([[0, 0, 0, 1, 2, 3]])
    ours, short = model(**left, position_ids=positions), model(**right)
    close(ours.logits[:, 2:], short.logits)
    close(ours.balance_loss + 1, short.balance_loss + 1)


@situation("a decoding step with a cache")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch(1, padded=False)
    batch.pop("labels")
    extra = case.extra(1)
    cache = model(input_ids=batch["input_ids"][:, :-1], use_cache=True, **extra).past_key_values
    step = model(
        input_ids=batch["input_ids"][:, -1:], attention_mask=batch["attention_mask"], past_key_values=cache, **extra
    )
    close(step.logits[:, -1], model(**batch).logits[:, -1])


@situation("beam search")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch(2, padded=False)
    call = {
        "input_ids": batch["input_ids"][:, :4],
        "attention_mask": batch["attention_mask"][:, :4],
        "max_new_tokens": 4,
        "do_sample": False,
        "num_beams": 3,
        "num_return_sequences": 3,
    }
    together = model.generate(**call, **case.extra())
    for sample in range(2):
        alone = {key: value[sample : sample + 1] for key, value in case.extra().items()}
        one = call | {key: call[key][sample : sample + 1] for key in ("input_ids", "attention_mask")}
        assert torch.equal(model.generate(**one, **alone), together[3 * sample : 3 * sample + 3])


@situation("generation with drafts of prompt lookup or a second model, a static cache, or a prompt read in chunks")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch(1, padded=False)
    call = {name: batch[name] for name in ("input_ids", "attention_mask")}
    given = call["input_ids"].shape[1]
    call |= {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, **case.extra(1)}
    ways: tuple[dict[str, Any], ...] = (
        {"prompt_lookup_num_tokens": 2},
        {"assistant_model": llama()},
        {"cache_implementation": "static"},
        {"prefill_chunk_size": 2},
    )
    for way in ways:
        tokens = model.generate(**call, **way)
        logits = model(input_ids=tokens, **case.extra(1)).logits[0, given - 1 : -1]  # each token from all before it
        logits[:, model.config.eos_token_id] = -torch.inf  # too early
        chosen = logits.gather(1, tokens[0, given:, None])[:, 0]
        assert len(chosen) == 6 and (logits.amax(1) - chosen).max() < 1e-4, way  # the likeliest, but for ties


@situation("each row with its own adapter (`adapter_names`)")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch()
    batch.pop("labels")
    model.add_adapter("german", case.config())
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            parameter.data.normal_(0, 0.5)
    first, none = model(**batch).logits, model.get_base_model()
    model.set_adapter("german")
    second = model(**batch).logits
    with model.disable_adapter():
        base = none(**batch).logits
    close(model.eval()(**batch, adapter_names=["default", "german"]).logits, torch.stack([first[0], second[1]]))
    close(model(**batch, adapter_names=["__base__", "german"]).logits, torch.stack([base[0], second[1]]))


def with_heads(case: Case):
    """A model of three adapters, the last of them active; two have a head of their own."""
    model = case.model(modules_to_save=["lm_head"])
    model.add_adapter("german", case.config(modules_to_save=["lm_head"]))
    model.add_adapter("plain", case.config())
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if ".german." in name or ".plain." in name or "modules_to_save" in name:
            parameter.data.normal_(0, 0.5 if parameter.dim() else 0.0)
    model.set_adapter("plain")
    return model.eval()


ROWS = ["german", "__base__", "plain", "default"]


@situation("each row with its own adapter and its own head (`modules_to_save`)")
def _(case: Case) -> None:
    model, batch = with_heads(case), case.batch(4)
    batch.pop("labels")
    alone = {}
    for name in ("plain", "german", "default"):
        model.set_adapter(name)
        alone[name] = model(**batch).logits
    with model.disable_adapter():
        alone["__base__"] = model(**batch).logits
    right = torch.stack([alone[name][row] for row, name in enumerate(ROWS)])
    for active in ("default", "plain"):
        model.set_adapter(active)
        close(model(**batch, adapter_names=ROWS).logits, right)
        close(model.get_base_model()(**batch, adapter_names=ROWS).logits, right)  # as after add_adapter
        close(model(**batch).logits, alone[active])


@situation("beam search, each row with its own adapter and its own head")
def _(case: Case) -> None:
    model, batch = with_heads(case), case.batch(2, padded=False)
    batch.pop("labels")
    options = {"max_new_tokens": 3, "do_sample": False, "num_beams": 2}
    together = model.generate(**batch, **options, adapter_names=ROWS[:1] + ROWS[2:3])
    native = model.get_base_model().generate(**batch, **options, adapter_names=ROWS[:1] + ROWS[2:3])
    assert torch.equal(native, together)
    for row, name in enumerate(ROWS[:1] + ROWS[2:3]):
        model.set_adapter(name)
        alone = model.generate(**{key: value[row : row + 1] for key, value in batch.items()}, **options)
        assert torch.equal(alone, together[row : row + 1, : alone.shape[1]])


@situation(
    "each row with its own adapter, and copies of a module that takes more than its rows",
    dict.fromkeys(ALL, "run one batch per adapter, with set_adapter"),
)
def _(case: Case) -> None:
    model = case.model(targets=["down_proj"], modules_to_save=["self_attn"])
    model(**case.batch(), adapter_names=["default", "__base__"])


NOT_TRAINING = "adapter_names gives each row its own adapter, which works in evaluation mode only"


@situation("`adapter_names` in training", dict.fromkeys(ALL, NOT_TRAINING))
def _(case: Case) -> None:
    case.model().train()(**case.batch(), adapter_names=["default", "default"])


@situation("`adapter_names` in training, of a model with `add_adapter`", dict.fromkeys(ALL, NOT_TRAINING))
def _(case: Case) -> None:
    case.model().train().get_base_model()(**case.batch(), adapter_names=["default", "default"])


UNKNOWN = "adapter_names ['germn'] are not in the model; it has ['default'] and '__base__' for none"


@situation("`adapter_names` with a name that no adapter has", dict.fromkeys(ALL, UNKNOWN))
def _(case: Case) -> None:
    case.model()(**case.batch(), adapter_names=["default", "germn"])


@situation("`adapter_names` with such a name, of a model with `add_adapter`", dict.fromkeys(ALL, UNKNOWN))
def _(case: Case) -> None:
    case.model().get_base_model()(**case.batch(), adapter_names=["default", "germn"])


@situation(
    "fewer rows of intuition than samples",
    {
        **dict.fromkeys(BALANCED, "no adapter of this model routes by it"),
        "trex": "intuition has 2 rows but the batch has 4 samples",
    },
)
def _(case: Case) -> None:
    batch = case.batch(4)
    case.model()(**batch | {"intuition": torch.rand(2, 6)})


@situation("the balance loss without labels, and in a tuple")
def _(case: Case) -> None:
    model, batch = case.model().train(), case.batch()
    with_labels = model(**batch)
    labels = batch.pop("labels")
    without = model(**batch)
    close(without.balance_loss + 1, with_labels.balance_loss + 1)
    assert bool(with_labels.balance_loss > 0) == case.balanced
    assert without.loss is None
    close(model(**batch, labels=labels, return_dict=False)[0], with_labels.loss)
    task = torch.nn.functional.cross_entropy(with_labels.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    close(with_labels.loss, task + with_labels.balance_loss)


@situation("an attention mask for each pair of tokens, with padding")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch()
    right, padding = model(**batch), batch["attention_mask"]
    allowed = torch.ones(6, 6).tril().bool() & padding.bool()[:, None, None, :]
    numbers = torch.zeros(2, 1, 6, 6).masked_fill(~allowed, torch.finfo(torch.float32).min)
    output = model(**batch | {"attention_mask": numbers})
    close(output.loss, right.loss)
    close(output.balance_loss + 1, right.balance_loss + 1)
    again = model(**batch | {"attention_mask": numbers, "return_dict": False})
    close(again[0], right.loss)
