"""Values read from JSON against the types that a dataclass declares, and the other way round."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ..tasks.rows import shorten

LARGEST = int(sys.float_info.max)


def plain(value: Any) -> Any:
    """JSON form of a configuration's value: enums by value, sets sorted."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return value


def wrong_type(values: Mapping[str, Any], hints: Mapping[str, Any], prefix: str = "") -> str | None:
    """What is wrong with the first value that does not fit the hint of its name; None if all do or have no hint."""
    for name, value in values.items():
        if name in hints and not fits(value, hints[name]):
            return f"{prefix}{name} = {shorten(value)} is {type(value).__name__}; it must be {said(hints[name])}"
    return None


def fits(value: Any, hint: Any) -> bool:
    """Whether a value, as JSON or Python gives it, can stand for a type: whole numbers do for reals, truth for none."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin in (list, tuple):  # JSON knows no tuples, and PEFT makes sets of lists
        return isinstance(value, (list, tuple, set)) and all(fits(one, inner[0]) for one in value)
    if origin is dict or is_dataclass(hint):
        return isinstance(value, (dict, origin or hint))
    if hint is int or isinstance(value, int) and hint is float:
        # a whole number beyond all reals can stand for none
        return isinstance(value, int) and not isinstance(value, bool) and (hint is int or abs(value) <= LARGEST)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return isinstance(value, (str, hint))
    return isinstance(value, hint)


def said(hint: Any) -> str:
    """A type as a person writes it: "int or None", "list[str]"."""
    if get_origin(hint) in (Union, UnionType):
        # sorted, as typing may hand out an equal union that was written in another order; None last
        return " or ".join(sorted({said(one) for one in get_args(hint)}, key=lambda text: (text == "None", text)))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if hint is NoneType:
        return "None"
    return str(hint) if get_args(hint) else getattr(hint, "__name__", str(hint))


def as_hinted(values: dict[str, Any], owner: type) -> dict[str, Any]:
    """The values with every whole number a real where its field of `owner` holds reals, as 1 and 1.0 are equal."""
    hints = get_type_hints(owner)
    return {
        name: float(value) if type(value) is int and only_real(hints.get(name)) else value
        for name, value in values.items()
    }


def only_real(hint: Any) -> bool:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return float in kinds and int not in kinds
