"""What the fields of a configuration may hold, read from their annotations.

A number may also be one of numpy's. Truth is no number, and a number is no truth: r=True would be one rank.
"""

from __future__ import annotations

import inspect
import math
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np

WORDS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a finite number", "finite numbers"),
    bool: ("True or False", "True or False"),
    str: ("a text", "texts"),
    NoneType: ("None", "None"),
}


@cache
def annotations_of(kind: type, base: type) -> dict[str, Any]:
    """The types of the fields that a class and its parents up to `base` define; none where a name is not known."""
    found: dict[str, Any] = {}
    for owner in reversed(kind.__mro__):
        if issubclass(owner, base):
            try:
                found |= inspect.get_annotations(owner, eval_str=True)
            except NameError:  # of a class that a function defines: its own names are gone
                continue
    return found


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type; of a type that `WORDS` does not have, every value is.

    >>> fits(4, int), fits("4", int), fits(True, int), fits(float("nan"), float), fits([4, None], list[int | None])
    (True, False, False, False, True)
    """
    if get_origin(hint) in (Union, UnionType):
        return any(fits(value, one) for one in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(fits(one, get_args(hint)[0]) for one in value)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is int:
        return isinstance(value, Integral)
    if hint is float:
        return isinstance(value, Real) and (isinstance(value, Integral) or math.isfinite(value))
    return isinstance(value, hint) if hint in WORDS else True


def said(hint: Any, several: bool = False) -> str:
    """A type in words.

    >>> said(list[int] | int), said(float | None)
    ('a whole number or a list of whole numbers', 'a finite number or None')
    """
    if get_origin(hint) in (Union, UnionType):
        parts = sorted((said(one, several) for one in get_args(hint)), key=lambda text: text.startswith("a list"))
        return (" and " if several else " or ").join(parts)
    if get_origin(hint) is list:
        return f"a list of {said(get_args(hint)[0], several=True)}"
    return WORDS[hint][several] if hint in WORDS else str(hint)
