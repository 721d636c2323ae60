"""Claims that are made together: a family that is corrected for its size, and a claim that consists of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .claim import NAN, Claim
from .effect import Effect
from .verdict import judge_family


def whole_of(name: str, source: str, statement: str, parts: Sequence[Claim], kind: str | None = None) -> Claim:
    """The claim that consists of these parts and declares nothing else.

    Args:
        name: as in `Claim`.
        source: as in `Claim`.
        statement: as in `Claim`.
        parts: the measured claims.
        kind: None is "exact" if every part is exact; otherwise the source says whose claim it is.

    Raises:
        ValueError: as `Claim.with_parts`.

    Example:
        >>> parts = [Claim(f"toy_{n}", "arithmetic", f"{n} is even", n % 2, 0, n % 2, n % 2 == 0) for n in (2, 3)]
        >>> whole_of("toy_even", "arithmetic", "2 and 3 are even", parts).verdict
        'in part'
    """
    exact_ones = kind == "exact" or all(part.kind == "exact" for part in parts)
    compares = "" if exact_ones else f"{len(parts)} comparisons"
    return Claim(name, source, statement, kind=kind, compares=compares, parts=parts).with_parts(parts)


def judged(claims: Sequence[Claim], effects: Mapping[str, Effect | str]) -> list[Claim]:
    """Declared claims with their verdicts; those of one family are corrected together for its size.

    Args:
        claims: all that were declared: a family is what was declared, not what turned out well.
        effects: by the claim's name, as measured; a text where a precondition fails, which it names.

    Raises:
        ValueError: for a claim without an effect, an effect without a claim, a family of claims of several kinds, and
            as `Claim.with_effect`.

    Example:
        >>> pair = [Claim(f"toy_{one}", "a table", f"A is ahead of {one}", compares=f"A - {one}", endpoint="acc",
        ...               paper_effect=0.02, family="a table") for one in "BC"]
        >>> found = judged(pair, {"toy_B": Effect([0.03, 0.02, 0.04]), "toy_C": "within guessing"})
        >>> [(claim.verdict, round(claim.confidence, 3)) for claim in found]
        [('undecided', 0.975), ('not testable here', 0.95)]
    """
    names = [claim.name for claim in claims]
    if missing := sorted(set(names) ^ set(effects)):
        raise ValueError(f"claims and effects differ in {', '.join(missing)}; pass one effect per declared claim")
    for claim in claims:
        claim._check_open()
    found: dict[str, Claim] = {}
    for family in dict.fromkeys(claim.family or claim.name for claim in claims):
        members = [claim for claim in claims if (claim.family or claim.name) == family]
        found |= _judged_together(members, effects)
    return [found[name] for name in names]


def _judged_together(members: Sequence[Claim], effects: Mapping[str, Effect | str]) -> dict[str, Claim]:
    measured = {claim.name: effect for claim in members if isinstance(effect := effects[claim.name], Effect)}
    # a claim that cannot be tested was still made, so it counts in the size of the family
    whole = measured | {claim.name: Effect([NAN]) for claim in members if claim.name not in measured}
    kinds = {claim.kind for claim in members}
    if len(kinds) > 1:
        raise ValueError(
            f"family {members[0].family!r} has claims of several kinds, {', '.join(sorted(map(str, kinds)))}; "
            "declare a family for each kind"
        )
    judgements = judge_family(whole, {claim.name: claim._threshold for claim in members}, kinds == {"own"})
    return {
        claim.name: claim._judged(judgements[claim.name], measured[claim.name])
        if claim.name in measured
        else claim.untestable(str(effects[claim.name]))
        for claim in members
    }


def family_of(
    name: str, source: str, statement: str, claims: Sequence[Claim], effects: Mapping[str, Effect | str]
) -> Claim:
    """The claim that these comparisons make together: judged as one family, and then its parts.

    Args:
        name: as in `Claim`; also of the family.
        source: as in `Claim`.
        statement: as in `Claim`.
        claims: as of `judged`.
        effects: as of `judged`.

    Raises:
        ValueError: as `judged`.

    Example:
        >>> pair = [Claim(f"toy_{one}", "a table", f"A is ahead of {one}", compares=f"A - {one}", smallest=0.01)
        ...         for one in "BC"]
        >>> ahead = family_of("toy", "a table", "A is ahead of both", pair,
        ...                   {"toy_B": Effect([0.03, 0.02, 0.04]), "toy_C": Effect([0.03, 0.031, 0.032])})
        >>> ahead.verdict, [round(part.confidence, 3) for part in ahead.parts]
        ('reproduced', [0.95, 0.975])
    """
    return whole_of(name, source, statement, judged([replace(claim, family=name) for claim in claims], effects))
