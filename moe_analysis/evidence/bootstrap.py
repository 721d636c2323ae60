"""Two methods on the same tasks at the same seeds: the mean difference with its interval, and p-values of many.

Tasks and seeds are crossed: every task is seen at every seed. Both are a sample, so both are resampled (Owen 2007, The
pigeonhole bootstrap), with the corrections that three to ten seeds make necessary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

DRAWS = 10_000


class Comparison(NamedTuple):
    """Mean difference of two methods, its interval, the two-sided p-value, and the numbers of tasks and seeds."""

    difference: float
    low: float
    high: float
    p: float
    tasks: int
    seeds: int


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, draws: int = DRAWS, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """The difference of the means of first and second, both (tasks, seeds), under resampled tasks and seeds.

    Each draw takes T tasks and S seeds with replacement, the same for both methods. Its deviation from the observed
    difference d is that of the drawn tasks' means (over all seeds) plus that of the drawn seeds' means (over all
    tasks). A bootstrap gives only (n - 1) / n of the true variance of n values, and ignores that this variance is
    itself uncertain for small n. So the deviation of each factor is divided by the root of a drawn chi²(n - 1) / n,
    which turns a normal distribution into a t distribution. In simulations with 7 to 37 tasks and 3 to 8 seeds,
    intervals of 95 % contain the truth in 94 to 99.8 % of cases (without this in 73 to 90 % if seeds matter); in the
    most if only noise differs.
    Interval: d ± the `confidence` quantile of the absolute deviations. p = (1 + draws whose absolute deviation reaches
    |d|) / (1 + draws), so that p < 1 - confidence exactly if the interval excludes 0 (up to one draw).
    A value that is not finite makes all results NaN. The same arguments give the same numbers, and draws are the same
    for every pair of one shape. Raises ValueError for fewer than two tasks or seeds.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"first has the shape {first.shape}, second {second.shape}; pass two arrays (tasks, seeds) "
            "of the same tasks and seeds"
        )
    tasks, seeds = first.shape
    if min(tasks, seeds) < 2:
        raise ValueError(f"first has {tasks} tasks and {seeds} seeds; a spread needs at least two of each")
    gaps = first - second  # (tasks, seeds)
    if not np.isfinite(gaps).all():
        return Comparison(np.nan, np.nan, np.nan, np.nan, tasks, seeds)
    difference = float(gaps.mean())
    task_weights, seed_weights = resamples(tasks, seeds, draws, seed)
    deviations = task_weights @ (gaps.mean(1) - difference) + seed_weights @ (gaps.mean(0) - difference)  # (draws,)
    sizes = np.abs(deviations)
    reach = float(np.quantile(sizes, confidence, method="higher"))
    p = (1 + int((sizes >= abs(difference) - 1e-12).sum())) / (1 + draws)  # 1e-12: equal methods differ by rounding
    return Comparison(difference, difference - reach, difference + reach, p, tasks, seeds)


@lru_cache(maxsize=16)
def resamples(tasks: int, seeds: int, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (draws, tasks) and (draws, seeds) of means over resampled tasks or seeds, widened as above."""
    generator = np.random.default_rng((seed, tasks, seeds, draws))
    weights = []
    for size in (tasks, seeds):
        counts = generator.multinomial(size, np.full(size, 1 / size), draws)  # (draws, size)
        spread = np.sqrt(generator.chisquare(size - 1, draws) / size)
        weights.append(counts / size / spread[:, None])
        weights[-1].flags.writeable = False  # the cache hands out the same arrays
    return weights[0], weights[1]


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down correction (1979) of the p-values of a whole family of tests, in the given order.

    The i-th smallest of m, counted from 0, becomes the largest of (m - j) p_j over j <= i, at most 1. NaN counts as one
    more test and stays NaN.

    Raises:
        ValueError: For a value outside [0, 1].
    """
    values = np.asarray(p_values, dtype=float)
    if ((values < 0) | (values > 1)).any():
        raise ValueError(f"p_values = {values.tolist()} must be in [0, 1]")
    order = np.argsort(values)  # NaN last
    scaled = values[order] * np.arange(len(values), 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected
