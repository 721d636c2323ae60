"""Every registered adapter as a PEFT method: `peft.get_peft_model(model, TRexConfig(...))` on any Hugging Face model.

For each name in the registry this file makes a configuration (the adapter's own fields plus PEFT's), a layer that
wraps a linear layer, and a tuner, and registers them with PEFT.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, PeftType
from peft.utils import CONFIG_NAME, register_peft_method

from ..adapters import REGISTRY, Adapter, own
from ..base_name import local_name
from ..model_card import hide_base_path, write_card
from .layer import AdapterLayer
from .prompts import IntuitionHalf
from .tuner import LAYOUT, AdapterTuner


@dataclass
class PeftHalf(PeftConfig):
    """PEFT's own fields, with PEFT's meaning.

    layout: of the keys in a checkpoint; filled in, as peft_version is. None: written by version 0.1.
    """

    exclude_modules: list[str] | str | None = field(default=None)
    layers_to_transform: list[int] | int | None = field(default=None)
    layers_pattern: list[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)
    layout: int | None = field(default=None)

    def __post_init__(self) -> None:
        if self.layout is None and self.peft_version is None:
            self.layout = LAYOUT
        super().__post_init__()
        self.peft_type = PeftType(self.system.upper())
        # read from a checkpoint it is a public name, which PEFT would ask the hub for whenever the adapter is saved
        self.base_model_name_or_path = local_name(self.base_model_name_or_path)
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), (list, tuple)):
                setattr(self, name, set(value))
        self.check()

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Write adapter_config.json, the base model by its public name, and a model card that says what this is."""
        super().save_pretrained(save_directory, **kwargs)
        path = Path(save_directory) / CONFIG_NAME
        values = json.loads(path.read_text("utf-8")) | {"peft_type": stored_type(self.system)}
        write_whole(path, json.dumps(values, indent=2, sort_keys=True))
        hide_base_path(save_directory)
        write_card(save_directory, self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, sets as sorted lists, so that equal configurations read equal on disk."""
        return {key: sorted(value) if isinstance(value, set) else value for key, value in super().to_dict().items()}


def stored_type(name: str) -> str:
    """The type as a checkpoint has it: without our import PEFT and transformers fail, with this as their message."""
    return f"{name.upper()} (import moe_analysis before PEFT or transformers loads it)"


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees the old or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)


def peft_type(text: str) -> PeftType:
    """A value of PEFT's enum of methods, which is no member yet."""
    value = str.__new__(PeftType, text)
    value._name_ = value._value_ = text
    return value


def extend_peft_types(name: str) -> None:
    """Add a member to PEFT's enum of methods, which has no hook for methods of others."""
    member = peft_type(name.upper())
    PeftType._member_map_[name.upper()] = member
    PeftType._value2member_map_[name.upper()] = member
    PeftType._member_names_.append(name.upper())
    type.__setattr__(PeftType, name.upper(), member)


def bridge(name: str, adapter: type[Adapter]) -> type[PeftConfig]:
    """Make and register the PEFT config, layer and tuner of one adapter; returns the config class.

    Raises ValueError for the name of a method that PEFT has."""
    label = adapter.__name__
    if name.upper() in PeftType.__members__:
        raise ValueError(f"adapter name {name!r} is that of a method of PEFT's; choose another")
    names = {"system": name, "__doc__": adapter.config_class.__doc__, "__module__": __name__}
    halves = (PeftHalf, IntuitionHalf) if hasattr(adapter.config_class, "intuition") else (PeftHalf,)
    config = dataclass(type(f"{label}Config", (*halves, adapter.config_class), names))
    here = {"__module__": __name__}
    layer = type(f"{label}Layer", (AdapterLayer,), {"adapter_layer_names": (f"{name}_adapter",), **here})
    made = {"prefix": f"{name}_", "tuner_layer_cls": layer, "layer_class": layer, **here}
    tuner = type(f"{label}Model", (AdapterTuner,), made)
    globals().update({one.__name__: one for one in (config, layer, tuner)})  # importable and picklable by name
    extend_peft_types(name)
    register_peft_method(name=name, config_cls=config, model_cls=tuner)
    PEFT_TYPE_TO_CONFIG_MAPPING[peft_type(stored_type(name))] = config
    return config


CONFIGS = {name: bridge(name, adapter) for name, adapter in REGISTRY.items()}


def use_adapter(file: str | Path) -> type[PeftConfig]:
    """Register the adapter that a Python file defines, here and in every process started from here.

    file: defines a subclass of `Adapter` under `@register(name)`; `MOE_ANALYSIS_ADAPTERS` is made to name it too.
    Returns its PEFT configuration. Raises ValueError for a file that is missing, was changed since it was imported,
    registers no adapter, or several.

    >>> ma.use_adapter("no_such_file.py")
    Traceback (most recent call last):
        ...
    ValueError: adapter file ...no_such_file.py does not exist; pass the Python file that defines the adapter
    """
    module = own.load_file(Path(file))
    found = [name for name, adapter in REGISTRY.items() if adapter.__module__ == module.__name__]
    if len(found) != 1:
        raise ValueError(
            f"adapter file {file} registers {len(found)} adapters ({', '.join(found) or 'none'}); write "
            "one class in it, under @register(name)"
        )
    CONFIGS.update({name: bridge(name, REGISTRY[name]) for name in found if name not in CONFIGS})
    own.remember(Path(file))
    return CONFIGS[found[0]]
