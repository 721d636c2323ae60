"""The outcome of a study in short: the first decided result with its effect and interval, then the counted verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..cards.whose import WHOSE
from ..evidence.verdict import (
    CONTRADICTED,
    FAILS,
    HOLDS,
    IN_PART,
    NOT_REPRODUCED,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    REPRODUCED,
    SUPPORTED,
    UNDECIDED,
)

# verdict -> (of one statement, of several)
SAID = {
    HOLDS: ("holds", "hold"),
    REPRODUCED: ("is reproduced", "are reproduced"),
    SUPPORTED: ("is supported", "are supported"),
    IN_PART: ("has parts with different verdicts", "have parts with different verdicts"),
    FAILS: ("fails", "fail"),
    CONTRADICTED: ("is contradicted", "are contradicted"),
    NOT_REPRODUCED: ("is not reproduced", "are not reproduced"),
    NOT_SUPPORTED: ("is not supported", "are not supported"),
    UNDECIDED: ("is undecided", "are undecided"),
    NOT_TESTABLE: ("cannot be tested here", "cannot be tested here"),
}
NONE = {  # of several statements, because "all are not" may mean that some are
    NOT_REPRODUCED: "is reproduced",
    NOT_SUPPORTED: "is supported",
    NOT_TESTABLE: "can be tested here",
}
# what a comparison begins with or contains -> (factor, unit); the first that matches
RATIO = ("1 - ", (100, "%"))
UNITS = {
    "accuracy": (100, "points of accuracy"),
    "(acc": (100, "points of accuracy"),
    "nats": (1, "nats"),
    "bits": (1, "bits"),
    "share of": (100, "percentage points"),
    "ratio of": (1, "times"),
}
Row = Mapping[str, Any]


def in_short(claims: Sequence[Row]) -> str:
    """The first decided result, a paper's if there is one, and how many statements have which verdict.

    Args:
        claims: as `evidence.described` returns them, or `cards.claims.shown` for stored ones. Measured claims come
            before those that could not be measured, and decided before undecided ones. Parts of a claim are not
            counted.

    Returns:
        One or two sentences; empty without claims.

    Example:
        >>> from moe_analysis.evidence import Claim, Effect, described
        >>> ahead = Claim("toy_ahead", "a table", "A is more accurate than B", compares="A - B", endpoint="accuracy",
        ...               paper_effect=0.02).with_effect(Effect([0.03, 0.02, 0.04]))
        >>> in_short([described(ahead)])
        '"A is more accurate than B" is reproduced: +3 points of accuracy [0.52, 5.5].'
        >>> theorem = described(Claim("toy_sum", "arithmetic", "1 + 1 = 2", 2, 2, 0.0, True))
        >>> in_short([theorem] * 3)
        '"1 + 1 = 2" holds. All 3 statements hold.'
    """
    if not claims:
        return ""
    told = f"{headline(claims)}."
    return told if len(claims) == 1 and (claims[0]["note"] or not claims[0]["parts"]) else f"{told} {counted(claims)}"


def headline(claims: Sequence[Row]) -> str:
    """The first claim, or part of one, that has an interval and is decided; if there is none, the first one.

    A paper's claim comes before a hypothesis of ours, decided or not.
    """
    known = [(leaf, claim) for claim in claims for leaf in leaves(claim)]
    leaf, whole = min(known, key=lambda pair: rank(*pair))  # of equal ones the first
    beside = f" (of {len(whole['parts'])} parts {whole['note']})" if leaf is not whole and whole["note"] else ""
    return quoted(leaf) + beside


def rank(leaf: Row, whole: Row) -> tuple[bool, bool, int, bool]:
    """Less informative claims come later: not testable, without an interval, not a paper's, undecided."""
    return (
        leaf["verdict"] == NOT_TESTABLE,
        leaf["low"] is None,
        list(WHOSE).index(whole["whose"]),
        leaf["verdict"] == UNDECIDED,
    )


def leaves(claim: Row) -> Iterator[Row]:
    """The measurements that a claim consists of; an exact claim is taken as a whole."""
    if claim["parts"] and claim["kind"] != "exact":
        for part in claim["parts"]:
            yield from leaves(part)
    else:
        yield claim


def quoted(claim: Row) -> str:
    """The statement with its verdict, and what was measured or why not."""
    told = f'"{claim["claim"].rstrip(".")}" {SAID[claim["verdict"]][0]}'
    if claim["low"] is not None:
        return f"{told}: {measured(claim)}"
    if claim["verdict"] in (IN_PART, NOT_TESTABLE) and claim["note"]:
        return f"{told} ({claim['note']})"
    return told


def measured(claim: Row) -> str:
    """The effect in the claimed direction and its interval, in a familiar unit: "+1.4 points [-5, 7.9]"."""
    text = claim["paper"]
    factor, unit = (
        RATIO[1] if text.startswith(RATIO[0]) else next((UNITS[key] for key in UNITS if key in text), (1, ""))
    )
    unit = unit or claim["endpoint"].partition(",")[0]
    effect, low, high = (plain(factor * claim[name]) for name in ("effect", "low", "high"))
    sign = "+" if claim["effect"] > 0 else ""
    return f"{sign}{effect}{' ' * bool(unit)}{unit} [{low}, {high}]"


def plain(value: float) -> str:
    """
    >>> plain(13.633), plain(0.0123), plain(-0.04)
    ('13.6', '0.012', '-0.04')
    """
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 1 else f"{value:.2g}"


def counted(claims: Sequence[Row]) -> str:
    """How many statements have which verdict."""
    counts = Counter(claim["verdict"] for claim in claims)
    if len(counts) == 1:
        verdict, number = claims[0]["verdict"], len(claims)
        if number > 1 and verdict in NONE:
            return f"{'Neither statement' if number == 2 else f'None of the {number} statements'} {NONE[verdict]}."
        subject = {1: "The statement", 2: "Both statements"}.get(number, f"All {number} statements")
        return f"{subject} {SAID[verdict][number > 1]}."
    told = [f"{counts[verdict]} {said[counts[verdict] > 1]}" for verdict, said in SAID.items() if counts[verdict]]
    return f"Of {len(claims)} statements, {', '.join(told[:-1])} and {told[-1]}."
