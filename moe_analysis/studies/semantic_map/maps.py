"""Which prompts a semantic map shows, where they are on it, and what their clusters contain."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ...extras import extra
from ...tasks.cache import ArrayCache, cache_folder, digest_of
from ...tasks.prompts import listed
from .agreement import LABELS, check_rows, entropy

METHODS = ("umap", "pca", "tsne")
NEIGHBORS = 15  # of UMAP's graph, its default


def map_sample(frame: pd.DataFrame, datasets: int = 20, rows: int = 100, seed: int = 0) -> pd.DataFrame:
    """The prompts of a semantic map: `rows` of each of `datasets` data sets, in the frame's order, index from 0.

    Data sets are taken in turns, one of each group, then a second of each group and so on, both in order of
    appearance; all of them if there are fewer. If a data set has train rows, only those are used. A prompt that was
    already taken is skipped, so that no prompt has two labels; the rows are then drawn at random by `seed`. A data set
    with fewer rows gives all of them. Raises ValueError for counts below 1.

    >>> sample = map_sample(ma.load_suite("embedded"), datasets=3, rows=5)
    >>> sample.groupby("dataset", sort=False).size().to_dict()
    {'add_small': 5, 'both_or_either': 5, 'first_or_last': 5}
    """
    if datasets < 1 or rows < 1:
        raise ValueError(f"datasets = {datasets} and rows = {rows}; give at least 1 of each")
    names = frame[["dataset", "group"]].drop_duplicates("dataset")
    turn = names.groupby("group", sort=False).cumcount()
    chosen = names.loc[turn.sort_values(kind="stable").index, "dataset"].head(datasets)
    kept = frame[frame["dataset"].isin(chosen)]
    trained = kept.groupby("dataset")["split"].transform(lambda split: (split == "train").any())
    kept = kept[(kept["split"] == "train") | ~trained].drop_duplicates("prompt")
    parts = [part.sample(min(rows, len(part)), random_state=seed) for _, part in kept.groupby("dataset")]
    return pd.concat(parts).sort_index().reset_index(drop=True)


def templated(frame: pd.DataFrame, manifest: Mapping[str, Mapping[str, Any]] | None = None) -> list[str]:
    """Every prompt as a model reads it in instruction tuning: instruction, prompt, options, "Answer:".

    The instruction is the data set's `template` in the manifest (with "{prompt}" filled in, and without lines with
    "..", which name the options), else its `rule`, else its name in words. All prompts of a data set have the same.

    >>> prompts = templated(frame.head(1), ma.tasks.suite_manifest("embedded"))
    >>> print(prompts[0])
    The sum of two numbers from 2 to 9.
    Give the total: 5 pillows from Gus and 8 from the attic.
    Answer:
    """
    manifest = manifest or {}
    shells = {name: _shell(str(name), manifest.get(name, {})) for name in frame["dataset"].unique()}
    return [
        listed({"prompt": shells[name].replace("{prompt}", prompt), "choices": choices})
        for name, prompt, choices in zip(frame["dataset"], frame["prompt"], frame["choices"])
    ]


def _shell(name: str, facts: Mapping[str, Any]) -> str:
    template = facts.get("template") or ""
    if "{prompt}" not in template:
        rule = facts.get("rule") or f"Task: {name.replace('_', ' ').replace('-', ' ')}."
        return f"{rule}\n{{prompt}}"
    lines = [line for line in template.split("\n") if "{prompt}" in line or ".." not in line]
    return "\n".join(line.split("{prompt}")[0] + "{prompt}" if ".." in line else line for line in lines if line)


def embedding_map(embeddings: np.ndarray, method: str = "umap", seed: int = 0, cache: bool = False) -> np.ndarray:
    """Embeddings (n, d), rows of length 1, on a plane: (n, 2) float32, the same bits for the same seed.

    method: "umap" (cosine, 15 neighbors), "tsne" (cosine) or "pca" (the first two components, without a seed). For the
    first two methods, distances between far groups mean nothing. cache: store the map on disk, like embeddings, under
    the hash of everything that it is made from. Raises ValueError for an unknown method or too few rows.

    >>> embedding_map(embeddings, method="pca").shape
    (60, 2)
    >>> embedding_map(embeddings, method="atlas")
    Traceback (most recent call last):
        ...
    ValueError: method = 'atlas' is unknown; choose one of umap, pca, tsne
    """
    matrix = np.ascontiguousarray(embeddings, dtype=np.float32)
    if method not in METHODS:
        raise ValueError(f"method = {method!r} is unknown; choose one of {', '.join(METHODS)}")
    if matrix.ndim != 2 or min(matrix.shape) < 2 or len(matrix) < 4:
        raise ValueError(f"embeddings has shape {matrix.shape}; a map needs at least 4 rows of at least 2 numbers")
    if not cache:
        return _placed(matrix, method, seed)
    store = ArrayCache(cache_folder() / "maps")
    packages = [f"{name} {version(name)}" for name in ("umap-learn", "scikit-learn", "numba")]
    key = digest_of([method, str(seed), *packages, sha256(matrix.tobytes()).hexdigest(), str(matrix.shape)])
    placed = store.load(key, rows=len(matrix))
    if placed is None:
        placed = _placed(matrix, method, seed)
        store.store(key, placed)
    return placed


def _placed(matrix: np.ndarray, method: str, seed: int) -> np.ndarray:
    with threadpool_limits(limits=1):  # sums in a different order would move points
        place = {"umap": _umap, "tsne": _tsne, "pca": _pca}[method]
        return np.ascontiguousarray(place(matrix, seed), dtype=np.float32)  # (n, 2)


def _pca(matrix: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    return PCA(2, svd_solver="full").fit_transform(matrix)


def _tsne(matrix: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(matrix) - 1) / 3)
    placed = TSNE(2, metric="cosine", init="pca", perplexity=perplexity, random_state=seed, n_jobs=1)
    return placed.fit_transform(matrix)


def _umap(matrix: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.neighbors import NearestNeighbors

    neighbors = min(NEIGHBORS, len(matrix) - 1)
    distances, indices = NearestNeighbors(n_neighbors=neighbors, metric="cosine").fit(matrix).kneighbors(matrix)
    with warnings.catch_warnings():
        # our neighbors are exact, so there is no index for further points, and none is needed
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]", category=UserWarning)
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        with extra("maps"):
            import umap

        # with computed neighbors, umap's own search is not compiled, which takes a minute in every process
        return umap.UMAP(
            n_neighbors=neighbors,
            metric="cosine",
            init="pca",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(indices, distances.astype(np.float32)),
            force_approximation_algorithm=True,
        ).fit_transform(matrix)


def map_frame(sample: pd.DataFrame, coordinates: np.ndarray, clusters: np.ndarray) -> pd.DataFrame:
    """One row per point of the map: x, y (float32), dataset, group, cluster, prompt; coordinates (n, 2), clusters (n,).

    Plain texts have neither dataset nor group.

    >>> points = map_frame(frame, np.zeros((60, 2), dtype=np.float32), clusters.labels)
    >>> points.columns.tolist()
    ['x', 'y', 'dataset', 'group', 'cluster', 'prompt']
    """
    labels = [name for name in LABELS if name in sample]
    if labels:
        check_rows(coordinates, sample)
    if len(coordinates) != len(sample):
        raise ValueError(f"coordinates has {len(coordinates)} rows but sample has {len(sample)}; make both of the same")
    points = sample[[*labels, "prompt"]].assign(x=coordinates[:, 0], y=coordinates[:, 1], cluster=clusters)
    return points[["x", "y", *labels, "cluster", "prompt"]]


def cluster_profile(labels: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
    """What each cluster contains: one row per cluster, one column of counts per data set; then `size` and two entropies.

    In: labels (n,), `frame` n rows. `dataset_entropy` and `group_entropy` are in [0, 1]: 0 for a cluster of a single
    class, 1 for equal parts of all classes; NaN if there is one class. Data sets are sorted by group, in order of
    appearance.

    >>> profile = cluster_profile(np.repeat([0, 1], 30), frame)
    >>> profile[["add_small", "where_is", "size", "dataset_entropy", "group_entropy"]].round(2)
             add_small  where_is  size  dataset_entropy  group_entropy
    cluster
    0               15         0    30              0.5            0.0
    1                0        15    30              0.5            0.0
    """
    check_rows(labels, frame)
    order = frame[["dataset", "group"]].drop_duplicates("dataset")
    order = order.assign(rank=pd.factorize(order["group"])[0]).sort_values("rank", kind="stable")
    table = pd.crosstab(pd.Series(labels, name="cluster"), frame["dataset"].reset_index(drop=True))
    table = table[order["dataset"].tolist()].rename_axis(columns=None)
    by_group = table.T.groupby(order["group"].to_numpy()).sum().T
    found = {f"{name}_entropy": _evenness(part.to_numpy()) for name, part in (("dataset", table), ("group", by_group))}
    return table.assign(size=table.sum(axis=1), **found)


def _evenness(table: np.ndarray) -> np.ndarray:
    most = np.log(table.shape[1])
    return entropy(table) / most if most > 0 else np.full(len(table), np.nan)


def matching(prompts: pd.Series, search: str) -> np.ndarray:
    """(n,) booleans: the prompts that contain all the words, in upper or lower case; all prompts if there are no words.

    Example:
        >>> matching(pd.Series(["A red coin", "a cat"]), "COIN red").tolist()
        [True, False]
    """
    small = prompts.astype(str).str.lower()
    found = np.ones(len(prompts), dtype=bool)
    for word in search.lower().split():
        found &= small.str.contains(word, regex=False).to_numpy(bool)
    return found
