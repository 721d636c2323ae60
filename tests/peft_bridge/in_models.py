"""Situations of the families of transformers' models."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from moe_analysis.adapters import RoutingContext

from .contract import BALANCED, situation
from .systems import (
    Case,
    bart,
    bert,
    clip,
    close,
    collected,
    gradients,
    layers_of,
    mamba,
    mask_seen,
    mixtral,
    t5,
    twin,
    vit,
    wav2vec2,
)


def own_balance(model: nn.Module, masks, run) -> torch.Tensor:
    """Sum of the layers' balance losses, each computed anew from what the layer was given and the mask of its name."""
    given, handles = {}, []
    for name, layer in layers_of(model).items():
        handles.append(layer.register_forward_pre_hook(lambda _, args, name=name: given.__setitem__(name, args[0])))
    output = run()
    for handle in handles:
        handle.remove()
    losses = []
    for name, layer in layers_of(model).items():
        _, routing = layer.adapters["default"](given[name], RoutingContext(None, masks(name)))
        losses.append(routing.balance_loss)
    return output, torch.stack(losses).sum()


@situation("encoder-decoder, targets of any length")
def _(case: Case) -> None:
    model = case.model(t5(), ["q", "k", "v", "wo"], task_type="SEQ_2_SEQ_LM")
    batch = case.batch(2)
    mask, extra = batch["attention_mask"], case.extra()
    for length in (6, 4):
        labels = torch.randint(3, 40, (2, length))
        own = torch.ones(2, length, dtype=torch.long)
        own[0, 2:] = 0
        inputs = {
            "input_ids": batch["input_ids"],
            "attention_mask": mask,
            "labels": labels,
            "decoder_attention_mask": own,
            **extra,
        }
        if case.intuitive:
            assert model(**inputs).loss.isfinite()
            continue

        def of(name: str, own=own):
            keys = name.endswith(("EncDecAttention.k", "EncDecAttention.v"))  # these read the encoder's output
            return mask if ".encoder." in name or keys else own

        output, right = own_balance(model, of, lambda inputs=inputs: model(**inputs))
        close(output.balance_loss, right)
    if case.intuitive:
        scores = extra["intuition"]
        both = model(**inputs).logits
        alone = model(**{key: value[:1] for key, value in inputs.items()} | {"intuition": scores[:1]}).logits
        close(both[:1], alone)


@situation("encoder-decoder, targets padded by labels, by token ids or by the model itself")
def _(case: Case) -> None:
    batch, labels = case.batch(2), torch.randint(3, 40, (2, 4), generator=torch.Generator().manual_seed(0))
    labels[1, 2:] = -100
    words = batch["attention_mask"]
    wide = F.pad(labels, (0, 3), value=-100)

    def check(model: nn.Module, given: dict[str, torch.Tensor], targets: torch.Tensor) -> None:
        inputs = {**batch, "labels": None, **given}
        for name, mask in mask_seen(model, lambda: model(**inputs)).items():
            right = words if "encoder." in name else targets
            assert mask.tolist() == right.to(mask.dtype).tolist(), name

    for base in (t5(), bart()):
        model = case.model(base, r".*(\.q|\.wo|q_proj|fc1|lm_head)", task_type="SEQ_2_SEQ_LM")
        narrow, right = model(**batch | {"labels": wide}), model(**batch | {"labels": labels})
        close(narrow.balance_loss + 1, right.balance_loss + 1)
        close(narrow.loss, right.loss)
        ids = base.prepare_decoder_input_ids_from_labels(wide)
        check(model, {"labels": wide}, wide.ne(-100))
        check(model, {"labels": wide, "decoder_input_ids": ids}, wide.ne(-100))
        check(model, {"decoder_input_ids": ids}, F.pad(wide.ne(-100), (1, -1), value=True))


@situation("an encoder-decoder with a classification head, whose decoder reads the input once more")
def _(case: Case) -> None:
    model, batch = case.model(bart("SequenceClassification"), ["q_proj", "fc1"]), case.batch(2)
    words = batch["attention_mask"]
    batch["input_ids"][[0, 1], words.sum(1) - 1] = 2  # the head reads the last token
    seen = mask_seen(model, lambda: model(**batch | {"labels": torch.tensor([0, 1])}))
    for name, mask in seen.items():
        right = words if "encoder." in name else F.pad(words, (1, -1), value=1)
        assert mask.tolist() == right.to(mask.dtype).tolist(), name


@situation("an audio model, whose frames are fewer than the samples of its mask")
def _(case: Case) -> None:
    mask, sound = torch.ones(2, 160, dtype=torch.long), torch.randn(2, 160)
    mask[1, 80:] = 0
    right = torch.ones(2, 10, dtype=torch.bool)
    right[1, 5:] = False
    for adds in (False, True):  # a block of its own that shortens the frames again
        model = case.model(wav2vec2(add_adapter=adds), ["q_proj", "lm_head"])
        seen = mask_seen(model, lambda model=model: model(sound, attention_mask=mask, **case.extra()))
        if case.balanced:
            assert torch.equal(seen["wav2vec2.encoder.layers.0.attention.q_proj"], right)
            assert torch.equal(seen["lm_head"], right[:, ::2] if adds else right)


@situation("encoder-decoder under gradient checkpointing, reentrant or not")
def _(case: Case) -> None:
    model = case.model(t5(), ["q", "k", "v", "wo"], task_type="SEQ_2_SEQ_LM").train()
    batch, own = case.batch(2), torch.ones(2, 6, dtype=torch.long)
    own[0, 1:] = 0
    inputs = batch | {"labels": torch.randint(3, 40, (2, 6)), "decoder_attention_mask": own}
    right = gradients(model, model(**inputs).loss)
    for reentrant in (False, True):
        again = twin(model)
        again.enable_input_require_grads()
        again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
        again(**inputs).loss.backward()
        close(collected(again), right)


@situation("encoder-decoder generation")
def _(case: Case) -> None:
    model = case.model(t5(), ["q", "v"], task_type="SEQ_2_SEQ_LM")
    batch = case.batch(2, padded=False)
    options = {"max_new_tokens": 3, "do_sample": False, "num_beams": 2}
    together = model.generate(input_ids=batch["input_ids"], **options, **case.extra())
    second = {key: value[1:] for key, value in case.extra().items()}
    alone = model.generate(input_ids=batch["input_ids"][1:], **options, **second)
    assert torch.equal(together[1:, : alone.shape[1]], alone)


@situation("an encoder with a classification head")
def _(case: Case) -> None:
    model, batch = case.model(bert(), ["query", "dense"]), case.batch()
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    output = model(**inputs, labels=torch.tensor([0, 1]))
    alone = model(**{key: value[:1] for key, value in inputs.items()})
    close(output.logits[:1], alone.logits)
    assert bool(output.balance_loss > 0) == case.balanced
    close(output.loss, nn.functional.cross_entropy(output.logits, torch.tensor([0, 1])) + output.balance_loss)


@situation("a tuple with a loss from labels of other names, or without a loss because there are no labels")
def _(case: Case) -> None:
    model, batch = case.model(bert("QuestionAnswering"), ["query", "dense"]), case.batch()
    batch.pop("labels")
    ends = {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([2, 3])}
    output = model(**batch, **ends)
    task = F.cross_entropy(output.start_logits, ends["start_positions"])
    task = (task + F.cross_entropy(output.end_logits, ends["end_positions"])) / 2
    close(output.loss, task + output.balance_loss)
    close(model(**batch, **ends, return_dict=False)[0], output.loss)
    model = case.model(bert("PreTraining"), ["query", "dense"])  # its loss needs a second kind of labels
    right = model(**batch).prediction_logits
    assert torch.equal(model(**batch, labels=batch["input_ids"], return_dict=False)[0], right)


@situation("a vision model")
def _(case: Case) -> None:
    model, images = case.model(vit(), ["q_proj", "v_proj"]), torch.randn(2, 1, 8, 8)
    output = model(pixel_values=images, **case.extra())
    alone = model(pixel_values=images[:1], **{key: value[:1] for key, value in case.extra().items()})
    close(output.logits[:1], alone.logits)
    assert bool(output.balance_loss > 0) == case.balanced


@situation("two towers with sequences of the same length")
def _(case: Case) -> None:
    model, images = case.model(clip(), ["q_proj", "fc1"]).train(), torch.randn(2, 3, 8, 8)
    mask = torch.tensor([[1] * 5, [1, 1, 0, 0, 0]])
    inputs = {"input_ids": torch.randint(3, 40, (2, 5)), "attention_mask": mask, "pixel_values": images}
    inputs |= {"return_loss": True, **case.extra()}
    if case.intuitive:
        assert gradients(model, model(**inputs).loss).any()
        return
    output, right = own_balance(model, lambda name: mask if "text_model" in name else None, lambda: model(**inputs))
    close(output.balance_loss, right)


@situation("a decoder whose own blocks are mixtures of experts")
def _(case: Case) -> None:
    model, batch = case.model(mixtral(), ["q_proj", "v_proj"]), case.batch()
    output, mask = model(**batch), batch["attention_mask"]
    close(model(**{key: value[:1] for key, value in batch.items()}).logits, output.logits[:1])
    if case.balanced:
        close(output.balance_loss, own_balance(model, lambda _: mask, lambda: model(**batch))[1])
    again = twin(model).train()
    again.enable_input_require_grads()
    again.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    close(gradients(again, again(**batch).loss), gradients(model.train(), model(**batch).loss))


ALL = (*BALANCED, "trex")


@situation(
    "`dt_proj` and `out_proj` of Mamba", dict.fromkeys(ALL, "because mamba reads its weight instead, so an adapter")
)
def _(case: Case) -> None:
    adapted = {name.rpartition(".")[2] for name in layers_of(case.model(mamba(), "all-linear"))}
    assert adapted == {"in_proj", "x_proj"}
    with pytest.raises(ValueError, match=r"target module backbone\.layers\.0\.mixer\.dt_proj would not be called"):
        case.model(mamba(), ["in_proj", "dt_proj"])
    case.model(mamba(), ["out_proj"])
