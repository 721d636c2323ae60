"""Paths of router weights during training, on axes that all methods share (T-REX Fig. 2).

Routers differ in shape, 8 rows for LoRA-MoE and 32 for T-REX, but each row belongs to one expert and is a vector in the
input space of the same frozen layer, so rows can be compared. A row's path is drawn relative to its own start:
LoRA-MoE's router starts at random and T-REX's at zero, and only the movement is due to training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..asked import Recorded, asked, instance
from ..records import check_runs, method_of, module_tensor, named, run_key, shared_modules

PATH_COLUMNS = ("pc1", "pc2", "pc3")
SAME_WAY = 1e-5  # of the longest displacement: ends that are closer count as equal


@dataclass(frozen=True)
class PathAxes:
    """Three directions of one module's input space.

    components (3, features), rows of length 1. explained (3,): share of the squared distance from the start along each
    direction, methods weighted equally; by_method: the same for each method, columns method, pc1, pc2, pc3.
    """

    module: str
    components: np.ndarray
    explained: np.ndarray
    by_method: pd.DataFrame


def displacements(values: np.ndarray) -> np.ndarray:
    """Router weights (T, experts, features) -> each expert's displacement from its own start, same shape, float64."""
    return values.astype(np.float64) - values[0]


@asked()
def path_axes(runs: Recorded, module: str) -> PathAxes:
    """Principal axes of expert rows' displacements, pooled over methods, seeds, steps and experts.

    Every method's second moment is first divided by its trace, so that 32 experts count no more than 8, and a method
    that moves far no more than one that moves little. Not centered: the origin is every row's start.
    Raises ValueError for unknown modules and for layers whose input sizes differ.

    >>> axes = path_axes(runs, module)
    >>> axes.by_method.columns.tolist()
    ['method', 'pc1', 'pc2', 'pc3']
    """
    check_runs(runs)
    moments: dict[str, np.ndarray] = {}
    for run in runs:
        rows = displacements(module_tensor(run, module)[1])
        rows = rows.reshape(-1, rows.shape[-1])  # (T*experts, features)
        method = method_of(run)
        width = len(next(iter(moments.values()))) if moments else rows.shape[1]
        if rows.shape[1] != width:
            raise ValueError(
                f"module {module!r} has {rows.shape[1]} features in the run of {named(run)}, and {width} in "
                "another; pass runs of one backbone"
            )
        moments[method] = moments.get(method, 0.0) + rows.T @ rows / len(rows)  # (features, features)
    for method, moment in moments.items():
        if not np.trace(moment) > 0:
            raise ValueError(f"the router of {module!r} never moved in runs of {method!r}; check its learning rate")
    shares = {method: moment / np.trace(moment) for method, moment in moments.items()}
    pooled = sum(shares.values()) / len(shares)
    components = leading_directions(pooled)
    along = {method: np.einsum("kd,de,ke->k", components, share, components) for method, share in shares.items()}
    by_method = pd.DataFrame([(method, *values) for method, values in along.items()], columns=["method", *PATH_COLUMNS])
    return PathAxes(module, components, np.mean(list(along.values()), axis=0), by_method)


def leading_directions(moment: np.ndarray) -> np.ndarray:
    """(3, features) eigenvectors of the largest eigenvalues, each with its largest entry positive."""
    from scipy.linalg import eigh

    features = len(moment)
    if features < 3:
        raise ValueError(f"a router with {features} features has fewer than 3 axes; draw layers with larger inputs")
    _, vectors = eigh(moment, subset_by_index=[features - 3, features - 1])
    directions = vectors[:, ::-1].T
    largest = np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], axis=1)
    return directions * np.sign(largest)


@asked(points=2)
def router_paths(runs: Recorded, module: str, axes: PathAxes | None = None, points: int = 200) -> pd.DataFrame:
    """One row per (method, seed, expert, step), sorted by expert and step.

    Columns method, seed, expert, rank (of the run's experts by `farthest_first`), step, pc1, pc2, pc3
    (displacement along `axes`, by default `path_axes(runs, module)`), distance from the start in the full space, loss
    (the training loss of the step, without balance loss). At most `points` steps per line, including its ends. Raises
    ValueError for fewer than 2 points.

    >>> paths = router_paths(runs, module, axes)
    >>> paths[["pc1", "pc2", "pc3", "distance"]].iloc[0].tolist(), int(paths["step"].max())
    ([0.0, 0.0, 0.0, 0.0], 3)
    """
    if axes is not None:
        instance("axes", axes, PathAxes, "pass what path_axes(runs, module) returns")
    axes = path_axes(runs, module) if axes is None else axes
    frames = []
    for run in runs:
        steps, values = module_tensor(run, module)
        kept = np.unique(np.linspace(0, len(steps) - 1, min(points, len(steps))).round().astype(int))
        moved = displacements(values)[kept].transpose(1, 0, 2)  # (experts, points, features)
        distance = np.linalg.norm(moved, axis=2)  # (experts, points)
        rank = farthest_first(moved[:, -1])
        experts = np.arange(len(moved))
        frames.append(
            pd.DataFrame(
                {
                    **run_key(run),
                    "expert": np.repeat(experts, len(kept)),
                    "rank": np.repeat(rank, len(kept)),
                    "step": np.tile(steps[kept], len(experts)),
                    **dict(zip(PATH_COLUMNS, (moved @ axes.components.T).reshape(-1, 3).T)),
                    "distance": distance.reshape(-1),
                    "loss": np.tile(losses_at(run, steps[kept]), len(experts)),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def farthest_first(ends: np.ndarray) -> np.ndarray:
    """Ranks (experts,) from 1: first the expert that ends furthest from its start, then always the one whose end
    (experts, features) is furthest from the start and from all ends ranked before.

    The first few then represent all: experts on a common path count once.
    """
    rank = np.zeros(len(ends), dtype=int)
    nearest = np.linalg.norm(ends, axis=1)
    for place in range(1, len(ends) + 1):
        chosen = int(np.where(rank == 0, nearest, -1.0).argmax())
        rank[chosen] = place
        nearest = np.minimum(nearest, np.linalg.norm(ends - ends[chosen], axis=1))
    return rank


def path_bundles(paths: pd.DataFrame) -> pd.DataFrame:
    """The different paths of the experts of one seed, and how many experts take each of them.

    Args:
        paths: rows of `router_paths` of one seed; ends are compared along the three axes and in distance.

    Returns:
        One row per method and path: method, expert (the first on it), pc1, pc2, pc3 (its end), experts.

    Example:
        >>> bundles = path_bundles(paths[paths["seed"] == 0])
        >>> bundles.groupby("method", sort=False)["experts"].agg(["size", "sum"])
                       size  sum
        method
        LoRA-MoE          4    4
        mix-and-match     2    8
        T-REX             8    8
    """
    rows = []
    for method, own in paths.groupby("method", sort=False):
        last = own[own["step"] == own["step"].max()].reset_index(drop=True)
        ends = last[[*PATH_COLUMNS, "distance"]].to_numpy()  # (experts, 4)
        same = np.linalg.norm(ends[:, None] - ends[None], axis=2) <= SAME_WAY * last["distance"].max()
        first = same.argmax(axis=1)  # of each expert, the first that ends there
        counts = pd.Series(first).value_counts().sort_index()
        chosen = last.loc[counts.index, ["expert", *PATH_COLUMNS]]
        rows.append(chosen.assign(experts=counts.to_numpy()).assign(method=method))
    return pd.concat(rows, ignore_index=True)[["method", "expert", *PATH_COLUMNS, "experts"]]


def ways_taken(bundles: pd.DataFrame) -> dict[str, str]:
    """`path_bundles` of each method in words: "8 experts, 8 paths", "32 experts on only 4 paths"."""
    told = {}
    for method, own in bundles.groupby("method", sort=False):
        experts, ways = int(own["experts"].sum()), len(own)
        told[str(method)] = (
            f"{experts} experts, {ways} paths" if ways == experts else f"{experts} experts, only {ways} paths"
        )
    return told


def losses_at(run: Any, steps: np.ndarray) -> np.ndarray:
    """Training loss, without balance loss, of the update after each record.

    Records count steps from 0, the history from 1.
    """
    history = run.history[run.history["split"] == "train"]
    loss = history["loss"].to_numpy() - history["balance_loss"].fillna(0.0).to_numpy()
    return pd.Series(loss, index=history["step"].to_numpy()).reindex(steps + 1).to_numpy(dtype=float)


def distinct_experts(runs: Sequence[Any]) -> pd.DataFrame:
    """How many different paths the experts took: columns method, seed, module, experts, distinct.

    Two experts took the same path if their displacements at the last record differ by at most `SAME_WAY` times the
    longest one. With B and the router at zero and without intuition, all up vectors of mix-and-match get the same
    gradients, so experts that share a down vector never separate. A router that starts at random, or an intuition that
    differs between experts, breaks this symmetry.

    >>> found = distinct_experts(runs)
    >>> found.groupby("method", sort=False)[["experts", "distinct"]].max()
                   experts  distinct
    method
    LoRA-MoE             4         4
    mix-and-match        8         2
    T-REX                8         8
    """
    rows = []
    for module in shared_modules(runs):
        for run in runs:
            ends = displacements(module_tensor(run, module)[1][[0, -1]])[1]  # (experts, features)
            gaps = np.linalg.norm(ends[:, None] - ends[None], axis=2)  # (experts, experts)
            same = gaps <= SAME_WAY * np.linalg.norm(ends, axis=1).max()
            new = ~np.tril(same, -1).any(1)  # equal to no expert before it
            rows.append({**run_key(run), "module": module, "experts": len(ends), "distinct": int(new.sum())})
    return pd.DataFrame(rows)


def moving_module(runs: Sequence[Any], modules: Sequence[str]) -> str:
    """The module whose routers move furthest: the geometric mean over runs of the norm of the whole displacement.

    This rule chooses the module to draw, so that no one chooses it by how its figure looks.

    >>> moving_module(runs, [module])
    'layers.3.self_attn.v_proj'
    """
    check_runs(runs)
    scores = []
    for module in modules:
        ends = [displacements(module_tensor(run, module)[1][[0, -1]])[1] for run in runs]
        scores.append(np.mean([np.log(np.linalg.norm(end) + 1e-30) for end in ends]))
    return str(modules[int(np.argmax(scores))])
