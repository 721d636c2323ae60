"""Counts and rounded numbers in words, for captions, origins and messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isnan

FROM_STORED = "drawn from the stored results"  # in an origin, before the name of their table


def counted(number: int | Iterable[int], word: str) -> str:
    """A count with its noun, or the range of several counts.

    Args:
        number: one count, or several, of which the smallest and the largest are given.
        word: the singular of a noun whose plural ends in s.

    Example:
        >>> counted(1, "seed"), counted([3, 3], "seed"), counted([4, 2, 3], "seed")
        ('1 seed', '3 seeds', '2 to 4 seeds')
    """
    found = sorted({int(one) for one in (number if isinstance(number, Iterable) else [number])})
    least = f"{found[0]} to " * (len(found) > 1)
    return f"{least}{found[-1]} {word}{'s' * (found[-1] != 1)}"


def percent(share: float, digits: int = 0) -> str:
    """A share as it is written everywhere; a dash for NaN.

    Example:
        >>> percent(0.222), percent(0.0004, 1)
        ('22 %', '0.0 %')
    """
    return "–" if isnan(share) else f"{100 * share:z.{digits}f} %"


def signed(value: float, digits: int) -> str:
    """A rounded difference with its sign; one that rounds to zero has none.

    Example:
        >>> signed(0.0123, 3), signed(-0.0004, 3)
        ('+0.012', '0.000')
    """
    text = f"{value:+z.{digits}f}"
    return text[1:] if float(text) == 0 else text


def told_origin(origin: str) -> str:
    """Where numbers come from, as a sentence.

    Example:
        >>> told_origin("9 runs of 3 seeds"), told_origin("exact, without training")
        ('From 9 runs of 3 seeds.', 'Exact, without training.')
    """
    return f"From {origin}." if origin[:1].isdigit() else f"{origin[:1].upper()}{origin[1:]}."


def counted_verdicts(counts: Mapping[str, Mapping[str, int]]) -> str:
    """Verdicts with their counts.

    Args:
        counts: by the words before them, verdict -> count.

    Example:
        >>> counted_verdicts({"": {"reproduced": 2, "undecided": 1}, "ours: ": {"supported": 1}})
        '2 reproduced, 1 undecided; ours: 1 supported'
    """
    return "; ".join(
        before + ", ".join(f"{count} {verdict}" for verdict, count in own.items()) for before, own in counts.items()
    )
