"""The anatomy of experts over training: how well conditioned, how similar, and how evenly used they are.

Frames have one row per (method, seed, step, module), with the layer that the module belongs to. A step counts the updates
made before: step 0 is the initialized model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..records import check_by, check_runs, check_whole, module_frame, normalized_entropy, recorded, seed_bands

KEYS = ("method", "seed", "step", "module", "layer")
CONDITIONS = ("gram_condition_a", "gram_condition_b", "damped_condition_b")
SIMILARITIES = ("map_similarity", "output_similarity", "update_similarity")


def conditioning(runs: Sequence[Any]) -> pd.DataFrame:
    """Columns of KEYS, gram_condition_a, gram_condition_b, damped_condition_b, singular_share.

    Condition numbers are medians over the module's experts: of A_i A_iᵀ and B_iᵀ B_i, and of B_iᵀ B_i with the damping
    that a Riemannian step adds. Experts with B_i = 0 have no undamped one and are left out (NaN if all are, as at the
    start); inf if half of the others are singular. singular_share: share of experts whose B_iᵀ B_i is zero or singular.

    >>> found = conditioning(pair)
    >>> bool((found["gram_condition_a"] >= 1).all())
    True
    >>> bool(found.query("step == 0")["gram_condition_b"].isna().all())  # B is still zero
    True
    """
    check_runs(runs)
    check_whole(runs)
    frames = []
    for run in runs:
        values = {kind: run.expert_records[kind].values for kind in CONDITIONS}  # (T, modules, E)
        columns = {kind: median(value) for kind, value in values.items()}
        columns["singular_share"] = (~np.isfinite(values["gram_condition_b"])).mean(-1)
        frames.append(module_frame(run, run.expert_records[CONDITIONS[0]], columns))
    return pd.concat(frames, ignore_index=True)


def median(values: np.ndarray) -> np.ndarray:
    """Lower median over the last axis, ignoring NaN, so that it is one of the values; NaN if all are NaN."""
    ordered = np.sort(values, axis=-1)  # NaN last
    count = (~np.isnan(values)).sum(-1, keepdims=True)
    return np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)[..., 0]


def similarity(runs: Sequence[Any]) -> pd.DataFrame:
    """Columns of KEYS, map_similarity, output_similarity, update_similarity: mean cosines over pairs of experts.

    0 for unrelated experts, 1 for experts that do the same. NaN if fewer than two maps (outputs, updates) differ from
    zero.

    >>> found = similarity(pair)["map_similarity"].dropna()
    >>> bool(found.between(-1, 1).all())
    True
    """
    check_runs(runs)
    check_whole(runs)
    frames = []
    for run in runs:
        columns = {kind: run.expert_records[kind].values for kind in SIMILARITIES}
        frames.append(module_frame(run, run.expert_records[SIMILARITIES[0]], columns))
    return pd.concat(frames, ignore_index=True)


def load_balance(runs: Sequence[Any]) -> pd.DataFrame:
    """Columns of KEYS, token_entropy, load_balance, load_variation, dead_share, importance_balance.

    token_entropy: normalized entropy of one token's gates, mean over tokens: how many experts a token uses.
    load_balance: normalized entropy over experts of the load (the share of tokens that use an expert); load_variation:
    its coefficient of variation; dead_share: experts that no token used. importance_balance: normalized entropy of the
    mean gates, which says more than the load if a gate keeps every expert.
    token_entropy does not measure the balance. If every token spreads its gates evenly over the same few experts, its
    entropy is as high as top-k allows, but the load is as uneven as possible. If each token uses one expert, and all
    experts are used equally often, the entropy is 0 and the load is perfectly balanced. A single expert has no
    entropy: NaN.

    >>> found = load_balance(pair)
    >>> int(found["step"].max()), bool(found["load_balance"].between(0, 1).all())
    (3, True)
    """
    check_runs(runs)
    frames = []
    for run in runs:
        kinds = zip(*(recorded(run, kind) for kind in ("gate_entropy", "gate_load", "gate_importance")))
        for entropy, load, importance in kinds:
            used = load.values.astype(float)  # (T, modules, E)
            with np.errstate(divide="ignore", invalid="ignore"):
                variation = used.std(-1) / used.mean(-1)
            columns = {
                "token_entropy": entropy.values if used.shape[-1] > 1 else np.full(used.shape[:2], np.nan),
                "load_balance": normalized_entropy(used),
                "load_variation": variation,
                "dead_share": (used == 0).mean(-1),
                "importance_balance": normalized_entropy(np.abs(importance.values.astype(float))),
            }
            frames.append(module_frame(run, load, columns))
    return pd.concat(frames, ignore_index=True)


def anatomy_bands(*frames: pd.DataFrame, by: str = "layer") -> pd.DataFrame:
    """Columns method, `by`, step, measure, mean, low, high, seeds, for every measure of the frames.

    frames: of `conditioning`, `similarity` and `load_balance`. by: "layer" or "module"; a layer's modules are averaged
    within a seed. mean, low and high are the mean, the lowest and the highest seed. Condition numbers are averaged as
    logarithms; an infinite one makes the mean infinite. NaN if no seed has a value. Raises ValueError for another `by`.

    >>> bands = anatomy_bands(load_balance(pair), by="layer")
    >>> bands["layer"].nunique(), bands["measure"].unique().tolist()[:2]
    (2, ['token_entropy', 'load_balance'])
    """
    check_by(by)
    long = pd.concat([frame.melt(list(KEYS), var_name="measure") for frame in frames], ignore_index=True)
    logarithmic = long["measure"].isin(CONDITIONS)
    long.loc[logarithmic, "value"] = np.log(long.loc[logarithmic, "value"])
    bands = seed_bands(long, ["method", by, "step", "measure"])
    logarithmic, columns = bands["measure"].isin(CONDITIONS), ["mean", "low", "high"]
    bands.loc[logarithmic, columns] = np.exp(bands.loc[logarithmic, columns])
    return bands
