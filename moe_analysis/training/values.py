"""What the values of a configuration may be: plain, of their types, finite, and the same when they are read back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from peft import PeftConfig

from ..tasks.rows import shorten
from .files import hints_of, wrong_type

LARGEST = 2**63 - 1  # of the whole numbers in tables and records
LARGEST_SEED = 2**32 - 1  # that numpy takes
MAY_BE_INFINITE = ("max_grad_norm", "router_max_grad_norm")  # a limit that limits nothing


def unwrapped(value: Any) -> Any:
    """A value as JSON would give it back, as far as there is no doubt which one that is: numpy's numbers and arrays,
    paths, tuples and sets become numbers, texts and lists.

    >>> unwrapped({"betas": (np.float64(0.5), 1), "names": {"b", "a"}})
    {'betas': [0.5, 1], 'names': ['a', 'b']}
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {name: unwrapped(one) for name, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(unwrapped, value), key=str)
    return [unwrapped(one) for one in value] if isinstance(value, list | tuple) else value


def wrapped(value: Any) -> bool:
    """Whether a value is, or has in it, one of numpy's or a path."""
    if isinstance(value, dict):
        return any(map(wrapped, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(wrapped, value))
    return isinstance(value, np.generic | np.ndarray | os.PathLike)


def unwrapped_adapter(adapter: PeftConfig) -> PeftConfig:
    """The adapter with plain values; the same object where it has no others, as a copy could lose what a class adds."""
    values = {entry.name: getattr(adapter, entry.name) for entry in fields(adapter) if entry.init}
    changed = {name: unwrapped(value) for name, value in values.items() if wrapped(value)}
    return replace(adapter, **changed) if changed else adapter


def check_types(config: Any) -> None:
    """Raise ValueError for the first field whose value is not of its type, and a whole number that is too large."""
    values = {entry.name: getattr(config, entry.name) for entry in fields(config)}
    if fault := wrong_type(values, hints_of(type(config))):
        raise ValueError(fault)
    for name, value in values.items():
        if type(value) is int and abs(value) > LARGEST:
            raise ValueError(f"{name} = {value} must be at most {LARGEST}")


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that numpy does not take."""
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"seed = {seed} must be from 0 to {LARGEST_SEED}")


def check_numbers(values: Mapping[str, Any]) -> None:
    """Raise ValueError for a number that is none, and an infinite one where that is no limit; values: as `to_dict`."""
    for name, number in numbers_in(values):
        if math.isnan(number) or (math.isinf(number) and name not in MAY_BE_INFINITE):
            raise ValueError(f"{name} = {number} must be a finite number")


def numbers_in(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """(dotted name, number) of every real number in a value."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from numbers_in(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from numbers_in(one, name)
    elif isinstance(value, float):
        yield name, value


def check_read_back(values: dict[str, Any], read: Callable[[dict[str, Any]], Any]) -> None:
    """Raise ValueError for values that JSON cannot hold, or that `read` would not give back: a run of them could be
    trained and never opened."""
    text = written(values)
    found = read(json.loads(text)).to_dict()
    if written(found) != text:
        name = next(name for name, value in values.items() if written(found[name]) != written(value))
        raise ValueError(
            f"{name} = {shorten(values[name])} would be read back as {shorten(found[name])}; pass that instead"
        )


def written(value: Any, name: str = "") -> str:
    """JSON; raises ValueError naming the value that it cannot hold."""
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            for key, one in value.items():
                written(one, f"{name}.{key}" if name else key)
        raise ValueError(
            f"{name or 'the configuration'} = {shorten(value)} cannot be written as JSON ({error}); pass numbers, texts, "
            "lists and mappings with texts as keys"
        ) from error
