"""The checks of exact statements: each makes one `Claim`, and `verify` runs them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any

import pandas as pd

from ..cards.whose import READING
from ..evidence.claim import Claim

Check = Callable[..., Claim]
CHECKS: dict[str, Check] = {}
SOURCES: dict[str, tuple[str, bool]] = {}  # of each claim its source, and whether its statement is our reading
SEEDS = 2**32  # of numpy's and torch's generators
COLUMNS = ("name", "source", "statement", "measured", "expected", "residual", "holds")


def claim_check(source: str, reading: bool = False) -> Callable[[Check], Check]:
    """Decorator: register `check(seed=0) -> Claim` under the function's own name, which must be the claim's.

    Args:
        source: The claim's, which a check that raises has too.
        reading: Whether the claim's statement begins with "our reading:".

    Raises:
        ValueError: For a source that is no text, as where the decorator has no arguments, and for a name that is taken.

    Example:
        >>> @claim_check("arithmetic")
        ... def toy_sum(seed: int = 0) -> Claim:
        ...     return Claim("toy_sum", "arithmetic", "1 + 1 = 2", 1 + 1, 2, 0.0, True)
        >>> verify("toy_sum")["holds"].tolist()
        [True]
        >>> del CHECKS["toy_sum"]
    """
    if not isinstance(source, str):
        raise ValueError(f'source = {source!r} is not text; write @claim_check("our own claim") above the check')

    def register(check: Check) -> Check:
        if check.__name__ in CHECKS:
            raise ValueError(f"claim check {check.__name__!r} is registered twice; rename one of them")
        CHECKS[check.__name__], SOURCES[check.__name__] = check, (source, reading)
        return check

    return register


def agreement(name: str, source: str, statement: str, measured: Any, expected: Any, besides: bool = True) -> Claim:
    """A claim that holds when both are equal; its residual is the largest difference of their numbers.

    Args:
        name, source, statement: of the claim.
        measured, expected: a whole number each, or as many of them.
        besides: what must be true as well.
    """
    pairs = [(measured, expected)] if isinstance(measured, int) else list(zip(measured, expected, strict=True))
    residual = float(max(abs(one - other) for one, other in pairs))
    return Claim(name, source, statement, measured, expected, residual, measured == expected and besides)


def largest(*numbers: Any) -> float:
    """The largest of numbers, infinite if one is NaN: `max` may pass over it, and a claim would hold.

    >>> largest(0.0, 2, float("nan")), largest(0.0, 2)
    (inf, 2.0)
    """
    return math.inf if any(map(math.isnan, numbers)) else float(max(numbers))


def verify(only: str | Iterable[str] | None = None, seed: int = 0) -> pd.DataFrame:
    """Run the registered checks -> one row per claim, in order of registration.

    Columns name, source, statement, measured, expected, residual, holds: those of `Claim` that a theorem has.
    A check that raises becomes a row that does not hold and shows the error, so that one fault hides no other.

    Args:
        only: A name, a pattern such as "trex_lemma_*", or several of either; None runs everything.
        seed: Of every check, from 0 to 2^32 - 1.

    Raises:
        ValueError: When `only` is empty or fits no check, and for a seed that is none.

    Example:
        >>> table = ma.theory.verify("trex_theorem_4_3_*")
        >>> len(table), bool(table["holds"].all())
        (4, True)
    """
    return pd.DataFrame(
        [{column: getattr(claim, column) for column in COLUMNS} for claim in checked(only, seed)], columns=list(COLUMNS)
    )


def checked(only: str | Iterable[str] | None = None, seed: int = 0) -> list[Claim]:
    """The claims that `verify` shows as a table; a study uses them as parts of its own claims.

    Args:
        only: as in `verify`.
        seed: as in `verify`.

    Raises:
        ValueError: as `verify`.

    Example:
        >>> [claim.verdict for claim in checked("trex_lemma_4_1_kronecker")]
        ['holds']
    """
    import torch
    from threadpoolctl import threadpool_limits

    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < SEEDS:
        raise ValueError(f"seed = {seed!r} must be a whole number from 0 to {SEEDS - 1}")
    # thousands of small matrices: more threads only get in each other's way. The caller's generator stays as it is
    with threadpool_limits(limits=1), torch.random.fork_rng(devices=[]):
        return [_run(name, CHECKS[name], int(seed)) for name in selected(only)]


def selected(only: str | Iterable[str] | None) -> list[str]:
    if only is None:
        return list(CHECKS)
    patterns = [only] if isinstance(only, str) else list(only)
    if not patterns:
        raise ValueError(f"only = {only!r} names no claim; pass a name or a pattern, or None for all")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in CHECKS):
            raise ValueError(f"only = {pattern!r} matches no claim; known claims: {', '.join(CHECKS) or 'none'}")
    return [name for name in CHECKS if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _run(name: str, check: Check, seed: int) -> Claim:
    import torch

    source, reading = SOURCES.get(name, ("", None))
    torch.manual_seed(seed)  # of the layers that a check builds
    try:
        claim = check(seed=seed)
    except Exception as error:  # any failure of a check is a verdict on it, reported with the others
        return Claim(
            name,
            source,
            (f"{READING} " if reading else "") + (check.__doc__ or name).strip().splitlines()[0],
            f"raised {type(error).__name__}: {error}",
            "no error",
            math.inf,
            False,
        )
    if claim.name != name:
        raise ValueError(f"check {name!r} returned a claim named {claim.name!r}; give both the same name")
    if reading is not None and (claim.source, claim.statement.startswith(READING)) != (source, reading):
        raise ValueError(
            f"check {name!r} is registered with source = {source!r}, reading = {reading}, but its claim has "
            f"{claim.source!r} and says {claim.statement[:40]!r}; make them agree"
        )
    return claim
