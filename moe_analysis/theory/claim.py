"""A statement of a paper, what a program measured about it, and whether the two agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Claim:
    """One checked statement; every value survives a trip through JSON.

    name: `<paper>_<item>_<aspect>`. source: paper and item. statement: what is claimed, in words and symbols;
    it starts with "our reading:" where the paper's own wording is not public. measured, expected: numbers,
    strings or lists of them. residual: distance between the two, 0.0 for an exact agreement. holds: the verdict. Raises
    ValueError for a verdict that is no bool, a claim that holds without a finite residual, and a value that JSON cannot
    hold.

    >>> claim = Claim("toy_sum", "arithmetic", "1 + 1 = 2", 1 + 1, 2, 0.0, True)
    >>> claim.to_dict()["residual"]
    0.0
    """

    name: str
    source: str
    statement: str
    measured: Any
    expected: Any
    residual: float
    holds: bool

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name), f"{self.name}.{field.name}"))
        if not isinstance(self.holds, bool):
            raise ValueError(f"{self.name}.holds = {self.holds!r} must be True or False; compare before building it")
        if self.holds and not math.isfinite(self.residual):
            raise ValueError(f"{self.name}.residual = {self.residual} cannot belong to a claim that holds")

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary, ready for `json.dumps`."""
        return asdict(self)


Check = Callable[..., Claim]
CHECKS: dict[str, Check] = {}
COLUMNS = tuple(field.name for field in fields(Claim))


def claim_check(check: Check) -> Check:
    """Decorator: register `check(seed=0) -> Claim` under the function's own name, which must be the claim's.

    Raises ValueError for a name that is taken.

    >>> @claim_check
    ... def toy_sum(seed: int = 0) -> Claim:
    ...     return Claim("toy_sum", "arithmetic", "1 + 1 = 2", 1 + 1, 2, 0.0, True)
    >>> verify("toy_sum")["holds"].tolist()
    [True]
    >>> del CHECKS["toy_sum"]
    """
    if check.__name__ in CHECKS:
        raise ValueError(f"claim check {check.__name__!r} is registered twice; rename one of them")
    CHECKS[check.__name__] = check
    return check


def verify(only: str | Iterable[str] | None = None, seed: int = 0) -> pd.DataFrame:
    """Run the registered checks -> one row a claim, with the columns of `Claim`, in order of registration.

    only: a name, a pattern such as "trex_lemma_*", or several of either; None runs everything.
    A check that raises becomes a row that does not hold and shows the error, so that one fault hides no other.
    Raises ValueError when `only` fits no check.

    >>> table = ma.theory.verify("trex_theorem_4_3_*")
    >>> len(table), bool(table["holds"].all())
    (4, True)
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # thousands of small matrices: more threads only get in each other's way
        rows = [_run(name, CHECKS[name], seed).to_dict() for name in selected(only)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def selected(only: str | Iterable[str] | None) -> list[str]:
    if only is None:
        return list(CHECKS)
    patterns = [only] if isinstance(only, str) else list(only)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in CHECKS):
            raise ValueError(f"only = {pattern!r} fits no claim; known claims: {', '.join(CHECKS) or 'none'}")
    return [name for name in CHECKS if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _run(name: str, check: Check, seed: int) -> Claim:
    try:
        claim = check(seed=seed)
    except Exception as error:  # any failure of a check is a verdict on it, reported beside the others
        return Claim(name, "", (check.__doc__ or name).strip().splitlines()[0],
                     f"raised {type(error).__name__}: {error}", "no error", math.inf, False)
    if claim.name != name:
        raise ValueError(f"check {name!r} returned a claim named {claim.name!r}; give both the same name")
    return claim


def _plain(value: Any, where: str) -> Any:
    """NumPy and torch scalars and arrays as Python values; ValueError for what JSON cannot hold."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, where) for key, item in value.items()}
    raise ValueError(f"{where} = {value!r} is no JSON value; pass numbers, strings, lists or dictionaries")
