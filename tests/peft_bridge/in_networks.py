"""Situations of networks of a user's own, their outputs, and torch's own blocks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F

from moe_analysis.peft_bridge import BalanceLossWarning
from moe_analysis.peft_bridge.hooks import adapted_of

from .contract import BALANCED, situation
from .systems import Case, Regrouping, close, gradients, layers_of, mask_seen


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
