"""Optimizers compared on the same data: curves, outcomes, and the best of the tried learning rates.

Source: A Stronger Mixture of Low-Rank Experts, Figs. 2 and 3 (sections 2.3 and 2.4 of the reference).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..convergence import convergence, loss_curves
from ..records import method_of, run_key

FORMS = ("SGD", "AdamW")


def methods_of(form: str) -> tuple[str, str, str, str]:
    """Plain, preconditioned, rescaled, both.

    Example:
        >>> methods_of("SGD")
        ('SGD', 'RSGD', 'gSGD', 'gRSGD')
    """
    return form, f"R{form}", f"g{form}", f"gR{form}"


def progress_curves(runs: Sequence[Any], window: int = 9) -> pd.DataFrame:
    """Everything that a run's history says about its progress, as a tidy table: method, seed, step, measure, value.

    measure: "train loss" (task only, nats per answer token, centered mean of `window` steps), "eval loss" and "eval
    accuracy" (means over data sets, at the evaluated steps).

    >>> found = progress_curves(pair, window=3)
    >>> found["measure"].unique().tolist(), int(found["step"].max())
    (['train loss', 'eval loss', 'eval accuracy'], 4)
    """
    train = loss_curves(runs, window).rename(columns={"smoothed": "value"}).assign(measure="train loss")
    frames = [train[["method", "seed", "step", "measure", "value"]]]
    for run in runs:
        tested = run.history[run.history["split"] == "test"]
        for column in ("loss", "accuracy"):
            frames.append(
                pd.DataFrame(
                    {
                        **run_key(run),
                        "step": tested["step"].to_numpy(),
                        "measure": f"eval {column}",
                        "value": tested[column].to_numpy(),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def outcomes(runs: Sequence[Any]) -> pd.DataFrame:
    """One row per run: method, seed, lr, mean_loss (over training), final_loss, loss and accuracy on held-out rows.

    A method may have runs at several learning rates. A run whose loss became NaN or infinite has infinite losses and no
    accuracy.

    Raises:
        ValueError: without runs, for two runs of one method, seed and rate, and for runs of different lengths.

    >>> outcomes(pair)[["method", "seed", "lr"]]
      method  seed    lr
    0   RSGD     0  0.02
    1   RSGD     1  0.02
    2  gRSGD     0  0.02
    3  gRSGD     1  0.02
    """
    if not runs:
        raise ValueError("runs is empty; pass the runs of at least one method")
    keys = [(*run_key(run).values(), float(run.config.lr)) for run in runs]
    check_alike(keys, [getattr(run.config, "steps", 0) for run in runs])
    rows = []
    for run in runs:
        trained = convergence(loss_curves([run])).iloc[0]
        tested = run.history[run.history["split"] == "test"].iloc[-1]
        values = [trained["mean_loss"], trained["final_loss"], tested["loss"]]
        finite = [value if np.isfinite(value) else np.inf for value in values]
        rows.append(
            {
                **run_key(run),
                "lr": run.config.lr,
                "mean_loss": finite[0],
                "final_loss": finite[1],
                "loss": finite[2],
                "accuracy": tested["accuracy"] if np.isfinite(finite).all() else np.nan,
            }
        )
    return pd.DataFrame(rows)


def check_alike(keys: Sequence[tuple[str, int, float]], steps: Iterable[int], where: str = "runs") -> None:
    """Raise ValueError for two runs of one (method, seed, rate), and for different lengths; `where` names the runs."""
    if doubled := [key for key, count in Counter(keys).items() if count > 1]:
        method, seed, lr = doubled[0]
        raise ValueError(
            f"{where} holds more than one run of {method!r} with seed {seed} at lr {lr:g}; give each configuration its "
            "own name, or pass only one of them"
        )
    if len(lengths := sorted(set(steps))) > 1:
        raise ValueError(f"{where} holds runs of {', '.join(map(str, lengths))} steps; pass runs of the same length")


def best_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The learning rate with the lowest held-out loss for each method of `outcomes`.

    Losses are means over the seeds that every rate of the method has.

    Returns:
        method, lr, loss, tried (all rates of the method, in increasing order), tuning_seeds (number of these seeds).

    Raises:
        ValueError: for a method whose rates have no common seed.

    Example:
        >>> best_rates(outcome)[["method", "lr", "tried", "tuning_seeds"]]
          method    lr    tried  tuning_seeds
        0   RSGD  0.02  (0.02,)             2
        1  gRSGD  0.02  (0.02,)             2
    """
    rows = []
    for method, part in table.groupby("method", sort=False):
        losses = part.pivot(index="seed", columns="lr", values="loss").dropna()
        if losses.empty:
            raise ValueError(f"the learning rates of {method} have no common seed; run one seed at all of them")
        means = losses.mean()
        best = float(means.idxmin())
        rows.append((method, best, means[best], tuple(means.index.tolist()), len(losses)))
    return pd.DataFrame(rows, columns=["method", "lr", "loss", "tried", "tuning_seeds"])


def rate_labels(table: pd.DataFrame) -> dict[str, str]:
    """Each method with the learning rate of its experts, for the names of lines: method -> "RSGD, lr 0.02".

    Args:
        table: columns method and lr, one rate per method, for example from `best_rates`.

    Example:
        >>> rate_labels(best_rates(outcome))
        {'RSGD': 'RSGD, lr 0.02', 'gRSGD': 'gRSGD, lr 0.02'}
    """
    return {method: f"{method}, lr {lr:g}" for method, lr in zip(table["method"], table["lr"])}


def at_best_rates(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `outcomes` at each method's best rate; if possible, only of seeds that did not choose it.

    Raises:
        ValueError: as `best_rates`.
    """
    chosen = table.merge(best_rates(table)[["method", "lr"]], on=["method", "lr"])
    tuned = {
        method: set(part.pivot(index="seed", columns="lr", values="loss").dropna().index)
        for method, part in table.groupby("method", sort=False)
    }
    fresh = [seed not in tuned[method] for method, seed in zip(chosen["method"], chosen["seed"])]
    others = chosen[fresh]
    return others if set(others["method"]) == set(chosen["method"]) else chosen


def runs_at(runs: Sequence[Any], rates: pd.DataFrame) -> list[Any]:
    """The runs at the rates of `best_rates`."""
    best = dict(zip(rates["method"], rates["lr"]))
    return [run for run in runs if run.config.lr == best.get(method_of(run))]


def relative_gains(better: pd.Series, worse: pd.Series) -> np.ndarray:
    """1 - better / worse of the seeds that both series have: above zero if the first is lower.

    NaN if one of the two diverged, because an infinite loss would count as a gain of one.

    Example:
        >>> relative_gains(pd.Series({0: 0.9, 1: 1.0}), pd.Series({0: 1.0, 1: np.inf, 2: 1.0}))
        array([0.1, nan])
    """
    pairs = pd.concat([better, worse], axis=1, join="inner").to_numpy(float)
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(pairs).all(axis=1), 1 - pairs[:, 0] / pairs[:, 1], np.nan)
