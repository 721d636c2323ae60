"""The rule by which every measured claim is judged; there is no other.

A claim states before it is measured what it compares, in which direction, and the smallest effect that matters: half of
what the paper reports for exactly this comparison, or a declared one if the paper only shows a plot. With the interval
[low, high] of the effect in the claimed direction:

- reproduced: low > 0;
- contradicted: high < 0;
- not reproduced: high < the smallest effect that matters, so that an effect of the claimed size is excluded;
- undecided: anything else; the note says what this design can see with 80 % power, and how many seeds are needed;
- not testable here: a precondition fails; the note names it.

Hypotheses of our own are supported (low > 0), not supported (high < the smallest effect that matters) or undecided.
Exact statements hold or fail. Parts that differ are reproduced "in part"; the note counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..cards.in_words import counted_verdicts
from .effect import MOST_SEEDS, Effect

REPRODUCED, CONTRADICTED, NOT_REPRODUCED = "reproduced", "contradicted", "not reproduced"
UNDECIDED, NOT_TESTABLE, IN_PART = "undecided", "not testable here", "in part"
SUPPORTED, NOT_SUPPORTED = "supported", "not supported"
HOLDS, FAILS = "holds", "fails"
OF_PAPERS = (REPRODUCED, CONTRADICTED, NOT_REPRODUCED, UNDECIDED, NOT_TESTABLE)
OF_OURS = (SUPPORTED, NOT_SUPPORTED, UNDECIDED, NOT_TESTABLE)
OUR_WORDS = {REPRODUCED: SUPPORTED, CONTRADICTED: NOT_SUPPORTED, NOT_REPRODUCED: NOT_SUPPORTED}
CONFIDENCE = 0.95
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason.

    Args:
        verdict: one of the words above.
        note: what the row adds; empty if the verdict says all.
        low: the lower end of the interval that decided, NaN if there is none.
        high: its upper end, likewise.
        confidence: of the interval, more than 0.95 if a family of claims is corrected for its size.

    Example:
        >>> Judgement("reproduced", low=0.01, high=0.03).confidence
        0.95
    """

    verdict: str
    note: str = ""
    low: float = float("nan")
    high: float = float("nan")
    confidence: float = CONFIDENCE


def word(low: float, high: float, smallest: float) -> str:
    """The rule itself, for an interval of an effect in the claimed direction.

    Raises:
        ValueError: for a smallest effect that is not above zero; with it, no claim could be "not reproduced".

    Example:
        >>> [word(low, 0.005, smallest=0.01) for low in (0.001, -0.02)], word(-0.02, 0.02, smallest=0.01)
        (['reproduced', 'not reproduced'], 'undecided')
    """
    if not smallest > 0:
        raise ValueError(f"smallest = {smallest} must be above zero: half the paper's effect, or a declared one")
    if low > 0:
        return REPRODUCED
    if high < 0:
        return CONTRADICTED
    return NOT_REPRODUCED if high < smallest else UNDECIDED


def judge(effect: Effect, smallest: float, own: bool = False, confidence: float = CONFIDENCE) -> Judgement:
    """The verdict on an effect in the claimed direction.

    Args:
        effect: as measured, above zero in the claimed direction.
        smallest: the smallest effect that matters, declared before.
        own: a hypothesis of ours, which has different words.
        confidence: of the interval.

    Raises:
        ValueError: for a smallest effect that is not above zero.

    Example:
        >>> judge(Effect([0.02, 0.04, 0.03]), smallest=0.01).verdict
        'reproduced'
        >>> print(judge(Effect([0.02, -0.02, 0.03]), smallest=0.01).note)
        this design sees 0.0864 with 80 % power; 57 seeds would see 0.01
    """
    if not smallest > 0:
        word(0.0, 0.0, smallest)
    if effect.fault:
        return not_testable(effect.fault)
    low, high = effect.interval(confidence)
    found = word(low, high, smallest)
    note = design_note(effect, smallest, confidence) if found == UNDECIDED else ""
    return Judgement(OUR_WORDS.get(found, found) if own else found, note, low, high, confidence)


def design_note(effect: Effect, smallest: float, confidence: float = CONFIDENCE) -> str:
    """What the design behind an undecided effect can see, and how many seeds would be enough."""
    seeds = effect.seeds_for(smallest, confidence)
    if seeds:
        would = f"{seeds} {effect.unit} would see {smallest:.3g}"
    elif effect.tasks:
        would = f"no number of {effect.unit} would see {smallest:.3g} on these {effect.tasks} tasks"
    else:
        would = f"more than {MOST_SEEDS} {effect.unit} would see {smallest:.3g}"
    return f"this design sees {effect.visible(confidence):.3g} with 80 % power; {would}"


def not_testable(reason: str) -> Judgement:
    """A claim whose precondition fails; the reason is named."""
    return Judgement(NOT_TESTABLE, reason)


def exact(holds: bool) -> Judgement:
    """A statement without an interval: a theorem, a count."""
    return Judgement(HOLDS if holds else FAILS)


def in_parts(verdicts: Sequence[str]) -> Judgement:
    """The verdict on a claim with several parts: theirs if they agree, "in part" if they differ.

    No level is corrected for their number: the claim is reproduced only if each of them is.

    Raises:
        ValueError: for a claim without parts.

    Example:
        >>> in_parts(["reproduced", "undecided", "reproduced"])
        Judgement(verdict='in part', note='2 reproduced, 1 undecided', low=nan, high=nan, confidence=0.95)
    """
    if not verdicts:
        raise ValueError("verdicts is empty; a claim in parts needs at least one")
    counts = Counter(verdicts)
    if len(counts) == 1:
        return Judgement(verdicts[0])
    return Judgement(IN_PART, counted_verdicts({"": counts}))


def judge_family(
    effects: Mapping[Key, Effect], smallest: Mapping[Key, float], own: bool = False, confidence: float = CONFIDENCE
) -> dict[Key, Judgement]:
    """The verdicts on a declared family of claims, by intervals that Holm's procedure widens.

    The claim with the smallest p of m is judged at 1 - 0.05 / m, the next at 1 - 0.05 / (m - 1), until an interval
    contains zero: its level is used for all remaining claims. An effect that cannot be judged still counts in m.
    Source: Holm (1979).

    Args:
        effects: of all claims of the family, each above zero in its claimed direction.
        smallest: the smallest effect that matters for each of them.
        own: hypotheses of ours, which have different words.
        confidence: of the family as a whole.

    Raises:
        ValueError: for a smallest effect that is not above zero.

    Example:
        >>> effects = {"A - B": Effect([0.030, 0.029, 0.031]), "A - C": Effect([0.02, -0.02, 0.03])}
        >>> found = judge_family(effects, dict.fromkeys(effects, 0.01))
        >>> [(judgement.verdict, round(judgement.confidence, 3)) for judgement in found.values()]
        [('reproduced', 0.975), ('undecided', 0.95)]
    """
    order = sorted(effects, key=lambda name: np.inf if effects[name].fault else effects[name].p())
    level, found = 0.0, {}
    stopped = False
    for place, name in enumerate(order):
        level = level if stopped else (1 - confidence) / (len(order) - place)
        found[name] = judge(effects[name], smallest[name], own, 1 - level)
        stopped = stopped or not (found[name].low > 0 or found[name].high < 0)
    return {name: found[name] for name in effects}


def verdict_rates(
    effect: float, spread: float, seeds: int, smallest: float, draws: int = 2000, seed: int = 0
) -> dict[str, float]:
    """How often the rule gives each word if the effect is truly this large: what a planned design will say.

    Args:
        effect: the true mean of the differences.
        spread: their standard deviation over seeds.
        seeds: of the design.
        smallest: the smallest effect that matters.
        draws: simulated repetitions of the design.
        seed: of the draws.

    Raises:
        ValueError: for fewer than two seeds, no spread, or a smallest effect that is not above zero.

    Example:
        >>> rates = verdict_rates(effect=0.0, spread=0.01, seeds=5, smallest=0.01)
        >>> max(rates, key=rates.get)
        'undecided'
    """
    if seeds < 2:
        raise ValueError(f"seeds = {seeds} gives no interval; plan for at least two")
    if not spread > 0:
        raise ValueError(f"spread = {spread} must be above zero; take it from a pilot of a few seeds")
    gaps = np.random.default_rng(seed).normal(effect, spread, (draws, seeds))
    reach = Effect(gaps[0]).interval()[1] - gaps[0].mean()  # of one draw; the others' follow by their spread
    reaches = reach * gaps.std(axis=1) / gaps[0].std()
    counts = Counter(word(mean - half, mean + half, smallest) for mean, half in zip(gaps.mean(axis=1), reaches))
    return {verdict: counts[verdict] / draws for verdict in OF_PAPERS[:4]}
