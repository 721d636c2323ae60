"""Accuracy and loss against the size of an adapter: means over seeds, the Pareto front, the area under a curve.

Source: S'MoRE, Fig. 4. The frames here come from one table of results, one row per trained model and part of the tests:
method, seed, budget (the nominal number of trainable parameters for which a method's sizes were chosen), trainable and
active (parameters), operations (multiply-accumulates per token), part (of the tests, such as "originals"), accuracy in
[0, 1], loss (nats per answer token). A method has the same sizes for every seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...evidence.intervals import mean_interval

COLUMNS = ("method", "seed", "budget", "trainable", "active", "operations", "part", "accuracy", "loss")
SIZES = ("trainable", "active", "operations")
SIGNS = {"accuracy": 1.0, "loss": -1.0}  # multiplied by a difference, above zero is better
KEY = ["part", "method", "seed", "budget"]


def check_results(results: pd.DataFrame) -> None:
    """Raise ValueError for a table with a missing column, a repeated row, or a size that is not above zero."""
    if missing := [name for name in COLUMNS if name not in results]:
        raise ValueError(f"results lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    if results.empty:
        raise ValueError("results is empty; pass the rows of at least one trained model")
    doubled = results[results.duplicated(KEY)]
    if len(doubled):
        row = doubled.iloc[0]
        raise ValueError(
            f"results holds two rows of method {row['method']!r}, seed {row['seed']}, budget "
            f"{row['budget']}, part {row['part']!r}; give each configuration its own method"
        )
    for size in SIZES:
        if not (results[size] > 0).all():
            raise ValueError(f"results has {size} = {results[size].min()}; sizes must be above 0")
        varied = results.groupby(["method", "budget"])[size].nunique()
        if (varied > 1).any():
            method, budget = varied.index[int(varied.argmax())]
            raise ValueError(
                f"{size} of method {method!r} at budget {budget} differs between rows; give each "
                "configuration its own method"
            )


def long_results(results: pd.DataFrame) -> pd.DataFrame:
    """One row per measure: part, method, seed, budget, trainable, active, operations, measure, value; checks the table."""
    check_results(results)
    return results.melt([*KEY, *SIZES], list(SIGNS), "measure", "value")


def budget_points(results: pd.DataFrame) -> pd.DataFrame:
    """One row per part, measure, method and budget, by increasing budget: the points of Fig. 4.

    Columns part, measure, method, budget, trainable, active, operations, mean, low, high (95 % t interval over seeds,
    NaN for a single seed), seeds (with a finite value) and diverged (without).

    >>> points = budget_points(results)
    >>> points.query("measure == 'accuracy'")[["method", "budget", "mean", "seeds"]].round(2).head(3)
          method  budget  mean  seeds
    0       LoRA   20000  0.40      3
    1  HydraLoRA   20000  0.45      3
    2    MixLoRA   20000  0.45      3
    """
    rows = []
    values = long_results(results).sort_values("budget", kind="stable")
    for key, group in values.groupby(["part", "measure", "method", "budget"], sort=False):
        finite = int(np.isfinite(group["value"]).sum())
        rows.append(
            (*key, *group[list(SIZES)].iloc[0], *mean_interval(group["value"].to_numpy()), finite, len(group) - finite)
        )
    return pd.DataFrame(
        rows, columns=["part", "measure", "method", "budget", *SIZES, "mean", "low", "high", "seeds", "diverged"]
    )


def pareto_front(points: pd.DataFrame) -> pd.Series:
    """For each row of `budget_points`, whether it is on the front of its part and measure, as a boolean series.

    A point is on the front if no other point has at most as many trainable parameters and is at least as good, and
    better in one of the two. A point whose seeds all diverged is never on it.
    """
    front = pd.Series(False, index=points.index)
    for (_, measure), group in points.groupby(["part", "measure"], sort=False):
        sizes, values = group["trainable"].to_numpy(float), SIGNS[str(measure)] * group["mean"].to_numpy()
        with np.errstate(invalid="ignore"):
            as_good = (sizes[:, None] <= sizes) & (values[:, None] >= values)  # row against column
            better = as_good & ((sizes[:, None] < sizes) | (values[:, None] > values))
        front.loc[group.index] = ~better.any(axis=0) & np.isfinite(values)
    return front


def curve_areas(results: pd.DataFrame, size: str = "trainable") -> pd.DataFrame:
    """Mean height of every seed's curve over the logarithm of `size`, on the range that all methods cover.

    Columns part, measure, method, seed, area (in the measure's own unit: the area divided by the width of the range),
    smallest and largest (the range). Between budgets, a curve is a straight line over the logarithm; rows of equal size
    are averaged. The area is NaN if the methods have no common range, if a seed's curve does not reach both of its ends,
    or if a needed value is not finite.
    """
    if size not in SIZES:
        raise ValueError(f"size = {size!r} is unknown; choose one of {', '.join(SIZES)}")
    rows = []
    for (part, measure), group in long_results(results).groupby(["part", "measure"], sort=False):
        ends = group.groupby("method")[size].agg(["min", "max"])
        smallest, largest = ends["min"].max(), ends["max"].min()
        for (method, seed), curve in group.groupby(["method", "seed"], sort=False):
            area = mean_height(curve[size].to_numpy(float), curve["value"].to_numpy(), smallest, largest)
            rows.append((part, measure, method, seed, area, smallest, largest))
    names = ["part", "measure", "method", "seed", "area", "smallest", "largest"]
    return pd.DataFrame(rows, columns=names)


def mean_height(sizes: np.ndarray, values: np.ndarray, smallest: float, largest: float) -> float:
    """Mean over log size, from smallest to largest, of the curve through (sizes, values), both (n,); NaN if it has none."""
    if not smallest < largest or sizes.min() > smallest or sizes.max() < largest:
        return float("nan")
    curve = pd.Series(values).groupby(np.log(sizes)).mean()  # sorted by size
    ends = np.log([smallest, largest])
    knots = curve.index.to_numpy()
    inner = knots[(knots > ends[0]) & (knots < ends[1])]
    grid = np.array([ends[0], *inner, ends[1]])
    return float(np.trapezoid(np.interp(grid, knots, curve.to_numpy()), grid) / (ends[1] - ends[0]))


def best_within_budget(results: pd.DataFrame) -> pd.DataFrame:
    """What a method reaches if it may use any of its budgets up to each one, because more is not always better.

    Columns part, measure, method, seed, budget, value, chosen (the used budget). A seed uses the budget at which the
    mean of the *other* seeds is best, so that no seed chooses by its own luck; a single seed has no value. Budgets at
    which one of the other seeds diverged are not used.
    """
    rows = []
    for (part, measure, method), group in long_results(results).groupby(["part", "measure", "method"], sort=False):
        table = group.pivot(index="seed", columns="budget", values="value").sort_index(axis=1)
        for seed in table.index:
            others = table.drop(index=seed)
            usable = np.isfinite(others).all() & table.loc[seed].notna() if len(others) else table.loc[seed].isna()
            means = (SIGNS[str(measure)] * others.mean()).where(usable)
            for budget in table.columns:
                within = means[means.index <= budget].dropna()
                chosen = within.idxmax() if len(within) else float("nan")
                value = table.loc[seed, chosen] if len(within) else float("nan")
                rows.append((part, measure, method, seed, budget, value, chosen))
    return pd.DataFrame(rows, columns=["part", "measure", "method", "seed", "budget", "value", "chosen"])
