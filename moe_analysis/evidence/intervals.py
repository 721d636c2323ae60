"""Means over seeds with Student's t intervals, and differences between methods paired by seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """(mean, low, high): the t interval of the mean of finite values; low and high are NaN for fewer than two."""
    from scipy.stats import t

    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    mean = float(finite.mean()) if finite.size else float("nan")
    if finite.size < 2:
        return mean, float("nan"), float("nan")
    half = float(t.ppf((1 + confidence) / 2, finite.size - 1) * finite.std(ddof=1) / np.sqrt(finite.size))
    return mean, mean - half, mean + half


def seed_means(frame: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """One row per (method, seed): means of the measures over everything else in the frame, methods in order seen."""
    return frame.groupby(["method", "seed"], sort=False)[list(measures)].mean().reset_index()


def method_summary(frame: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Columns measure, method, mean, low, high (of 95 %), seeds: over seeds, after averaging within each seed.

    Modules of one run are not independent of each other, so only seeds count as repetitions.

    >>> method_summary(smooth, ["tortuosity"])[["measure", "method", "seeds"]]
          measure         method  seeds
    0  tortuosity       LoRA-MoE      2
    1  tortuosity  mix-and-match      2
    2  tortuosity          T-REX      2
    """
    means = seed_means(frame, measures)
    rows = []
    for measure in measures:
        for method, values in means.groupby("method", sort=False)[measure]:
            mean, low, high = mean_interval(values.to_numpy())
            rows.append((measure, method, mean, low, high, int(values.notna().sum())))
    return pd.DataFrame(rows, columns=["measure", "method", "mean", "low", "high", "seeds"])


def paired_differences(
    frame: pd.DataFrame, measures: Sequence[str], method: str, others: Sequence[str]
) -> pd.DataFrame:
    """Columns measure, method, against, difference (method minus against), low, high (of 95 %), seeds.

    Seeds that both methods have are paired: the same seed means the same data order and the same initial values of
    shared parts.

    Raises:
        ValueError: for a method that the frame does not have.
    """
    means = seed_means(frame, measures)
    present = list(dict.fromkeys(means["method"]))
    if missing := [name for name in (method, *others) if name not in present]:
        raise ValueError(f"no run of {', '.join(map(repr, missing))}; the frame has {', '.join(map(repr, present))}")
    rows = []
    for measure in measures:
        table = means.pivot(index="seed", columns="method", values=measure)
        for other in others:
            gaps = (table[method] - table[other]).dropna().to_numpy()
            rows.append((measure, method, other, *mean_interval(gaps), len(gaps)))
    return pd.DataFrame(rows, columns=["measure", "method", "against", "difference", "low", "high", "seeds"])


def relative_gaps(frame: pd.DataFrame, measure: str, method: str, other: str) -> np.ndarray:
    """1 - method / other of the seeds that both have, in order of seed: above zero if the method's value is lower.

    Args:
        frame: columns method, seed and the measure; averaged within each seed first.
        measure: a column of positive values.
        method: the one that is claimed to be lower.
        other: the one that it is compared with.

    Raises:
        ValueError: for a method that the frame does not have.

    Example:
        >>> frame = pd.DataFrame({"method": ["A", "B"], "seed": 0, "loss": [0.9, 1.0]})
        >>> relative_gaps(frame, "loss", "A", "B").round(3)
        array([0.1])
    """
    means = seed_means(frame, [measure]).pivot(index="seed", columns="method", values=measure)
    if missing := [name for name in (method, other) if name not in means]:
        raise ValueError(f"no run of {', '.join(map(repr, missing))}; the frame has {', '.join(map(repr, means))}")
    pairs = means[[method, other]].dropna()
    return (1 - pairs[method] / pairs[other]).to_numpy()
