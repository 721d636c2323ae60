"""How far an update moves a layer, and the learning rate at which another method's updates move it equally far.

A method that scales its gradients up is faster for that reason alone. Before an advantage is attributed to the
directions of its updates, the other method must run at a learning rate that gives the same effective step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...evidence.intervals import mean_interval
from ..records import check_runs, run_key


def effective_steps(runs: Sequence[Any]) -> pd.DataFrame:
    """Columns method, seed, step, effective_step: means over modules.

    A layer's mean map over the tokens is W̄ = (alpha / r) Σ_i ḡ_i B_i A_i with the mean gates ḡ. To first order an
    update of the experts changes it by (alpha / r) Σ_i ḡ_i Δ(B_i A_i), whose Frobenius norm is effective_step: how far
    the experts move the layer, together or not. To first order, it is proportional to the experts' learning rate.
    """
    check_runs(runs)
    frames = []
    for run in runs:
        layer = run.expert_records["layer_step"]
        means = layer.values.astype(float).mean(1)
        frames.append(pd.DataFrame({**run_key(run), "step": layer["step"].values, "effective_step": means}))
    return pd.concat(frames, ignore_index=True)


def matched_lr(runs: Sequence[Any], reference: str, against: str) -> pd.DataFrame:
    """The factor on the experts' learning rate of `against` with which it moves its layers as far as `reference`.

    One row: reference, against, factor, low, high, seeds, lr (of `against` now), matched_lr (factor · lr).
    The factor is the ratio of the two mean effective steps over the run, paired by seed: geometric mean and 95 % t
    interval of the logarithms. It is exact only if the step is proportional to the learning rate and the paths are the
    same. So train `against` at matched_lr and call this again: a factor whose interval contains 1 is a match. Raises
    ValueError for a missing method, for runs without a common seed or recorded at different steps, and for a method
    that never moved.

    >>> found = matched_lr(pair, "gRSGD", "RSGD").iloc[0]
    >>> int(found["seeds"]), bool(np.isclose(found["matched_lr"], found["factor"] * found["lr"]))
    (2, True)
    """
    frame = effective_steps(runs)
    if missing := [name for name in (reference, against) if name not in set(frame["method"])]:
        raise ValueError(
            f"no run of {', '.join(map(repr, missing))}; "
            f"runs has {', '.join(map(repr, dict.fromkeys(frame['method'])))}"
        )
    first, second = (
        frame[frame["method"] == name].pivot(index="step", columns="seed", values="effective_step")
        for name in (reference, against)
    )
    shared = first.columns.intersection(second.columns)
    if shared.empty:
        raise ValueError(
            f"{reference!r} and {against!r} have no common seed with a recorded step; train both with the same seeds"
        )
    if not first.index.equals(second.index):
        raise ValueError(
            f"{reference!r} and {against!r} were recorded at different steps; train both with the same "
            "steps and record_experts_every"
        )
    means = np.stack([first[shared].mean().to_numpy(), second[shared].mean().to_numpy()])  # (2, seeds)
    if not (means > 0).all():
        still = reference if (means[0] <= 0).any() else against
        raise ValueError(f"the experts of {still!r} never moved; raise its lr or the number of steps")
    factor, low, high = np.exp(mean_interval(np.log(means[0] / means[1])))
    lr = learning_rate(runs, against)
    return pd.DataFrame(
        [
            {
                "reference": reference,
                "against": against,
                "factor": factor,
                "low": low,
                "high": high,
                "seeds": len(shared),
                "lr": lr,
                "matched_lr": factor * lr,
            }
        ]
    )


def learning_rate(runs: Sequence[Any], method: str) -> float:
    """The experts' peak learning rate of a method's runs; ValueError if they differ."""
    rates = {float(run.config.lr) for run in runs if run_key(run)["method"] == method}
    if len(rates) > 1:
        raise ValueError(f"runs of {method!r} have the learning rates {sorted(rates)}; give each rate its own name")
    return rates.pop()
