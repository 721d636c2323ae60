"""The balance losses of a forward pass: where a user finds them, and how much they weigh."""

from __future__ import annotations

import dataclasses
import functools
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .call import Call
from .outputs import floating, loss_of, put_balance_loss, tensors_in, with_loss

FORGOTTEN = (
    "a loss was computed from the output of this {model} without its balance loss, so no gradient balances the "
    "routers; add {place} to the loss, or set balance_coef=0"
)
NO_PLACE = (
    "the output of this model is a {kind} without a tensor, so its balance loss is lost and no gradient balances the "
    "routers; return a tensor, a tuple or a dictionary, or set balance_coef=0"
)


class BalanceLossWarning(UserWarning):
    """A balance loss that took no part in a backward pass."""


class Weight(threading.local):
    """The weight of the balance loss in `output.loss`, where a trainer knows it; None: see `share_of`."""

    value: float | None = None


WEIGHT = Weight()


@contextmanager
def weighing(value: float) -> Iterator[None]:
    """Let the balance loss of the passes inside weigh `value`: 1 / n for one of n accumulated batches."""
    before, WEIGHT.value = WEIGHT.value, value
    try:
        yield
    finally:
        WEIGHT.value = before


def hand_over(call: Call, output: Any, module: nn.Module, inputs: dict[str, Any], labeled: bool, reader: Any) -> Any:
    """A model's output with its balance loss.

    Args:
        call: The pass, with the losses of its layers.
        output: What the model returned.
        module: The model.
        inputs: The keyword arguments of the pass.
        labeled: Whether labels were given, so that a tuple that begins with a scalar begins with the loss.
        reader: Remembers in `warned` that the user was warned.

    Returns:
        An output with `balance_loss`, the plain sum over the layers (0 if no gate has one), whose `loss`, where
        there is one, contains it. In training a dictionary has it as `output["balance_loss"]`, and a tuple or a list
        as an attribute of its first floating tensor, as an output that is a tensor has it.

    The sum, and no mean, is S'MoRE's own rule: its authors' code starts at zero and adds the loss of every projection of
    a block and then of every block, undivided, to the task's loss. MixLoRA's authors pool the router logits of all
    layers and compute one loss from them, which does not grow with the layers. We sum for every system, so that one
    coefficient means the same for all. Sources: `model_moe/src/model_moe/modeling_llama_moe.py` of ZimpleX/SMoRE-LLM,
    `moe_peft/adapters/mixlora/model.py` of TUDB-Labs/MoE-PEFT.
    """
    asked = module.training and not torch.compiler.is_compiling()
    loss, first = loss_of(output, labeled or isinstance(module, PreTrainedModel)), floating(output, asked)
    near = loss if first is None else first[1]
    if near is None or not near.is_floating_point():
        if asked and call.balance_losses and not isinstance(output, (Tensor, tuple, list, dict)):
            warnings.warn(NO_PLACE.format(kind=type(output).__name__), BalanceLossWarning, stacklevel=2)
        return output
    losses = [one.to(near.device) for one in call.balance_losses]
    balance = call.pull.watched(torch.stack(losses).sum()) if losses else near.new_zeros(())
    if losses and loss is not None:
        share = WEIGHT.value if WEIGHT.value is not None else share_of(module, inputs)
        output = with_loss(output, loss + (balance * share).to(loss.dtype))
        first = floating(output, asked)  # the loss itself in a tuple
    place: str | None = "output.balance_loss"
    if isinstance(output, ModelOutput):
        if asked:
            output = with_balance_loss(output, balance)
        else:
            output.balance_loss = balance
    else:
        place = put_balance_loss(output, balance, asked, first)
    if loss is None and asked and near.requires_grad and balance.requires_grad:
        warn_where_forgotten(near, balance, reader, FORGOTTEN.format(model=type(module).__name__, place=place))
    return output


def share_of(module: nn.Module, inputs: dict[str, Any]) -> Any:
    """The weight of one batch among those that are accumulated: its labels over `num_items_in_batch`.

    A model's loss that is normalized over the accumulated batch is the sum of such shares; without that number, the
    loss is the mean over the batch itself, and the share is 1.
    """
    items, labels = inputs.get("num_items_in_batch"), inputs.get("labels")
    if items is None or not isinstance(labels, Tensor):
        return 1.0
    if "shift_labels" in inputs:
        labels = inputs["shift_labels"]
    elif shifts_labels(module):
        labels = labels[..., 1:]
    items = torch.as_tensor(items, device=labels.device).reshape(-1)[0]
    return labels.ne(-100).sum() / items.clamp_min(1)


def shifts_labels(module: nn.Module) -> bool:
    """Whether the model's loss compares a position with the label after it, as transformers' Trainer counts them."""
    from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

    causal = LOSS_MAPPING.get(getattr(module, "loss_type", None)) is ForCausalLMLoss
    return causal and not getattr(getattr(module, "config", None), "is_encoder_decoder", False)


@functools.cache
def balanced_class(kind: type[ModelOutput]) -> type[ModelOutput]:
    """A model's class of outputs with one field more, which every copy of an output keeps (autocast, DDP)."""
    field = ("balance_loss", Tensor | None, dataclasses.field(default=None))
    made = dataclasses.make_dataclass(kind.__name__, [field], bases=(kind,), namespace={"__module__": kind.__module__})
    made.__reduce__ = lambda output: (restored, (kind, {name: getattr(output, name) for name in field_names(made)}))
    return made


def field_names(kind: type[ModelOutput]) -> list[str]:
    return [entry.name for entry in dataclasses.fields(kind)]


def restored(kind: type[ModelOutput], values: dict[str, Any]) -> ModelOutput:
    """An output with a balance loss, from a pickle."""
    return balanced_class(kind)(**values)


def with_balance_loss(output: ModelOutput, balance: Tensor) -> ModelOutput:
    values = {name: getattr(output, name) for name in field_names(type(output))}
    return balanced_class(type(output))(**values, balance_loss=balance)


def warn_where_forgotten(place: Tensor, balance: Tensor, reader: Any, said: str) -> None:
    """Warn with these words, once per model, when a backward pass reaches the output and not the balance loss."""
    if reader.warned:
        return
    reached: list[bool] = []

    def look() -> None:
        if not reached and not reader.warned:
            reader.warned = True
            warnings.warn(said, BalanceLossWarning, stacklevel=2)

    balance.register_hook(lambda _: reached.append(True))
    place.register_hook(lambda _: torch.autograd.Variable._execution_engine.queue_callback(look))


def teach_trainer() -> None:
    """Make transformers' Trainer, once it is imported, weight balance losses correctly; see `balanced`."""
    trainer = sys.modules.get("transformers.trainer")
    kind = getattr(trainer, "Trainer", None)
    if kind is not None and not hasattr(kind.compute_loss, "weighs_balance_losses"):
        kind.compute_loss = balanced(kind.compute_loss)


def balanced(compute_loss: Any) -> Any:
    """Trainer's `compute_loss` in which a balance loss counts once per sample.

    Trainer divides its loss by the number of accumulated batches, or hands that number's counterpart to the model, or
    leaves both to the user's own loss function (`compute_loss_func`, label smoothing), which knows nothing of a
    balance loss. Here the balance loss of each batch weighs 1 / batches in every one of these cases. A function that
    adds `outputs.balance_loss` by itself is not changed.
    """

    @functools.wraps(compute_loss)
    def compute(
        self: Any,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        own_loss = (self.label_smoother or self.compute_loss_func) is not None and "labels" in inputs
        counted = num_items_in_batch is not None and self.model_accepts_loss_kwargs
        scaled = self.loss_is_scaled_for_ga
        if scaled is None:
            scaled = counted or self.compute_loss_func is not None
        batches = getattr(self, "current_gradient_accumulation_steps", 1) if model.training else 1
        weight = 1.0 / batches if scaled else 1.0  # else Trainer divides by the batches
        whole = WEIGHT.value if WEIGHT.value is not None else weight
        if not own_loss and counted and self.args.average_tokens_across_devices and WEIGHT.value is None:
            whole = weight / (self.accelerator.num_processes if self.args.n_gpu <= 1 else self.args.n_gpu)
        with weighing(whole):
            loss, outputs = compute_loss(self, model, inputs, True, num_items_in_batch)
        balance = getattr(outputs, "balance_loss", None)
        if isinstance(outputs, dict) and balance is None:
            balance = outputs.get("balance_loss")
        judged = loss.requires_grad or self.compute_loss_func is None  # without a graph a function's loss is its own
        if own_loss and judged and isinstance(balance, Tensor) and not includes(loss, balance, outputs):
            loss = loss + weight * balance.to(loss.device, loss.dtype)
        return (loss, outputs) if return_outputs else loss

    compute.weighs_balance_losses = True
    return compute


def includes(loss: Tensor, balance: Tensor, outputs: Any) -> bool:
    """Whether a loss was computed from a balance loss, as its graph tells; the model's own graph is not searched."""
    if not balance.requires_grad:
        return False
    ends = {value.grad_fn for _, value in tensors_in(outputs) if value is not balance}
    seen, open_nodes = set(), [loss.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen or node in ends:
            continue
        if node is balance.grad_fn:
            return True
        seen.add(node)
        open_nodes += [below for below, _ in node.next_functions]
    return False
