"""What the settings of the Riemannian optimizers may be, and those that all groups share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..adapters.field_types import fits

UPDATES = ("simultaneous", "sequential")


def check_number(name: str, value: Any) -> None:
    """Raise ValueError for a value that is no finite number, such as a text from a file."""
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value  # lr may be a tensor
    if not fits(number, float):
        raise ValueError(f"{name} = {value!r} must be a finite number")


def check_setting(name: str, value: Any) -> None:
    """Raise ValueError for a value of a setting of all groups that makes no optimizer."""
    if name == "damping":
        check_number(name, value)
        if not value > 0:
            raise ValueError(
                f"damping = {value} must be positive, because B = 0 at the start has a singular Gram matrix"
            )
    elif name == "update":
        if value not in UPDATES:
            raise ValueError(f"update = {value!r} is unknown; choose one of {', '.join(UPDATES)}")
    elif not fits(value, bool):
        raise ValueError(f"{name} = {value!r} must be True or False")


def shared(name: str) -> Any:
    """A setting that all groups share; they keep it, as torch's optimizers do, so that a checkpoint restores it."""

    def read(self: Any) -> Any:
        values = [group[name] for group in self.param_groups]
        if any(value != values[0] for value in values):
            raise ValueError(
                f"{name} = {values} differs between groups; set optimizer.{name}, which is for all of them"
            )
        return values[0]

    def write(self: Any, value: Any) -> None:
        check_setting(name, value)
        for group in self.param_groups:
            group[name] = value

    return property(read, write)
