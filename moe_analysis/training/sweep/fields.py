"""Fields of a `TrainConfig` by name, dotted where one lies inside another, with values checked as they are set."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from peft import PEFT_TYPE_TO_CONFIG_MAPPING

from ..config import NOT_PART_OF_A_RUN, TrainConfig, default_adapter, plain

HINTS = get_type_hints(TrainConfig)
NESTED = ("adapter", "optimizer_options")


def check_name(name: Any) -> None:
    """Raise ValueError unless a TrainConfig can have a field of this name; an adapter's fields depend on its type."""
    top, dot, rest = str(name).partition(".")
    if top not in HINTS:
        raise ValueError(f"{name} is no field of a TrainConfig; it has {', '.join(HINTS)}, and adapter.<field>")
    if dot and (top not in NESTED or not rest):
        raise ValueError(f"{name} names a field inside {top}, which only {' and '.join(NESTED)} have")


def build(layers: Iterable[dict[str, Any]]) -> TrainConfig:
    """A TrainConfig of its defaults and of layers of changes, the later ones over the earlier ones.

    In a layer, whole values are set before dotted names change a part of them. Raises ValueError naming a field that
    does not exist or a value of a wrong type. A LORA adapter is one of a causal language model, as ours are.
    """
    values: dict[str, Any] = {}
    for layer in layers:
        for name, value in sorted(layer.items(), key=lambda item: "." in item[0]):
            top, dot, rest = name.partition(".")
            if dot:
                start = adapter_values(default_adapter()) if top == "adapter" else {}
                set_inside(values.setdefault(top, start), rest, value, name)
            else:
                values[top] = copy.deepcopy(value)
    typed = {name: checked(name, value) for name, value in values.items() if name != "adapter"}
    if "adapter" in values:
        typed["adapter"] = checked_adapter(values["adapter"])
    return TrainConfig.from_dict(typed)


def adapter_values(adapter: Any) -> dict[str, Any]:
    """What a default adapter sets, as a grid file would write it."""
    names = [entry.name for entry in fields(adapter) if entry.name not in NOT_PART_OF_A_RUN]
    return {name: plain(getattr(adapter, name)) for name in names}


def set_inside(values: Any, path: str, value: Any, name: str) -> None:
    """Set `values["a"]["b"] = value` for the path "a.b"."""
    *parents, last = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {}) if isinstance(values, dict) else values
    if not isinstance(values, dict):
        raise ValueError(f"{name} lies inside {values!r}, which is no mapping; set the whole value instead")
    values[last] = copy.deepcopy(value)


def checked(name: str, value: Any) -> Any:
    """The value as its field wants it; a whole number becomes a float, so that 1 and 1.0 are the same run."""
    for kind in kinds_of(HINTS[name]):
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is (get_origin(kind) or kind):
            return value
    wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds_of(HINTS[name]))
    raise ValueError(f"{name} = {value!r} is {type(value).__name__}; it must be {wanted}")


def kinds_of(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def checked_adapter(values: Any) -> dict[str, Any]:
    """The adapter's mapping; PEFT would leave out unknown fields with no more than a warning."""
    if not isinstance(values, dict):
        raise ValueError(f"adapter = {values!r} is no mapping; write one with a peft_type and its fields")
    types = {kind.value: config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    kind = str(values.get("peft_type") or "").upper()
    if kind not in types:
        raise ValueError(
            f"adapter.peft_type = {values.get('peft_type')!r} is unknown; use one of {', '.join(sorted(types))}"
        )
    known = [entry.name for entry in fields(types[kind]) if entry.init and entry.name not in NOT_PART_OF_A_RUN]
    if unknown := sorted(set(values) - {*known, "peft_type"}):
        raise ValueError(f"adapter.{unknown[0]} is no field of {kind}; it has {', '.join(known)}")
    reals = {entry.name for entry in fields(types[kind]) if isinstance(entry.default, float)}
    adapter = {name: float(value) if name in reals and type(value) is int else value for name, value in values.items()}
    adapter = {"task_type": "CAUSAL_LM", **adapter, "peft_type": kind}
    try:
        types[kind](**{name: value for name, value in adapter.items() if name != "peft_type"})
    except TypeError as error:
        raise ValueError(f"adapter = {values!r} cannot be made: {error}; check the types of its values") from error
    return adapter
