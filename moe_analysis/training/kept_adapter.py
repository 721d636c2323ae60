"""The configuration of an adapter whose class is not here: read, compared and written, but no module is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from peft import PeftConfig


@dataclass
class KeptAdapter(PeftConfig):
    """Every value that a run's config.json gives its adapter, as attributes; no code of the adapter's is needed.

    values: the mapping as it was read. why: what keeps the class from being used, for messages.

    >>> kept = KeptAdapter(values={"peft_type": "GATEDLORA", "r": 4}, why="'gatedlora' is not registered here")
    >>> kept.peft_type, kept.r, hasattr(kept, "num_experts")
    ('GATEDLORA', 4, False)
    """

    values: dict[str, Any] = field(default_factory=dict)
    why: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in {entry.name for entry in fields(PeftConfig)} & self.values.keys():
            setattr(self, name, self.values[name])
        self.peft_type = self.values["peft_type"].upper()

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})  # not there yet while a copy is made
        if name in values:
            return values[name]
        raise AttributeError(f"{values.get('peft_type', 'an adapter')} has no field {name!r} in the run's config.json")

    def to_dict(self) -> dict[str, Any]:
        return dict(self.values)
