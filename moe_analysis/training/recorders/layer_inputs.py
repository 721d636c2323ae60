"""What one adapted layer of a trained model sees on a batch: its inputs and the loss gradient at its output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ...adapters import Adapter
from ...peft_bridge import adapter_modules
from ...tasks.batches import collate, encode


@dataclass(frozen=True)
class LayerBatch:
    """One adapted layer on the real tokens of a batch, float64 on the CPU.

    adapter: the trained module itself. inputs: (tokens, in). gradient: ∂L/∂y at the layer's output (tokens, out), of
    the model's mean loss over answer tokens, in nats. gates: (tokens, experts), T-REX's flattened i-major.
    """

    adapter: Adapter
    inputs: Tensor
    gradient: Tensor
    gates: Tensor


def layer_batches(
    model: nn.Module,
    tokenizer: Any,
    frame: pd.DataFrame,
    modules: Sequence[str] | None = None,
    intuition: np.ndarray | None = None,
    max_length: int = 256,
    prompt_form: str = "options",
) -> dict[str, LayerBatch]:
    """{module: LayerBatch} of the named adapted layers (None: all), from one forward and backward of the whole frame.

    Dropout is off, and the model is left as it was: no parameter gets a gradient, so a model loaded for inference
    serves too. intuition: (rows, clusters) for models that route by it. prompt_form: as the model was trained. Raises
    ValueError for a model without adapters and for a module that is not adapted.

    >>> found = layer_batches(model, tokenizer, test)
    >>> batch = found[list(found)[-1]]
    >>> len(found), batch.inputs.shape == batch.gradient.shape
    (4, True)
    """
    adapters = adapter_modules(model)
    if unknown := [name for name in modules or [] if name not in adapters]:
        raise ValueError(f"modules {unknown} are not adapted; choose from {', '.join(adapters) or 'none at all'}")
    adapters = {name: adapters[name] for name in (adapters if modules is None else modules)}
    if not adapters:
        raise ValueError(f"{type(model).__name__} has no routed adapter to look at; wrap it with MoeLoraConfig, say")
    examples = encode(frame, tokenizer, max_length, cut_answers=True, prompt_form=prompt_form)
    device = next(model.parameters()).device
    batch = {key: value.to(device) for key, value in collate(examples, tokenizer.pad_token_id, intuition).items()}
    seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    handles = [adapter.register_forward_hook(watch(seen, name)) for name, adapter in adapters.items()]
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            loss = model(**batch).loss
            gradients = torch.autograd.grad(loss, [seen[name][2] for name in adapters])
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    mask = batch["attention_mask"].reshape(-1).bool()
    found = {}
    for (name, adapter), gradient in zip(adapters.items(), gradients):
        inputs, gates, _ = seen[name]
        found[name] = LayerBatch(adapter, *(real_tokens(values, mask) for values in (inputs, gradient, gates)))
    return found


def watch(seen: dict[str, tuple[Tensor, Tensor, Tensor]], name: str) -> Any:
    """A forward hook that keeps inputs and gates and adds zeros to the output, at which the gradient is taken."""

    def hook(adapter: Adapter, inputs: Any, output: Any) -> Any:
        delta, routing = output
        probe = torch.zeros_like(delta, requires_grad=True)  # a leaf, so that frozen parameters do not matter
        seen[name] = (inputs[0].detach(), routing.gates.detach(), probe)
        return delta + probe, routing

    return hook


def real_tokens(values: Tensor, mask: Tensor) -> Tensor:
    """values (batch, sequence, …), mask (batch · sequence,) -> (tokens, …) of the real tokens, float64 on the CPU."""
    return values.reshape(len(mask), -1)[mask].double().cpu()
