"""Replaces an adapter's weights by those of another, without changing a module."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.save_and_load import load_peft_weights
from torch import nn

from ..adapters import REGISTRY
from .prompts import IntuitionHalf
from .tuner import PREFIX

FREE = {"target_modules", "dropout"}  # the weights' names and shapes show the first; the second changes no weight


def hotswap_adapter(model: nn.Module, folder: str | Path, adapter_name: str = "default") -> None:
    """Write the weights of a saved adapter into an adapter that the model has, in place.

    PEFT's own `hotswap_adapter` supports only LoRA. Only values change, so a compiled model is not compiled again.

    Args:
        model: A PEFT model, a model with injected adapters, or what `torch.compile` made of one.
        folder: Where the other adapter was saved, or its id on the hub.
        adapter_name: The adapter to overwrite.

    Raises:
        ValueError: If the two do not have the same system, the same sizes and the same layers; nothing is written.

    Example:
        >>> model.save_pretrained(folder)
        >>> ma.hotswap_adapter(model, folder)
        >>> ma.hotswap_adapter(model, folder, "german")
        Traceback (most recent call last):
            ...
        ValueError: adapter_name = 'german' is not in the model; it has ['default']
    """
    model = getattr(model, "_orig_mod", model)
    if adapter_name not in getattr(model, "peft_config", {}):
        raise ValueError(
            f"adapter_name = {adapter_name!r} is not in the model; it has {sorted(getattr(model, 'peft_config', {}))}"
        )
    ours, theirs = model.peft_config[adapter_name], PeftConfig.from_pretrained(str(folder))
    if type(ours) is not type(theirs):
        raise ValueError(
            f"{folder} holds a {type(theirs).__name__}, but the adapter {adapter_name!r} is a "
            f"{type(ours).__name__}; load it as a second adapter, with load_adapter"
        )
    halves = [REGISTRY[ours.system].config_class, *([IntuitionHalf] if isinstance(ours, IntuitionHalf) else [])]
    names = [entry.name for half in halves for entry in fields(half) if entry.name not in FREE]
    differ = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
    if differ:
        what = ", ".join(f"{name} = {getattr(theirs, name)!r}, not {getattr(ours, name)!r}" for name in differ)
        raise ValueError(f"{folder} has {what}; load it as a second adapter, with load_adapter")
    tuner: Any = PEFT_TYPE_TO_TUNER_MAPPING[ours.peft_type]
    weights = tuner.renamed_from_old_layout(model, adapter_name, load_peft_weights(str(folder), device="cpu"))
    held = get_peft_model_state_dict(model, adapter_name=adapter_name)
    # PEFT saves a head's own weight too, if it is told to save embeddings
    here, there = ({key.removeprefix(PREFIX) for key in keys if ".base_layer." not in key} for keys in (held, weights))
    if here != there:
        some = sorted(here ^ there)[:3]
        raise ValueError(
            f"{folder} adapts other layers than {adapter_name!r} ({', '.join(some)}, …); load it as a second adapter, "
            "with load_adapter"
        )
    set_peft_model_state_dict(model, weights, adapter_name)
