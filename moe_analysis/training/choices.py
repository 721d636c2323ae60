"""What was chosen for a run: the fields of its configuration that are not at their defaults."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

from .config import TrainConfig
from .run_folder import flat

TYPE = "adapter.peft_type"


@dataclass(frozen=True)
class Choice:
    """A field by its dotted name, the run's value, and the default; `MISSING` where nobody here knows one."""

    field: str
    value: Any
    default: Any = MISSING


def choices(config: TrainConfig) -> list[Choice]:
    """Fields that differ from the defaults of TrainConfig and of the adapter's own class; the adapter's type always.

    Example:
        >>> config = ma.TrainConfig(adapter=ma.TRexConfig(num_up=4), lr=0.1)
        >>> [(one.field, one.value, one.default) for one in choices(config)]
        [('lr', 0.1, 0.005), ('adapter.num_up', 4, 8), ('adapter.peft_type', 'TREX', 'LORA')]
    """
    usual = flat(TrainConfig().to_dict())
    known = {name: value for name, value in usual.items() if not name.startswith("adapter.")}
    known |= adapter_defaults(config.adapter) | {TYPE: usual[TYPE], "adapter.task_type": usual["adapter.task_type"]}
    found = []
    for name, value in flat(config.to_dict()).items():
        default = known.get(name, MISSING)
        unset = value is None and default is MISSING
        if name == TYPE or not (unset or same(value, default)):
            found.append(Choice(name, value, default))
    return found


def same(value: Any, default: Any) -> bool:
    """Whether a value is the default; JSON has lists where a configuration has sets, in an order of their own."""
    if isinstance(default, set | frozenset | tuple) and isinstance(value, list):
        return sorted(map(str, value)) == sorted(map(str, default))
    return value == default


def adapter_defaults(adapter: Any) -> dict[str, Any]:
    """{"adapter.r": 8, …}: the fields of a PEFT configuration as they are when nobody sets them."""
    values: dict[str, Any] = {}
    for entry in fields(adapter):
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        values |= flat({entry.name: default}, "adapter.")
    return values
