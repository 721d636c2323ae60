"""Each row of a batch with its own adapter, as PEFT's `adapter_names` says it."""

from __future__ import annotations

from typing import Any

import torch
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from .call import Call, current
from .layer import NOBODY, AdapterLayer


def adapter_of_rows(call: Call, given: Any, session: Call | None, layers: list[AdapterLayer], training: bool) -> Any:
    """The adapter of each row of the batch.

    Args:
        call: The pass.
        given: One name for each sample, from the user; None: see the session.
        session: What the pass is a step of, if anything: PEFT's `adapter_names`, or `generate`, whose beams repeat it.
        layers: The adapted layers of the model.
        training: Whether the model is in training mode.

    Raises:
        ValueError: In training, for a name that no layer has, or if there is not one name for each sample.
    """
    names = given if given is not None else session.adapter_names if session is not None else None
    if names is None:
        return None
    if training:
        raise ValueError(
            "adapter_names gives each row its own adapter, which works in evaluation mode only; call "
            "model.eval(), or train one adapter after another with set_adapter"
        )
    known = {name for layer in layers for name in layer.adapters}
    if unknown := sorted(set(names) - {*known, NOBODY}):
        raise ValueError(
            f"adapter_names {unknown} are not in the model; it has {sorted(known)} and {NOBODY!r} for none"
        )
    if call.samples in (None, len(names)):
        return list(names)
    if session is not None and session.generating and call.samples % len(names) == 0:  # beams are next to each other
        return [name for name in names for _ in range(call.samples // len(names))]
    raise ValueError(
        f"adapter_names has {len(names)} names but the batch has {call.samples} samples; pass one name per sample"
    )


@torch.compiler.disable
def give_rows_their_modules(model: nn.Module) -> None:
    """Let the modules that each adapter has a copy of (`modules_to_save`) read `adapter_names` too; once is enough.

    They are hooked at the first pass with names: PEFT puts them into the model after it injected the adapters.
    """
    for module in model.modules():
        if isinstance(module, AuxiliaryTrainingWrapper) and own_rows not in module._forward_hooks.values():
            module.register_forward_hook(own_rows, with_kwargs=True)


def own_rows(wrapper: AuxiliaryTrainingWrapper, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
    """The output of such a module, each row from the copy of its own adapter; those without a copy have the original.

    Raises:
        ValueError: If the rows cannot be told apart.
    """
    call = current()
    if call is None or call.adapter_names is None or wrapper.disable_adapters:
        return None
    names = [name if name in wrapper._adapters else NOBODY for name in call.adapter_names]
    tensors = [value for value in (*args, *kwargs.values(), output) if isinstance(value, Tensor)]
    if len(args) != 1 or len(tensors) != 2 or any(len(value) != len(names) for value in tensors):
        raise ValueError(
            f"adapter_names gives each of {len(names)} rows its own adapter, but adapters have copies of a "
            f"{type(wrapper.original_module).__name__} (modules_to_save), which does not turn one tensor with a row "
            "per sample into another; run one batch per adapter, with set_adapter"
        )
    x, result = args[0], torch.empty_like(output)
    for name in dict.fromkeys(names):
        rows = torch.tensor([place for place, one in enumerate(names) if one == name], device=output.device)
        part = x[rows.to(x.device)]
        if name == NOBODY:
            result[rows] = wrapper.original_module(part, **kwargs)
        else:
            result[rows] = wrapper._forward_wrapped_mixed_batch(part, name, **kwargs)
    return result
