"""The arguments of the studies' public functions, read and checked in one place.

One run counts as a list of one run, and one number, name or configuration as a list of one. Any other wrong value is
refused before any work starts; the error gives the argument's name, its value and the remedy.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar

import pandas as pd

from ..tasks.rows import shorten
from .records import check_given, check_whole, is_run

P = ParamSpec("P")
R = TypeVar("R")
Runs: TypeAlias = Any | Sequence[Any]  # one run of ma.train, or several
Recorded: TypeAlias = Any | Sequence[Any]  # one run of ma.train or loop of ma.attach, or several
WIDTH = 80  # characters of a value in an error


def asked(**least: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: the function's arguments are read by their annotations, see `KINDS`.

    Args:
        **least: the smallest value of an argument of whole numbers, if it is not 1.

    Raises:
        ValueError: before the function starts, for an unknown argument, for a missing one, and for a value of the
            wrong kind.

    Example:
        >>> @asked(seeds=0)
        ... def drawn(seeds: int | Sequence[int], rows: int = 5): return seeds, rows
        >>> drawn(0)
        ((0,), 5)
        >>> drawn(0, row=2)
        Traceback (most recent call last):
        ValueError: row = 2 is not an argument of studies.asked.drawn; did you mean rows?
    """

    def around(measure: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(measure)
        read = {one.name: KINDS[one.annotation] for one in signature.parameters.values() if one.annotation in KINDS}

        @wraps(measure)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = bound_to(signature, name_of_call(measure), args, kwargs)
            for name, value in bound.arguments.items():
                if name in read and value is not signature.parameters[name].default:
                    bound.arguments[name] = read[name](name, value, least.get(name, 1))
            return measure(*bound.args, **bound.kwargs)

        return called

    return around


def bound_to(
    signature: inspect.Signature, called: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments:
    """The arguments by their names; ValueError for one that is unknown, missing, given twice or too many."""
    known = list(signature.parameters)
    for name, value in kwargs.items():
        if name not in known:
            near = get_close_matches(name, known, 3)
            remedy = f"did you mean {' or '.join(near)}?" if near else f"it takes {', '.join(known) or 'none'}"
            raise ValueError(f"{name} = {shorten(value, WIDTH)} is not an argument of {called}; {remedy}")
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        given = ", ".join([*(shorten(value, WIDTH) for value in args), *kwargs])
        raise ValueError(f"{called}({given}): {error}; call it as {called}({', '.join(known)})") from None


def name_of_call(function: Callable[..., Any]) -> str:
    """ "studies.trees.measure": where a reader imports it from."""
    folder = function.__module__.partition(".")[2].removesuffix(".measure")
    return f"{folder}.{function.__name__}"


def refused(name: str, value: Any, what: str, remedy: str) -> ValueError:
    return ValueError(f"{name} = {shorten(value, WIDTH)} is not a {what}; {remedy}")


def listed(value: Any) -> list[Any]:
    """The members of a collection, or a list of the single value."""
    many = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    return list(value) if many else [value]


def is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def whole(name: str, value: Any, least: int) -> int:
    """One whole number of at least `least`."""
    if not is_whole(value) or value < least:
        raise refused(name, value, f"whole number of at least {least}", f"pass one, such as {name}={max(least, 5)}")
    return int(value)


def wholes(name: str, value: Any, least: int) -> tuple[int, ...]:
    """One whole number or several, each once.

    >>> wholes("ks", 5, 1), wholes("ks", range(2, 4), 1)
    ((5,), (2, 3))
    """
    many = listed(value)
    if not many or not all(is_whole(one) and one >= least for one in many):
        raise ValueError(
            f"{name} = {shorten(value, WIDTH)}; pass whole numbers of at least {least}, such as {name}={max(least, 5)} "
            f"or {name}=({max(least, 5)}, {max(least, 5) + 1})"
        )
    if len(set(many)) < len(many):
        raise ValueError(f"{name} = {shorten(value, WIDTH)} contains a number twice; pass each once")
    return tuple(map(int, many))


def number(name: str, value: Any, least: int = 0) -> float:
    """One finite number."""
    if not is_real(value) or not math.isfinite(value):
        raise refused(name, value, "number", f"pass one, such as {name}=0.5")
    return float(value)


def numbers(name: str, value: Any, least: int = 0) -> tuple[float, ...]:
    """One number or several, all above 0."""
    many = listed(value)
    if not many or not all(is_real(one) and 0 < one < math.inf for one in many):
        raise ValueError(f"{name} = {shorten(value, WIDTH)}; pass numbers above 0, such as {name}=(0.1, 0.3)")
    return tuple(map(float, many))


def word(name: str, value: Any, least: int = 0) -> str:
    """One text."""
    if not isinstance(value, str) or not value.strip():
        raise refused(name, value, "text", f'pass one, such as {name}="…"')
    return value


def words(name: str, value: Any, least: int = 0) -> list[str]:
    """One text or several."""
    many = some(name, value)
    return many if value is many else [word(f"{name}[{at}]", one) for at, one in enumerate(many)]


def place(name: str, value: Any, least: int = 0) -> str | Path:
    """A path, or the name of something that has one."""
    if not isinstance(value, str | Path) or not str(value).strip():
        raise refused(name, value, "path", f'pass a name or a path, such as {name}="runs"')
    return value


def table(name: str, value: Any, least: int = 0) -> str | Path | pd.DataFrame:
    """A table of results, or the study or file that has it."""
    if isinstance(value, pd.DataFrame):
        return value
    if not isinstance(value, str | Path) or not str(value).strip():
        raise refused(name, value, "table of results", f'pass a study, a path or a frame, such as {name}="compact"')
    return value


def some(name: str, value: Any, least: int = 0) -> list[Any]:
    """One value or several, of any kind."""
    if not (many := listed(value)):
        raise ValueError(f"{name} is empty; pass at least one")
    return many


def module(name: str, value: Any, least: int = 0) -> int | str:
    """The number of a layer, or a module's name or a part of one; see `chosen_module.meant`."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise refused(
            name, value, "layer", f'pass its number, a name or a part of one, such as {name}=-1 or {name}="v_proj"'
        )
    return value


def modules(name: str, value: Any, least: int = 0) -> list[int | str]:
    """One layer or module, or several."""
    return [module(name, one) for one in some(name, value)]


def count_or_words(name: str, value: Any, least: int) -> int | list[str]:
    """A number of things, or their names."""
    if isinstance(value, Integral):
        return whole(name, value, least)
    many = listed(value)
    if not many or not all(isinstance(one, str) and one.strip() for one in many):
        raise refused(name, value, "number or a list of names", f'pass {name}={max(least, 5)} or {name}=["…"]')
    return list(dict.fromkeys(many))


def named(name: str, value: Any, least: int = 0) -> Mapping[str, Any]:
    """Name -> value."""
    if not isinstance(value, Mapping) or not value:
        raise refused(name, value, "mapping of names", f'pass one, such as {name}={{"mine": …}}')
    return value


def named_wholes(name: str, value: Any, least: int) -> dict[str, int]:
    """Name -> whole number."""
    return {key: whole(f"{name}[{key!r}]", one, least) for key, one in named(name, value).items()}


def instance(name: str, value: Any, kind: type, remedy: str) -> None:
    """Raise ValueError for a value that is not of that class; `remedy` says how to get one."""
    if not isinstance(value, kind):
        raise refused(name, value, kind.__name__, remedy)


def one_run(name: str, value: Any) -> Any:
    """A single run, by itself or in a list."""
    found = runs_of(name, value)
    if len(found) > 1:
        raise ValueError(f"{name} holds {len(found)} runs; pass one of them, such as {name}=runs[0]")
    return found[0]


def runs_of(name: str, value: Any, least: int = 0) -> list[Any]:
    """One run of `ma.train`, or several.

    Raises:
        ValueError: for a value that is not a run, for an empty list, and for a loop that `ma.attach` recorded.
    """
    found = recorded_of(name, value)
    check_whole(found, name)
    return found


def recorded_of(name: str, value: Any, least: int = 0) -> list[Any]:
    """One run of `ma.train` or loop of `ma.attach`, or several.

    Raises:
        ValueError: for a value that is neither, and for an empty list.
    """
    many = isinstance(value, Iterable) and not isinstance(value, pd.DataFrame | str | Mapping)
    found: Any = [value] if is_run(value) else list(value) if many else value
    check_given(found, name)
    if not found:
        raise ValueError(f"{name} is empty; pass the runs of at least one method")
    return found


def by_budget(name: str, value: Any, least: int = 0) -> dict[int, list[Any]]:
    """Budget -> one run or several."""
    if not isinstance(value, Mapping):
        raise refused(name, value, "mapping", "pass {budget: list of runs}, as notebook 08 does")
    if not value:
        raise ValueError(f"{name} is empty; pass {{budget: runs of that size}}")
    return {whole(f"a budget of {name}", size, 1): runs_of(f"{name}[{size!r}]", own) for size, own in value.items()}


def optional(read: Callable[[str, Any, int], Any]) -> Callable[[str, Any, int], Any]:
    return lambda name, value, least: None if value is None else read(name, value, least)


# annotation -> the function that reads such an argument
KINDS: dict[Any, Callable[[str, Any, int], Any]] = {
    "int": whole,
    "int | None": optional(whole),
    "int | Sequence[int]": wholes,
    "int | Iterable[int]": wholes,
    "float": number,
    "float | Sequence[float]": numbers,
    "str": word,
    "str | None": optional(word),
    "str | Sequence[str]": words,
    "str | Sequence[str] | None": optional(words),
    "str | Path": place,
    "str | Path | pd.DataFrame": table,
    "Runs": runs_of,
    "Recorded": recorded_of,
    "Mapping[int, Runs]": by_budget,
    "int | str | None": optional(module),
    "int | str | Sequence[int | str] | None": optional(modules),
    "int | str | Sequence[str]": count_or_words,
    "Mapping[str, int]": named_wholes,
    "Mapping[str, Any] | None": optional(named),
    "Any | Sequence[Any] | None": optional(some),
}
