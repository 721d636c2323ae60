"""A measured effect with all that a verdict needs: intervals at any level, p-value, power, number of seeds needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .bootstrap import paired_bootstrap

POWER = 0.8
MOST_SEEDS = 10_000
DRAWS = 20_000  # simulated repetitions of a design over tasks and seeds
ANGLES = np.linspace(0, np.pi / 2, 17)

ON_ONE = "seeds on one data set"  # a unit


@dataclass(frozen=True, eq=False)
class Effect:
    """Differences of two methods at the same seeds; above zero agrees with the claim.

    Args:
        gaps: (seeds,), or (tasks, seeds) if tasks are a sample too. With (seeds,), the interval is Student's over
            seeds; with (tasks, seeds) it is that of `paired_bootstrap`, over both.
        unit: what is repeated, in words: "seeds", "seeds of k-means", "data sets".

    Raises:
        ValueError: for gaps of another shape.

    Example:
        >>> effect = Effect([0.02, 0.04, 0.03])
        >>> effect.over, effect.seeds, round(effect.value, 3)
        ('3 seeds', 3, 0.03)
        >>> low, high = effect.interval()
        >>> round(low, 4), round(high, 4)
        (0.0052, 0.0548)
    """

    gaps: np.ndarray | Sequence[float]
    unit: str = "seeds"

    def __post_init__(self) -> None:
        gaps = np.asarray(self.gaps, dtype=float)
        if gaps.ndim not in (1, 2) or not gaps.size:
            raise ValueError(f"gaps has the shape {gaps.shape}; pass (seeds,) or (tasks, seeds)")
        object.__setattr__(self, "gaps", gaps)

    @property
    def values(self) -> np.ndarray:
        return np.asarray(self.gaps)

    @property
    def seeds(self) -> int:
        return self.values.shape[-1]

    @property
    def tasks(self) -> int | None:
        return self.values.shape[0] if self.values.ndim == 2 else None

    @property
    def over(self) -> str:
        """What the interval is over."""
        unit = self.unit.replace("seeds", "seed", 1) if self.seeds == 1 else self.unit
        return f"{self.seeds} {unit}" if self.tasks is None else f"{self.tasks} tasks and {self.seeds} {unit}"

    @property
    def value(self) -> float:
        return float(self.values.mean())

    @property
    def fault(self) -> str | None:
        """Why there is no interval; None if there is one."""
        if missing := int((~np.isfinite(self.values)).sum()):
            return f"{missing} of {self.values.size} differences are not finite numbers"
        if self.seeds < 2:
            return "one seed has no spread"
        return "one task has no spread" if self.tasks == 1 else None

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """(low, high) of the mean effect."""
        self.check()
        if self.tasks is None:
            reach = quantile((1 + confidence) / 2, self.seeds - 1) * self.errors(self.seeds)[-1]
            return self.value - reach, self.value + reach
        found = paired_bootstrap(self.values, np.zeros_like(self.values), confidence=confidence)
        return found.low, found.high

    def p(self) -> float:
        """Two-sided p-value of no effect."""
        self.check()
        if self.tasks is not None:
            return paired_bootstrap(self.values, np.zeros_like(self.values)).p
        from scipy.stats import t

        error = self.errors(self.seeds)[-1]
        return float(2 * t.sf(abs(self.value) / error, self.seeds - 1)) if error > 0 else float(self.value == 0)

    def errors(self, seeds: int) -> tuple[float, ...]:
        """Standard errors of the mean effect with this many seeds: that of the measured tasks if they are a sample, and
        that of the seeds.

        The means of tasks differ because the effect does, which more seeds do not change, and because of the noise of
        each task at each seed, whose share of their variance falls with the number of seeds. The noise is what is left
        without the means of tasks and of seeds, as in an analysis of variance of two factors.
        """
        if self.tasks is None:
            return (float(self.values.std(ddof=1) / np.sqrt(seeds)),)
        by_task, by_seed = self.values.mean(axis=1), self.values.mean(axis=0)
        left = self.values - by_task[:, None] - by_seed + self.value  # (tasks, seeds)
        between = by_task.var(ddof=1)
        noise = min(between, (left**2).sum() / ((self.tasks - 1) * (self.seeds - 1)) / self.seeds)
        of_tasks = (between - noise + noise * self.seeds / seeds) / self.tasks
        return float(np.sqrt(of_tasks)), float(by_seed.std(ddof=1) / np.sqrt(seeds))

    def visible(self, confidence: float = 0.95, seeds: int | None = None) -> float:
        """The smallest true effect whose interval lies above zero in 80 of 100 repetitions of the design.

        The spreads are assumed to be the measured ones. Over tasks and seeds, each has its own degrees of freedom, as in
        the interval.

        Args:
            confidence: of the interval.
            seeds: of the design; None is the measured number.
        """
        self.check()
        seeds = self.seeds if seeds is None else seeds
        if self.tasks is None:
            return shift(confidence, seeds - 1) * self.errors(seeds)[-1]
        return crossed_shift(confidence, (self.tasks - 1, seeds - 1), self.errors(seeds))

    def seeds_for(self, size: float, confidence: float = 0.95) -> int | None:
        """The fewest seeds with which an effect of this size is `visible`; None if no number of seeds is enough.

        With so narrow an interval, this size is also excluded in 80 of 100 repetitions if there is no effect.
        """
        if not size > 0 or self.visible(confidence, MOST_SEEDS) > size:
            return None
        few, enough = 1, MOST_SEEDS
        while enough - few > 1:  # more seeds always see more
            middle = (few + enough) // 2
            few, enough = (few, middle) if self.visible(confidence, middle) <= size else (middle, enough)
        return enough

    def check(self) -> None:
        """Raise ValueError if there is no interval."""
        if self.fault:
            raise ValueError(f"no interval: {self.fault}; run more seeds, or repeat those that failed")


def quantile(share: float, degrees: int) -> float:
    from scipy.stats import t

    return float(t.ppf(share, degrees))


@lru_cache(maxsize=1024)
def shift(confidence: float, degrees: int) -> float:
    """How many standard errors a true mean must lie above zero for its t interval to do so in 80 of 100 draws."""
    from scipy.optimize import brentq
    from scipy.stats import nct

    bound = quantile((1 + confidence) / 2, degrees)
    return float(brentq(lambda center: nct.sf(bound, degrees, center) - POWER, 0.0, 4 * bound + 4))


def crossed_shift(confidence: float, degrees: tuple[int, int], errors: tuple[float, ...]) -> float:
    """How far a true mean must lie above zero for its interval over two factors to do so in 80 of 100 draws.

    Args:
        confidence: of the interval.
        degrees: of freedom of each factor's standard error.
        errors: the true standard errors.
    """
    deviations, estimates = ((np.array(errors)[:, None] * drawn) for drawn in repetitions(*degrees))  # (2, draws)
    shares = np.arctan2(estimates[1], estimates[0])
    reaches = np.hypot(*estimates) * np.interp(shares, ANGLES, unit_reaches(confidence, *degrees))
    return float(np.quantile(reaches - deviations.sum(0), POWER))


@lru_cache(maxsize=64)
def repetitions(*degrees: int) -> tuple[np.ndarray, np.ndarray]:
    """(factors, draws) deviations of means, and the estimates of their standard errors, which are truly 1."""
    generator = np.random.default_rng(degrees)
    deviations = generator.standard_normal((len(degrees), DRAWS))
    return deviations, np.sqrt([generator.chisquare(free, DRAWS) / free for free in degrees])


@lru_cache(maxsize=64)
def unit_reaches(confidence: float, *degrees: int) -> np.ndarray:
    """Half the width of the interval for each of `ANGLES`: estimated standard errors of cos and sin of it.

    The interval is the middle part of the sum of two t variables, which `paired_bootstrap` draws from the data.
    """
    generator = np.random.default_rng(degrees)
    first, second = (generator.standard_t(free, DRAWS) for free in degrees)
    return np.array([np.quantile(abs(np.cos(one) * first + np.sin(one) * second), confidence) for one in ANGLES])


def over_tasks(gaps: np.ndarray, alone: bool) -> Effect:
    """Gaps (tasks, seeds) as an effect over both.

    alone: there is one data set, which is no sample of tasks: its row is an effect over seeds.

    >>> over_tasks(np.array([[0.02, 0.04, 0.03]]), alone=True).over
    '3 seeds on one data set'
    """
    return Effect(gaps[0], ON_ONE) if alone else Effect(gaps)
