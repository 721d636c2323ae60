"""Whose claim it is: a paper's, an independent reproduction's, or our own. They are counted separately."""

from __future__ import annotations

# in the order in which they are told: a key for stored claims, and the heading of their counts
WHOSE = {
    "paper": "Claims of the papers",
    "reproduction": "Claims of an independent reproduction",
    "own": "Our own hypotheses and readings",
}
SHORT = {"paper": "", "reproduction": "of a reproduction: ", "own": "ours: "}  # before counts in a row
OURS = ("beyond", "our ", "ours", "your ")  # the first words of sources that are not papers
READING = "our reading:"  # how a statement begins whose wording is ours
REPRODUCTION = "an independent reproduction"  # how the source of a reproduction's claim begins


def whose(kind: str | None, source: str, statement: str) -> str:
    """A key of `WHOSE`.

    Args:
        kind: as in `Claim`; None if it is not known.
        source: of the claim; it says whose claim it is where the kind does not, as that of an exact one.
        statement: of the claim.

    >>> whose("exact", "gR Fig. 1", "our reading: it bends"), whose("exact", "gR Fig. 1", "it bends")
    ('own', 'paper')
    >>> whose("paper", "an independent reproduction of gR", "gRSGD is ahead"), whose("own", "T-REX", "it learns")
    ('reproduction', 'own')
    """
    if kind == "own" or source.lower().startswith(OURS) or statement.startswith(READING):
        return "own"
    return "reproduction" if kind == "reproduction" or source.lower().startswith(REPRODUCTION) else "paper"
