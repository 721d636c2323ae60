"""Agreement of the embedding space with labels, without clustering: what the nearest neighbors have in common."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .agreement import check_rows

MEASURES = ("same data set", "same group", "same group, other data sets")
BLOCK = 1024  # rows whose similarities are in memory at a time


def neighbor_shares(embeddings: np.ndarray, frame: pd.DataFrame, neighbors: int = 10) -> pd.DataFrame:
    """Share of a prompt's nearest neighbors (by cosine) that have its label, averaged in every data set.

    Args:
        embeddings: (n, d), rows of length 1.
        frame: n rows with `dataset` and `group`.
        neighbors: number per prompt.

    Returns:
        One row per measure and data set: measure, dataset, share, chance (the share for neighbors drawn at random),
        prompts. The measures are "same data set"; "same group"; and "same group, other data sets", which leaves out a
        prompt's own data set, and data sets that are alone in their group. It shows whether tasks of one group are
        close to each other.

    Raises:
        ValueError: for a different number of embeddings, or fewer candidates than neighbors.
    """
    check_rows(embeddings, frame)
    dataset, group = (pd.factorize(frame[name])[0] for name in ("dataset", "group"))  # (n,) each
    everything, others = np.ones(len(frame), dtype=bool), _has_sibling(dataset, group)
    parts = []
    for measure, label, outside, asked in (
        (MEASURES[0], dataset, False, everything),
        (MEASURES[1], group, False, everything),
        (MEASURES[2], group, True, others),
    ):
        index = np.flatnonzero(asked)
        share, chance = _shares(np.asarray(embeddings), label, dataset, index, neighbors, outside)
        names = frame["dataset"].to_numpy()[index]
        found = pd.DataFrame({"measure": measure, "dataset": names, "share": share, "chance": chance, "prompts": 1})
        means = {"share": "mean", "chance": "mean", "prompts": "sum"}
        parts.append(found.groupby(["measure", "dataset"], sort=False).agg(means).reset_index())
    return pd.concat(parts, ignore_index=True)


def neighbor_agreement(shares: pd.DataFrame) -> pd.DataFrame:
    """`neighbor_shares` averaged over prompts, one row per measure.

    Returns:
        measure, share, chance, sd (of the means of the data sets), datasets, prompts; NaN if there is no such prompt.
    """
    rows = []
    for measure in MEASURES:
        found = shares[shares["measure"] == measure]
        total = int(found["prompts"].sum())
        rows.append(
            {
                "measure": measure,
                "share": (found["share"] * found["prompts"]).sum() / total if total else np.nan,
                "chance": (found["chance"] * found["prompts"]).sum() / total if total else np.nan,
                "sd": found["share"].std(),
                "datasets": len(found),
                "prompts": total,
            }
        )
    return pd.DataFrame(rows)


def _has_sibling(dataset: np.ndarray, group: np.ndarray) -> np.ndarray:
    datasets_of = pd.Series(dataset).groupby(group).nunique().to_numpy()  # (groups,)
    return datasets_of[group] > 1  # (n,)


def _shares(
    embeddings: np.ndarray, label: np.ndarray, dataset: np.ndarray, index: np.ndarray, neighbors: int, outside: bool
) -> tuple[np.ndarray, np.ndarray]:
    """For the prompts `index` (m,): share of their neighbors with their label, and of all their candidates; (m,)."""
    shares, chances = np.empty(len(index)), np.empty(len(index))
    for start in range(0, len(index), BLOCK):
        block = index[start : start + BLOCK]  # (b,)
        barred = dataset[block][:, None] == dataset[None] if outside else block[:, None] == np.arange(len(dataset))
        candidates = len(dataset) - barred.sum(1)  # (b,)
        if (few := int(candidates.min())) < neighbors:
            raise ValueError(f"neighbors = {neighbors} but a prompt has only {few} candidates; pass fewer neighbors")
        same = (label[block][:, None] == label[None]) & ~barred  # (b, n)
        similarity = np.where(barred, -np.inf, embeddings[block] @ embeddings.T)  # (b, n)
        # a stable sort orders ties in the same way on every machine
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbors]
        rows = slice(start, start + len(block))
        shares[rows], chances[rows] = np.take_along_axis(same, nearest, 1).mean(1), same.sum(1) / candidates
    return shares, chances
