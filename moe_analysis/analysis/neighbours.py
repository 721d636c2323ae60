"""Agreement of the embedding space with labels without any clustering: what the nearest neighbours have in common."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .agreement import check_rows

BLOCK = 1024  # rows whose similarities are held at a time


def neighbour_agreement(embeddings: np.ndarray, frame: pd.DataFrame, neighbours: int = 10) -> pd.DataFrame:
    """Share of a prompt's nearest neighbours (by cosine) that have its label, against the share of all candidates.

    In: embeddings (n, d), rows of length 1; `frame`, n rows with `dataset` and `group`. Three rows: `measure` "same
    data set"; "same group"; and "same group, other data sets", where a prompt's own data set is left out, and prompts
    whose group has no other data set too: the question whether tasks of one group lie together. Columns: measure,
    share, chance (what neighbours drawn at random would share), sd (of the means of the data sets), datasets, prompts.
    NaN where no prompt can be asked. Raises ValueError for a mismatch or too few rows.
    """
    check_rows(embeddings, frame)
    dataset, group = (pd.factorize(frame[name])[0] for name in ("dataset", "group"))  # (n,) each
    everything, others = np.ones(len(frame), dtype=bool), _has_sibling(dataset, group)
    rows = []
    for measure, label, outside, asked in (
        ("same data set", dataset, False, everything),
        ("same group", group, False, everything),
        ("same group, other data sets", group, True, others),
    ):
        index = np.flatnonzero(asked)
        share, chance = _shares(np.asarray(embeddings), label, dataset, index, neighbours, outside)
        of_dataset = pd.Series(share).groupby(dataset[index]).mean()
        rows.append(
            {
                "measure": measure,
                "share": share.mean() if len(index) else np.nan,
                "chance": chance.mean() if len(index) else np.nan,
                "sd": of_dataset.std(),
                "datasets": len(of_dataset),
                "prompts": len(index),
            }
        )
    return pd.DataFrame(rows)


def compare_neighbours(embeddings: Mapping[str, np.ndarray], frame: pd.DataFrame, neighbours: int = 10) -> pd.DataFrame:
    """`neighbour_agreement` of several embeddings of the same rows, {name of the text: (n, d)}, in column `text`.

    >>> compare_neighbours(texts, frame, neighbours=5).columns[:4].tolist()
    ['text', 'measure', 'share', 'chance']
    """
    tables = [neighbour_agreement(matrix, frame, neighbours).assign(text=text) for text, matrix in embeddings.items()]
    table = pd.concat(tables, ignore_index=True)
    return table[["text", *table.columns.drop("text")]]


def _has_sibling(dataset: np.ndarray, group: np.ndarray) -> np.ndarray:
    datasets_of = pd.Series(dataset).groupby(group).nunique().to_numpy()  # (groups,)
    return datasets_of[group] > 1  # (n,)


def _shares(
    embeddings: np.ndarray, label: np.ndarray, dataset: np.ndarray, index: np.ndarray, neighbours: int, outside: bool
) -> tuple[np.ndarray, np.ndarray]:
    """For the prompts `index` (m,): share of their neighbours with their label, and of all their candidates; (m,)."""
    shares, chances = np.empty(len(index)), np.empty(len(index))
    for start in range(0, len(index), BLOCK):
        block = index[start : start + BLOCK]  # (b,)
        barred = dataset[block][:, None] == dataset[None] if outside else block[:, None] == np.arange(len(dataset))
        candidates = len(dataset) - barred.sum(1)  # (b,)
        if (few := int(candidates.min())) < neighbours:
            raise ValueError(f"neighbours = {neighbours} but a prompt has only {few} candidates; pass fewer neighbours")
        same = (label[block][:, None] == label[None]) & ~barred  # (b, n)
        similarity = np.where(barred, -np.inf, embeddings[block] @ embeddings.T)  # (b, n)
        # a stable order settles ties in the same way on every machine
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
        rows = slice(start, start + len(block))
        shares[rows], chances[rows] = np.take_along_axis(same, nearest, 1).mean(1), same.sum(1) / candidates
    return shares, chances
