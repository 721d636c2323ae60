"""How well clusters of prompts agree with the prompts' own labels, compared with two kinds of chance.

Mutual information is computed from contingency counts, so that all permutations of one labeling need one call of
`bincount`. AMI is that of Vinh, Epps & Bailey (2010), NMI the same without the correction for chance, both normalized by
the mean of the two entropies; homogeneity and completeness are those of Rosenberg & Hirschberg (2007).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd

from ...tasks.clusters import cluster

LABELS = ("dataset", "group")
HELD = 0.1  # share of a cluster from which on it holds a class


def clusterings(
    embeddings: np.ndarray,
    frame: pd.DataFrame,
    ks: Sequence[int] = (5, 10, 20, 32, 50),
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[int, np.ndarray]:
    """k-means labels of the embeddings for every k and seed.

    Args:
        embeddings: (n, d), rows of length 1.
        frame: n rows with `dataset` and `group`.
        ks: numbers of clusters. The numbers of data sets and of groups are added, because a clustering that is much
            finer or coarser than its labels cannot reach an agreement of 1.
        seeds: of k-means.

    Returns:
        {k: labels (seeds, n)}, in order of k.

    Raises:
        ValueError: for a different number of embeddings, a data set in two groups, or no seed.
    """
    check_rows(embeddings, frame)
    if not len(seeds):
        raise ValueError(f"seeds = {tuple(seeds)} is empty; give at least one seed of k-means")
    classes = {frame[name].nunique() for name in LABELS}
    return {
        k: np.stack([cluster(embeddings, k, seed=seed).labels for seed in seeds])
        for k in sorted({*map(int, ks), *classes} - {1})
    }


def agreement(clusters: Mapping[int, np.ndarray], frame: pd.DataFrame, permutations: int = 200) -> pd.DataFrame:
    """Agreement of clusters with the data sets and with the predefined groups, one row per k and labeling.

    Two baselines of the seed mean: `chance_*` (mean, 95 % quantile, and `chance_p`) shuffles the labels over prompts;
    `regrouped_*`, for groups only, assigns the groups to whole data sets at random, which shows whether the groups say
    more than a random grouping of these data sets. The p-values are (1 + permutations that reach the measured AMI) /
    (1 + permutations). A labeling with one class has no agreement: NaN.

    Args:
        clusters: {k: labels (seeds, n)}, as `clusterings` returns them.
        frame: n rows with `dataset` and `group`.
        permutations: of each baseline.

    Returns:
        k, labels ("dataset" or "group"), classes (how many), matched (k = classes), seeds (how many), and for each of
        `scores` the mean over the seeds of k-means and its standard deviation (`ami`, `ami_sd`, ...).

    Raises:
        ValueError: for fewer than one permutation.
    """
    if permutations < 1:
        raise ValueError(f"permutations = {permutations}; give at least one")
    codes = {name: pd.factorize(frame[name])[0] for name in LABELS}
    rows = []
    for k, found in clusters.items():
        for name in LABELS:
            null = {"chance": shuffled_counts(found, codes[name], permutations)}
            if name == "group":
                null["regrouped"] = regrouped_counts(found, codes["dataset"], codes["group"], permutations)
            classes = int(codes[name].max()) + 1
            rows.append(
                {
                    "k": k,
                    "labels": name,
                    "classes": classes,
                    "matched": k == classes,
                    "seeds": len(found),
                    **_measured(counts(found, codes[name]), null),
                }
            )
    return pd.DataFrame(rows)


def seed_agreement(clusters: Mapping[int, np.ndarray], frame: pd.DataFrame, seeds: Sequence[int]) -> pd.DataFrame:
    """The values that `agreement` averages: one row per k and seed of k-means.

    Args:
        clusters: {k: labels (seeds, n)}, as `clusterings` returns them.
        frame: n rows with `dataset` and `group`.
        seeds: of the clusterings, in order.

    Returns:
        k, seed, dataset_ami, group_ami, and mixed: the share of clusters that hold more than one group (`held`).
    """
    codes = {name: pd.factorize(frame[name])[0] for name in LABELS}
    frames = []
    for k, found in clusters.items():
        tables = {name: counts(found, codes[name]) for name in LABELS}  # (seeds, clusters, classes)
        frames.append(
            pd.DataFrame(
                {
                    "k": k,
                    "seed": list(seeds),
                    **{f"{name}_ami": scores(table)["ami"] for name, table in tables.items()},
                    "mixed": (held(tables["group"]).sum(-1) > 1).mean(-1),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def held(tables: np.ndarray) -> np.ndarray:
    """Which classes a cluster holds: those with at least a tenth of its prompts; (..., clusters, classes), boolean.

    Smaller parts are outliers, which every clustering has.
    """
    return tables >= np.maximum(HELD * tables.sum(-1, keepdims=True), 1)


def by_text(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables of several texts, {name of the text: table}, as one table; the name is the first column, `text`."""
    found = pd.concat([table.assign(text=text) for text, table in tables.items()], ignore_index=True)
    return found[["text", *found.columns.drop("text")]]


def check_rows(embeddings: np.ndarray, frame: pd.DataFrame) -> None:
    """ValueError unless there is one embedding for each row of the frame and each data set is in one group.

    Also for a frame of plain texts, which has no such labels.
    """
    if missing := [name for name in LABELS if name not in frame]:
        raise ValueError(
            f"frame has no column {' and no column '.join(missing)}; give each prompt the labels for the comparison"
        )
    if len(embeddings) != len(frame) or not len(frame):
        raise ValueError(f"embeddings has {len(embeddings)} rows but frame has {len(frame)}; embed its prompts")
    groups = frame.groupby("dataset", sort=False)["group"].unique()
    if len(split := groups[groups.map(len) > 1]):
        raise ValueError(f"data set {split.index[0]!r} is in the groups {', '.join(split.iloc[0])}; give it only one")


def counts(clusters: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Contingency tables: clusters (s, n) and class codes (n,) or (s, n) -> (s, clusters, classes) integers."""
    clusters, codes = np.broadcast_arrays(np.atleast_2d(clusters), np.atleast_2d(codes))  # both (s, n)
    shape = len(clusters), int(clusters.max()) + 1, int(codes.max()) + 1
    cells = (np.arange(shape[0])[:, None] * shape[1] + clusters) * shape[2] + codes  # (s, n)
    return np.bincount(cells.ravel(), minlength=int(np.prod(shape))).reshape(shape)


def shuffled_counts(clusters: np.ndarray, codes: np.ndarray, permutations: int, seed: int = 0) -> np.ndarray:
    """Tables (permutations, s, clusters, classes) of clusters (s, n) with the class codes (n,) in random order."""
    order = np.random.default_rng(seed).permuted(np.tile(codes, (permutations, 1)), axis=1)  # (permutations, n)
    return np.stack([counts(row, order) for row in clusters], axis=1)


def regrouped_counts(
    clusters: np.ndarray, datasets: np.ndarray, groups: np.ndarray, permutations: int, seed: int = 0
) -> np.ndarray:
    """Tables (permutations, s, clusters, groups) in which whole data sets swap their groups.

    In: clusters (s, n), codes of data set and group (n,). Each group keeps its number of data sets.
    """
    group_of = np.zeros(int(datasets.max()) + 1, dtype=np.int64)  # (datasets,)
    group_of[datasets] = groups
    dealt = np.random.default_rng(seed).permuted(np.tile(group_of, (permutations, 1)), axis=1)
    members = np.eye(int(groups.max()) + 1, dtype=np.int64)[dealt]  # (permutations, datasets, groups)
    return counts(clusters, datasets)[None] @ members[:, None]  # (permutations, s, clusters, groups)


def scores(tables: np.ndarray) -> dict[str, np.ndarray]:
    """ami, nmi, homogeneity, completeness and purity of contingency tables (..., clusters, classes), each (...).

    NaN if there is only one class.
    """
    by_cluster, by_class = tables.sum(-1), tables.sum(-2)  # (..., clusters), (..., classes)
    joint, cluster_bits, class_bits = entropy(tables, axes=2), entropy(by_cluster), entropy(by_class)
    shared = np.maximum(cluster_bits + class_bits - joint, 0.0)  # mutual information, nats
    expected = _expected(by_cluster, by_class)
    mean = (cluster_bits + class_bits) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "ami": (shared - expected) / (mean - expected),
            "nmi": shared / mean,
            "homogeneity": shared / class_bits,
            "completeness": np.where(cluster_bits > 0, shared / cluster_bits, 1.0),
            "purity": tables.max(-1).sum(-1) / tables.sum((-1, -2)),
        }
    return {name: np.where(class_bits > 0, value, np.nan) for name, value in found.items()}


def entropy(table: np.ndarray, axes: int = 1) -> np.ndarray:
    """Entropy in nats of counts, over the last `axes` dimensions; 0 for a table of zeros."""
    flat = table.reshape(*table.shape[: table.ndim - axes], -1)
    total = flat.sum(-1)
    logs = np.arange(int(total.max(initial=0)) + 1, dtype=np.float64)
    logs[1:] *= np.log(logs[1:])  # n log n for every count n that can occur
    return np.log(np.maximum(total, 1)) - logs[flat].sum(-1) / np.maximum(total, 1)


def _expected(by_cluster: np.ndarray, by_class: np.ndarray) -> np.ndarray:
    """Expected mutual information of labelings with these class sizes, (...); it depends only on the sizes."""
    lead = np.broadcast_shapes(by_cluster.shape[:-1], by_class.shape[:-1])
    first = np.sort(np.broadcast_to(by_cluster, (*lead, by_cluster.shape[-1])).reshape(-1, by_cluster.shape[-1]))
    second = np.sort(np.broadcast_to(by_class, (*lead, by_class.shape[-1])).reshape(-1, by_class.shape[-1]))
    values = [_expected_of(tuple(a.tolist()), tuple(b.tolist())) for a, b in zip(first, second)]
    return np.array(values).reshape(lead)


@cache
def _expected_of(cluster_sizes: tuple[int, ...], class_sizes: tuple[int, ...]) -> float:
    from scipy.sparse import csr_matrix
    from sklearn.metrics.cluster import expected_mutual_information

    # the function uses only the marginals, so any table with these marginals is enough: fill one from a corner
    table = _corner_filled(np.array(cluster_sizes), np.array(class_sizes))
    return float(expected_mutual_information(csr_matrix(table), int(table.sum())))


def _corner_filled(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    row_ends, column_ends = np.cumsum(rows), np.cumsum(columns)
    low = np.maximum((row_ends - rows)[:, None], (column_ends - columns)[None])
    return np.maximum(np.minimum(row_ends[:, None], column_ends[None]) - low, 0)  # (rows, columns)


def _measured(tables: np.ndarray, null: dict[str, np.ndarray]) -> dict[str, float]:
    """Seed means and deviations of the scores of tables (seeds, clusters, classes), and the baselines of the means."""
    row: dict[str, float] = {}
    for name, values in scores(tables).items():
        row[name], row[f"{name}_sd"] = float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else np.nan
    for kind in ("chance", "regrouped"):
        found = {name: value.mean(1) for name, value in scores(null[kind]).items()} if kind in null else {}
        for name in ("ami", "nmi"):
            draws = found.get(name, np.array([np.nan]))  # (permutations,)
            row[f"{kind}_{name}"], row[f"{kind}_{name}_95"] = float(draws.mean()), float(np.quantile(draws, 0.95))
        draws = found.get("ami", np.array([np.nan]))
        # equal tables must count as reached, although their sums may differ in the last bit
        reached = (draws >= row["ami"] - 1e-12).sum()
        row[f"{kind}_p"] = np.nan if np.isnan(draws).any() else float((1 + reached) / (1 + len(draws)))
    return row
