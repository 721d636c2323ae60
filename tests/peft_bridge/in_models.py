"""Situations of other models: their families, their dtypes, their devices."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import accelerate
import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from moe_analysis.adapters import RoutingContext
from moe_analysis.peft_bridge import BalanceLossWarning
from moe_analysis.peft_bridge.hooks import adapted_of

from .contract import BALANCED, situation
from .systems import (
    Case,
    Regrouping,
    bart,
    bert,
    clip,
    close,
    collected,
    gradients,
    layers_of,
    llama,
    mamba,
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


def mask_seen(model: nn.Module, run) -> dict[str, torch.Tensor]:
    """The token mask that each layer with adapters was given in a run, by the layer's name."""
    seen, handles = {}, []
    for name, layer in layers_of(model).items():
        layer = layer.adapters["default"]
        handles.append(
            layer.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[1].token_mask))
        )
    run()
    for handle in handles:
        handle.remove()
    return {name.removeprefix("base_model.model."): mask for name, mask in seen.items()}


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


@situation(
    "tokens that are pooled to fewer, some of them padding",
    dict.fromkeys(BALANCED, "set balance_coef=0, or leave the layer out of target_modules"),
)
def _(case: Case) -> None:
    class Pooling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(16, 16)

        def forward(self, x: torch.Tensor, attention_mask: torch.Tensor, image: torch.Tensor | None = None):
            return self.one(x[:, ::2] if image is None else image)

    model, batch, x = case.model(Pooling(), ["one"]), case.batch(), torch.randn(2, 6, 16)
    mask = batch["attention_mask"]
    assert model(x, attention_mask=torch.ones_like(mask), **case.extra()).isfinite().all()
    image = torch.randn(2, 4, 16)  # a sequence of its own, of which nothing is padding
    seen = mask_seen(model, lambda: model(x, attention_mask=mask, image=image, **case.extra()))
    assert seen["one"] is None
    model(x, attention_mask=mask, **case.extra())


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


class Net(nn.Module):
    """A network of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x).relu())


@situation("a custom network without a task type")
def _(case: Case) -> None:
    model, x = case.model(Net(), ["one", "two"]), torch.randn(5, 8)
    assert type(model) is PeftModel
    extra = case.extra(5)
    output = model(x, **extra)
    alone = model(x[:2], **{key: value[:2] for key, value in extra.items()})
    close(output[:2], alone)
    assert case.intuitive or output.balance_loss > 0


class Named(NamedTuple):
    loss: torch.Tensor | None
    logits: torch.Tensor


@dataclass
class Plain:
    loss: torch.Tensor | None
    logits: torch.Tensor


@dataclass(frozen=True)
class Frozen:
    loss: torch.Tensor | None
    logits: torch.Tensor


# what a network returns for a loss and logits, and where its loss and its balance loss are found
OUTPUTS = {
    "dictionary": (lambda loss, y: {"loss": loss, "logits": y}, lambda o: o["loss"], lambda o: o["balance_loss"]),
    "loss alone": (lambda loss, y: {"loss": loss}, lambda o: o["loss"], lambda o: o["balance_loss"]),
    "dataclass": (Plain, lambda o: o.loss, lambda o: o.balance_loss),
    "frozen dataclass": (Frozen, lambda o: o.loss, lambda o: o.logits.balance_loss),
    "named tuple": (Named, lambda o: o.loss, lambda o: o.loss.balance_loss),
    "list": (lambda loss, y: [loss, y], lambda o: o[0], lambda o: o[0].balance_loss),
}


class Returning(Net):
    """A network whose output has a form of its own."""

    form: Any = None

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        y = super().forward(x)
        return self.form(None if labels is None else F.cross_entropy(y, labels), y)


@situation("outputs of other kinds with a loss: dictionaries, dataclasses, named tuples, lists")
def _(case: Case) -> None:
    x, labels, extra = torch.randn(5, 8), torch.tensor([0, 1, 2, 1, 0]), case.extra(5)
    plain = case.model(Net(), ["one", "two"]).train()
    y = plain(x, **extra)
    right = F.cross_entropy(y, labels) + y.balance_loss
    expected = gradients(plain, right)
    model = case.model(Returning(), ["one", "two"]).train()
    for name, (form, loss, balance) in OUTPUTS.items():
        model.get_base_model().form = form
        output = model(x, labels=labels, **extra)
        assert isinstance(output, type(form(right, y))), name
        close(loss(output), right)
        close(balance(output) + 1, y.balance_loss + 1)
        close(gradients(model, loss(output)), expected)


@situation("outputs of other kinds without a loss")
def _(case: Case) -> None:
    x, extra = torch.randn(5, 8), case.extra(5)
    model = case.model(Returning(), ["one"]).train()
    forms = {
        'output["balance_loss"]': (lambda _, y: {"logits": y}, lambda o: (o["logits"], o["balance_loss"])),
        "output.balance_loss": (Plain, lambda o: (o.logits, o.balance_loss)),
        "output[1].balance_loss": (lambda _, y: (y.argmax(-1), y), lambda o: (o[1], o[1].balance_loss)),
        "output[0][1].balance_loss": (lambda _, y: [(None, y)], lambda o: (o[0][1], o[0][1].balance_loss)),
        "output.logits.balance_loss": (Frozen, lambda o: (o.logits, o.logits.balance_loss)),
    }
    for place, (form, parts) in forms.items():
        model.get_base_model().form = form
        adapted_of(model.get_base_model()).warned = False
        logits, balance = parts(model(x, **extra))
        assert bool(balance > 0) == case.balanced
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            (logits.sum() + balance).backward()
            assert not said
            logits, _ = parts(model(x, **extra))
            logits.sum().backward()
        assert not case.balanced or f"; add {place} to the loss" in str(said[0].message)


class Opaque:
    __slots__ = ("logits",)

    def __init__(self, loss: torch.Tensor | None, logits: torch.Tensor) -> None:
        self.logits = logits


@situation("an output that hides its tensors, in training", dict.fromkeys(BALANCED, "the output of this model is a Op"))
def _(case: Case) -> None:
    model = case.model(Returning(), ["one"])
    model.get_base_model().form = Opaque
    with warnings.catch_warnings():
        warnings.simplefilter("error", BalanceLossWarning)
        try:
            assert model(torch.randn(5, 8), **case.extra(5)).logits.shape == (5, 3)
            model.train()(torch.randn(5, 8), **case.extra(5))
        except BalanceLossWarning as warning:
            raise ValueError(str(warning)) from warning


@situation("an empty batch")
def _(case: Case) -> None:
    model = case.model(Net(), ["one", "two"]).train()
    output = model(torch.empty(0, 8), **case.extra(0))
    assert output.shape == (0, 3)
    assert gradients(model, output.sum()).eq(0).all()


UNKNOWN_ROWS = "leave it out of target_modules"


@situation("experts of the model itself that regroup tokens, without padding", {"trex": UNKNOWN_ROWS})
def _(case: Case) -> None:
    model, x = case.model(Regrouping(), ["experts.0", "experts.1", "experts.2"]), torch.randn(2, 6, 16)
    output = model(x, attention_mask=torch.ones(2, 6), **case.extra())
    assert output.isfinite().all() and output.balance_loss > 0


UNKNOWN_TOKENS = "set balance_coef=0, or leave the layer out of target_modules"


@situation(
    "experts of the model itself that regroup padded tokens",
    {
        **dict.fromkeys(BALANCED, UNKNOWN_TOKENS),
        "trex": UNKNOWN_ROWS,
    },
)
def _(case: Case) -> None:
    model, x = case.model(Regrouping(), ["experts.0", "experts.1", "experts.2"]), torch.randn(2, 6, 16)
    model(x, attention_mask=case.batch()["attention_mask"], **case.extra())


class Encoder(nn.Module):
    """A network with torch's own block."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(x))


ALL = (*BALANCED, "trex")


@situation('"all-linear" with torch\'s `TransformerEncoderLayer`, its fast path switched off')
def _(case: Case) -> None:
    model, x = case.model(Encoder(), "all-linear").train(), torch.randn(2, 5, 16)
    assert {name.removeprefix("base_model.model.") for name in layers_of(model)} == {
        "block.linear1",
        "block.linear2",
        "head",
    }
    trained = model(x, **case.extra())
    trained.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        close(model.eval()(x, **case.extra()), trained)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


BYPASSED = "leave it out of target_modules, or, for torch.nn.TransformerEncoderLayer, call torch.backends.mha"


@situation("torch's `TransformerEncoderLayer` on its fast path, in evaluation", dict.fromkeys(ALL, BYPASSED))
def _(case: Case) -> None:
    model, x = case.model(Encoder(), ["linear1"]), torch.randn(2, 5, 16)
    with model.disable_adapter():
        close(model(x), Encoder().eval()(x))
    with torch.no_grad():
        model(x, **case.extra())


@situation(
    "`out_proj` of torch's `MultiheadAttention`",
    dict.fromkeys(ALL, "MultiheadAttention reads its weight instead, so an adapter would do nothing"),
)
def _(case: Case) -> None:
    base = Encoder()
    try:
        case.model(base, ["linear1", "out_proj"])
    finally:
        assert not layers_of(base)


@situation(
    "`dt_proj` and `out_proj` of Mamba", dict.fromkeys(ALL, "because mamba reads its weight instead, so an adapter")
)
def _(case: Case) -> None:
    adapted = {name.rpartition(".")[2] for name in layers_of(case.model(mamba(), "all-linear"))}
    assert adapted == {"in_proj", "x_proj"}
    with pytest.raises(ValueError, match=r"target module backbone\.layers\.0\.mixer\.dt_proj would not be called"):
        case.model(mamba(), ["in_proj", "dt_proj"])
    case.model(mamba(), ["out_proj"])


@situation("accelerate's `cpu_offload`")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch()
    with torch.no_grad():
        right = model(**batch).logits
        offloaded = accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
        close(offloaded(**batch).logits, right)
        close(offloaded(**batch).logits, right)


@situation("a base layer whose forward was replaced")
def _(case: Case) -> None:
    model, batch, calls = case.model(), case.batch(), []
    right = model(**batch).logits
    layers = layers_of(model)
    for layer in layers.values():
        base = layer.base_layer
        original = base.forward
        base.forward = lambda x, original=original: calls.append(1) or original(x)
    close(model(**batch).logits, right)
    assert len(calls) == len(layers)


@situation("a hook on a base layer")
def _(case: Case) -> None:
    model, batch, calls = case.model(), case.batch(), []
    for layer in layers_of(model).values():
        layer.base_layer.register_forward_hook(lambda _, args, out: calls.append(1) or out * 2)
    doubled = model(**batch).logits
    assert len(calls) == len(layers_of(model))
    with model.disable_adapter():
        assert not torch.allclose(doubled, model(**batch).logits)


def router_of(adapter: nn.Module) -> nn.Module:
    """A linear layer that takes part in an adapter's routing."""
    return getattr(adapter, "router", None) or getattr(adapter, "down", None) or adapter.gates[0]


@situation("a router with a hook, and one that is pruned")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch()
    before = model(**batch).logits
    for layer in layers_of(model).values():
        router_of(layer.adapters["default"]).register_forward_hook(lambda _, args, out: out * 0.0)
    hooked = model(**batch).logits
    model = case.model()
    for layer in layers_of(model).values():
        router = router_of(layer.adapters["default"])
        prune.custom_from_mask(router, "weight", torch.zeros_like(router.weight))
        if router.bias is not None:
            prune.custom_from_mask(router, "bias", torch.zeros_like(router.bias))
    close(hooked, model(**batch).logits)
    assert not torch.allclose(hooked, before, atol=1e-5)


@situation("float64, bfloat16 and float16 models")
def _(case: Case) -> None:
    batch, plain = case.batch(), case.model()
    right = plain(**batch)
    weights = {name: p.detach() for name, p in plain.named_parameters() if p.requires_grad}
    for dtype, off in ((torch.float64, 1e-4), (torch.bfloat16, 0.2), (torch.float16, 0.05)):
        model = case.model(llama().to(dtype))
        model.load_state_dict(weights, strict=False)
        close(model(**batch).logits.float(), right.logits, off)
        output = model.train()(**batch)
        assert output.logits.dtype == dtype and output.loss.isfinite()
        assert gradients(model, output.loss).isfinite().all()


@situation("bfloat16 autocast")
def _(case: Case) -> None:
    model, batch = case.model().train(), case.batch()
    right = model(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch)
    close(output.loss, right.loss, 0.05)
    close(output.balance_loss + 1, right.balance_loss + 1, 0.05)
    assert gradients(model, output.loss).isfinite().all()


@situation("DataParallel on a CPU")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch(4)
    right = model(**batch)
    ours = nn.DataParallel(model)(**batch)
    close(ours.logits, right.logits)
    close(ours.loss, right.loss)


@situation("DataParallel's replicas of the model in threads")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch(4)
    right, halves = model(**batch).logits, (slice(0, 2), slice(2, 4))
    outputs: dict[int, torch.Tensor] = {}

    def run(place: int, replica: nn.Module) -> None:
        outputs[place] = replica(**{key: value[halves[place]] for key, value in batch.items()}).logits

    threads = [threading.Thread(target=run, args=(place, replica(model))) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close(torch.cat([outputs[0], outputs[1]]), right)


def replica(module: nn.Module) -> nn.Module:
    """A copy of the modules that shares weights and hooks, as torch's DataParallel makes one for each device."""
    made = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        made._modules[name] = None if child is None else replica(child)
    for name, parameter in module._parameters.items():
        made._parameters[name] = parameter
    return made
