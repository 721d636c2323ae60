"""What came out of a study, in one sentence of plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..evidence import Claim
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
MOST_QUOTED = 2  # statements; more are counted


@dataclass(frozen=True)
class Judged:
    """The words of a stored claim: its statement, its verdict, and the verdicts of its parts in words."""

    statement: str
    verdict: str
    note: str = ""


def in_short(claims: Sequence[Claim | Judged]) -> str:
    """The verdicts in one sentence; empty without claims.

    Args:
        claims: Each with its verdict. The parts of a claim are not counted.

    Example:
        >>> theorem = Claim("toy_sum", "arithmetic", "1 + 1 = 2", 2, 2, 0.0, True)
        >>> in_short([theorem]), in_short([theorem] * 3)
        ('"1 + 1 = 2" holds.', 'All 3 statements hold.')
    """
    if len(claims) <= MOST_QUOTED:
        return f"{'; '.join(map(quoted, claims))}." if claims else ""
    counts = Counter(claim.verdict for claim in claims)
    if len(counts) == 1:
        return f"All {len(claims)} statements {SAID[claims[0].verdict][1]}."
    told = [f"{counts[verdict]} {said[counts[verdict] > 1]}" for verdict, said in SAID.items() if counts[verdict]]
    return f"Of {len(claims)} statements, {', '.join(told[:-1])} and {told[-1]}."


def quoted(claim: Claim | Judged) -> str:
    """The statement with its verdict, and the verdicts of its parts where they differ."""
    parts = f" ({claim.note})" if claim.verdict == IN_PART else ""
    return f'"{claim.statement.rstrip(".")}" {SAID[claim.verdict][0]}{parts}'
