"""How smooth the path of a router's weights is, in the full weight space, compared with noise alone.

A path's tortuosity depends on its number of steps, and successive steps of an optimizer with momentum point in similar
directions even if the gradients are pure noise. So each number comes with two references computed from the path's own
step lengths: independent directions (a random walk), and the directions that momentum gives for uncorrelated gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ..records import blocks, check_runs, recorded, run_key, stride

MEASURES = ("tortuosity", "turning_angle", "step_variation", "relative_tortuosity")
ADAM_BETA1 = 0.9
METHOD, OTHERS = "T-REX", ("mix-and-match", "LoRA-MoE")


def smoothness(runs: Sequence[Any]) -> pd.DataFrame:
    """One row per (method, seed, module): the path of the whole router matrix at the recorded steps.

    stride (training steps between records), moves (steps of non-zero length; none at learning rate 0), path_length,
    displacement (distance from first to last), tortuosity (their ratio, 1 for a straight line), turning_angle (mean
    angle between successive moves, degrees), step_variation (mean absolute change of the log length between successive
    moves; the slow change of a schedule hardly counts), walk_tortuosity, momentum_tortuosity and momentum_angle (the
    two references; a random walk turns by 90 degrees), relative_tortuosity (tortuosity divided by momentum_tortuosity:
    1 is noise, less is more directed than noise).
    Undefined values (a router that ends where it began, fewer than two moves) are NaN.

    >>> table = smoothness(runs)
    >>> len(table), int(table["moves"].max()), bool((table["tortuosity"].dropna() > 0.999).all())
    (24, 2, True)
    """
    check_runs(runs)
    frames = []
    for run in runs:
        for array in recorded(run, "router_weight"):
            gap = stride(array)
            # the matrix consists of its rows, so squared lengths and dot products add up over experts
            squares, dots, displacement = (part.sum(-1) for part in path_products(array))
            measured = path_measures(squares, dots, displacement, momentum_of(run), gap)
            frames.append(_labeled(run, array, gap, measured))
    return pd.concat(frames, ignore_index=True)


def _labeled(run: Any, array: xr.DataArray, gap: int, measured: dict[str, np.ndarray]) -> pd.DataFrame:
    """measured: name -> (modules,); returns one row per module."""
    labels = [str(name) for name in array[array.dims[1]].values]
    return pd.DataFrame({**run_key(run), "module": labels, "stride": gap, **measured})


def path_products(array: xr.DataArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (T, modules, experts, features), lazy -> the products behind all measures, for each expert's row.

    Squared lengths of steps (T-1, modules, experts), dot products of successive steps (T-2, …), and the squared
    distance from first to last (modules, experts). Read once, chunk by chunk. Steps within the rounding error of
    float32 weights count as zero.
    """
    squares, dots = [], []
    first = array[0].values.astype(np.float64)
    last, step = first[None][:0], first[None][:0]  # the end of the previous block: nothing yet
    for block in blocks(array):
        values = np.concatenate([last, block.astype(np.float64)])
        steps = np.diff(values, axis=0)  # (b, modules, experts, features)
        length = np.einsum("tmef,tmef->tme", steps, steps)
        size = np.einsum("tmef,tmef->tme", values[1:], values[1:])
        steps[length <= (np.finfo(np.float32).eps ** 2) * size] = 0.0
        squares.append(np.einsum("tmef,tmef->tme", steps, steps))
        steps = np.concatenate([step, steps])
        dots.append(np.einsum("tmef,tmef->tme", steps[1:], steps[:-1]))
        step, last = steps[-1:], values[-1:]
    return np.concatenate(squares), np.concatenate(dots), ((last[0] - first) ** 2).sum(-1)


def path_measures(
    squares: np.ndarray, dots: np.ndarray, displacement: np.ndarray, beta: float, gap: int
) -> dict[str, np.ndarray]:
    """Measures of paths, name -> same shape as `displacement`, from `path_products` (time first)."""
    lengths = np.sqrt(squares)
    path, end = lengths.sum(0), np.sqrt(displacement)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = dots / (lengths[1:] * lengths[:-1])
        change = np.abs(np.log(lengths[1:] / lengths[:-1]))
        tortuosity = np.where(end > 0, path / end, np.nan)
        correlation = momentum_correlation(beta, gap)
        momentum = path / expected_displacement(lengths, correlation, beta**gap)
        walk = path / np.sqrt(squares.sum(0))
    return {
        "moves": (squares > 0).sum(0),
        "path_length": path,
        "displacement": end,
        "tortuosity": tortuosity,
        "turning_angle": finite_mean(np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))),
        "step_variation": finite_mean(change),
        "walk_tortuosity": walk,
        "momentum_tortuosity": momentum,
        "momentum_angle": np.full(path.shape, np.degrees(np.arccos(correlation))),
        "relative_tortuosity": tortuosity / momentum,
    }


def finite_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of finite values; NaN if there are none."""
    finite = np.isfinite(values)
    count = finite.sum(0)
    return np.where(count > 0, np.where(finite, values, 0.0).sum(0) / np.maximum(count, 1), np.nan)


def momentum_of(run: Any) -> float:
    """The decay of the first moment in the run's optimizer: Adam's, or 0 for plain gradient descent."""
    return ADAM_BETA1 if "adam" in str(getattr(run.config, "optimizer", "adamw")).lower() else 0.0


def momentum_correlation(beta: float, gap: int = 1) -> float:
    """Correlation of successive recorded moves, each the sum of `gap` updates, if gradients are white noise.

    Updates are then an exponential average of noise with correlation beta^lag; for gap = 1 this is beta itself.
    """
    lags = np.arange(gap)[None] - np.arange(gap)[:, None]
    return float((beta ** (gap + lags)).sum() / (beta ** np.abs(lags).astype(float)).sum())


def expected_displacement(lengths: np.ndarray, correlation: float, decay: float) -> np.ndarray:
    """Root mean square length of the sum of moves with these lengths (T, …) and random but correlated directions.

    Two moves that are n apart have the mean cosine correlation · decay^(n-1); correlation 0 is the random walk.
    """
    from scipy.signal import lfilter

    earlier = lfilter([0.0, 1.0], [1.0, -decay], lengths, axis=0)  # sum over n of decay^(n-1) · length n moves ago
    return np.sqrt((lengths**2 + 2.0 * correlation * lengths * earlier).sum(0))


def gradient_noise(runs: Sequence[Any]) -> pd.DataFrame:
    """Router gradients of successive records: one row per (method, seed, module).

    stride, gradient_norm (root mean square), successive_cosine (mean), gradient_variance (half the mean squared
    difference of successive gradients, so that a slow drift does not count as noise), noise_share (that divided by the
    mean square: 0 for a constant gradient, 1 for white noise). Gradients are those that the optimizer got, after
    clipping.

    >>> found = gradient_noise(runs)
    >>> len(found), bool((found["gradient_norm"] > 0).all())
    (24, True)
    """
    check_runs(runs)
    frames = []
    for run in runs:
        for array in recorded(run, "router_grad"):
            squares, dots = gradient_products(array)
            with np.errstate(divide="ignore", invalid="ignore"):
                variance = 0.5 * (squares[1:] + squares[:-1] - 2.0 * dots).mean(0)
                measured = {
                    "gradient_norm": np.sqrt(squares.mean(0)),
                    "successive_cosine": finite_mean(dots / np.sqrt(squares[1:] * squares[:-1])),
                    "gradient_variance": variance,
                    "noise_share": variance / (0.5 * (squares[1:] + squares[:-1])).mean(0),
                }
            frames.append(_labeled(run, array, stride(array), measured))
    return pd.concat(frames, ignore_index=True)


def gradient_products(array: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Gradients (T, modules, experts, features), lazy -> squared norms (T, modules), successive dots (T-1, modules)."""
    squares, dots = [], []
    last = None
    for values in blocks(array):
        values = values.astype(np.float64)
        squares.append(np.einsum("tmef,tmef->tm", values, values))
        values = values if last is None else np.concatenate([last, values])
        dots.append(np.einsum("tmef,tmef->tm", values[1:], values[:-1]))
        last = values[-1:]
    return np.concatenate(squares), np.concatenate(dots)
