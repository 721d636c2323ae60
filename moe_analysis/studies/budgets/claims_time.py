"""S'MoRE's Table 7: a training step takes 1.15 to 1.33 times as long as a step of MixLoRA, 1.24 times on average."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...evidence import Claim, Effect, whole_of
from ...evidence.effect import POWER
from .measure import StepTimes
from .step_ratios import HIGH, LOW, MEAN, METHOD, REFERENCE, ratio_pairs
from .step_time import median_interval

SOURCE = "S'MoRE Table 7"
FEWEST = 6  # rounds; with fewer, there is no 95 % interval of the median
DESIGNS = 500  # simulated repetitions


@dataclass(frozen=True, eq=False)
class RoundsEffect(Effect):
    """Gaps of rounds instead of seeds; the effect is their median, with an interval of two order statistics."""

    @property
    def over(self) -> str:
        return f"{self.seeds} rounds"

    @property
    def value(self) -> float:
        return float(np.median(self.values))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """(low, high) of the median."""
        _, low, high = median_interval(self.values, confidence)
        return low, high

    def visible(self, confidence: float = 0.95, seeds: int | None = None) -> float:
        """As of `Effect`, for the median; rounds of a design are drawn from the measured ones."""
        rounds = self.seeds if seeds is None else seeds
        drawn = np.random.default_rng(0).choice(self.values - self.value, (DESIGNS, rounds))
        return float(np.quantile([-median_interval(own, confidence)[1] for own in drawn], POWER))


def claims(found: StepTimes) -> list[Claim]:
    """One claim per size of the backbone, with a part for each end of the paper's range."""
    pairs = ratio_pairs(found.times, METHOD)
    told = []
    for size, rows in found.rounds.groupby("size", sort=False):
        ends = [
            end(
                f"smore_table7_{str(size).replace(' ', '_')}_{name}",
                words,
                compares,
                MEAN - LOW if sign > 0 else HIGH - MEAN,
            )
            for name, words, compares, sign in (
                ("least", f"{size}: a step of {METHOD} takes at least {LOW} times as long", f"ratio - {LOW}", 1),
                ("most", f"{size}: a step of {METHOD} takes at most {HIGH} times as long", f"{HIGH} - ratio", -1),
            )
        ]
        ratios = rows["ratio"].to_numpy()
        if size not in set(pairs["size"]):
            parts = [claim.untestable("the two have different numbers of parameters at this size") for claim in ends]
        elif len(ratios) < FEWEST:
            parts = [
                claim.untestable(f"{len(ratios)} rounds; an interval of the median needs {FEWEST}") for claim in ends
            ]
        else:
            gaps = (ratios - LOW, HIGH - ratios)
            judged = [claim.with_effect(RoundsEffect(own)) for claim, own in zip(ends, gaps)]
            parts = [replace(claim, note=claim.note.replace("seeds", "rounds")) for claim in judged]
        statement = f"{size}: a step of {METHOD} takes {LOW} to {HIGH} times as long as a step of {REFERENCE}"
        told.append(whole_of(f"smore_table7_{str(size).replace(' ', '_')}", SOURCE, statement, parts))
    return told


def end(name: str, statement: str, compares: str, effect: float) -> Claim:
    """One end of the range; the paper's mean is `effect` inside it."""
    return Claim(
        name,
        SOURCE,
        statement,
        kind="paper",
        compares=compares,
        endpoint="median ratio of process times, equal parameters, one thread",
        paper_effect=effect,
    )
