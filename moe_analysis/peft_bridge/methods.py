"""Every registered adapter as a PEFT method: `peft.get_peft_model(model, TRexConfig(...))` on any Hugging Face model.

For each name in the registry this file takes the configuration of `configs` (or makes one for a user's own
adapter: its fields plus PEFT's), makes a layer that wraps a linear layer, and a tuner, and registers them with PEFT.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig, PeftType
from peft.utils import register_peft_method

from ..adapters import REGISTRY, Adapter, own
from .configs import WRITTEN, PeftHalf, stored_type
from .layer import AdapterLayer
from .reader import IntuitionHalf
from .tuner import AdapterTuner


def peft_type(text: str) -> PeftType:
    """A value for PEFT's enum of methods that is not a member yet."""
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

    Raises:
        ValueError: For the name of a method that PEFT has.
    """
    label = adapter.__name__
    if name.upper() in PeftType.__members__:
        raise ValueError(f"adapter name {name!r} is the name of a PEFT method; choose another")
    config = WRITTEN.get(name) or made_config(name, adapter)
    here = {"__module__": __name__}
    layer = type(f"{label}Layer", (AdapterLayer,), {"adapter_layer_names": (f"{name}_adapter",), **here})
    made = {"prefix": f"{name}_", "tuner_layer_cls": layer, "layer_class": layer, **here}
    tuner = type(f"{label}Model", (AdapterTuner,), made)
    globals().update({one.__name__: one for one in (config, layer, tuner)})  # importable and picklable by name
    extend_peft_types(name)
    register_peft_method(name=name, config_cls=config, model_cls=tuner)
    PEFT_TYPE_TO_CONFIG_MAPPING[peft_type(stored_type(name))] = config
    return config


def made_config(name: str, adapter: type[Adapter]) -> type[PeftHalf]:
    """The PEFT configuration of a user's own adapter, like those in `configs` for ours."""
    names = {"system": name, "__doc__": adapter.config_class.__doc__, "__module__": __name__}
    halves = (PeftHalf, IntuitionHalf) if hasattr(adapter.config_class, "intuition") else (PeftHalf,)
    return dataclass(type(f"{adapter.__name__}Config", (*halves, adapter.config_class), names))


CONFIGS = {name: bridge(name, adapter) for name, adapter in REGISTRY.items()}


def use_adapter(file: str | Path) -> type[PeftConfig]:
    """Register the adapter that a Python file defines, here and in every process started from here.

    Args:
        file: Defines a subclass of `Adapter` under `@register(name)`; its path is added to `MOE_ANALYSIS_ADAPTERS`.

    Returns:
        Its PEFT configuration.

    Raises:
        ValueError: For a file that is missing, was changed since it was imported, registers no adapter, or several.

    Example:
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
