"""The semantic map of many data sets, and whether its clusters are the predefined task groups (T-REX Fig. 4)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from ..extras import extra
from ..tasks.cache import ArrayCache, cache_folder, digest_of
from .agreement import SCORES, agreement, check_rows, compare, entropy, scores
from .neighbours import compare_neighbours, neighbour_agreement

__all__ = [
    "SCORES",
    "agreement",
    "cluster_profile",
    "compare",
    "compare_neighbours",
    "embedding_map",
    "map_claims",
    "map_frame",
    "map_sample",
    "neighbour_agreement",
    "scores",
    "templated",
]

METHODS = ("umap", "pca", "tsne")
NEIGHBOURS = 15  # of UMAP's graph, its default
ALIGNED = 0.5  # from here on we call clusters and groups aligned; fixed before anything was measured
SIGNIFICANT = 0.05
VERDICTS = ("reproduced", "not reproduced", "not testable at this scale")


def map_sample(frame: pd.DataFrame, datasets: int = 20, rows: int = 100, seed: int = 0) -> pd.DataFrame:
    """The prompts of a semantic map: `rows` of each of `datasets` data sets, in the frame's order, index from 0.

    Data sets are taken in turns, one of each group, then a second of each group and so on, both in order of
    appearance; all of them when there are fewer. Within a data set only train rows are used where it has any, and a
    prompt that was already taken is skipped, so that no prompt carries two labels; the rest is drawn by `seed`.
    A data set with fewer rows gives all it has. Raises ValueError for counts below 1.

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
    """Every prompt as a model under instruction tuning reads it: instruction, prompt, options, "Answer:".

    The instruction is the data set's `template` in the manifest (its "{prompt}" filled, lines with ".." dropped, since
    they stand for the options), else its `rule`, else its name in words. All prompts of a data set share it.

    >>> prompts = templated(frame.head(1), ma.tasks.suite_manifest("embedded"))
    >>> print(prompts[0])
    The sum of two numbers from 2 to 9.
    Give the total: 5 pillows from Gus and 8 from the attic.
    Answer:
    """
    from ..tasks.prompts import listed

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

    method: "umap" (cosine, 15 neighbours), "tsne" (cosine) or "pca" (the two first components, no seed needed).
    Distances between far groups mean nothing on the first two. cache: keep the map on disk, as embeddings are kept,
    under the hash of all that it is made from. Raises ValueError for an unknown method or few rows.

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
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):  # sums in another order would move points
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

    neighbours = min(NEIGHBOURS, len(matrix) - 1)
    distances, indices = NearestNeighbors(n_neighbors=neighbours, metric="cosine").fit(matrix).kneighbors(matrix)
    with warnings.catch_warnings():
        # ours are exact neighbours, so there is no index to place further points by, and none is wanted
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]", category=UserWarning)
        warnings.filterwarnings("ignore", message="Tensorflow not installed", category=ImportWarning)
        with extra("maps"):
            import umap

        # computed neighbours spare the compilation of umap's own search, a minute in every process
        return umap.UMAP(
            n_neighbors=neighbours,
            metric="cosine",
            init="pca",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(indices, distances.astype(np.float32)),
            force_approximation_algorithm=True,
        ).fit_transform(matrix)


def map_frame(sample: pd.DataFrame, coordinates: np.ndarray, clusters: np.ndarray) -> pd.DataFrame:
    """A row a point of the map: x, y (float32), dataset, group, cluster, prompt; coordinates (n, 2), clusters (n,).

    >>> points = map_frame(frame, np.zeros((60, 2), dtype=np.float32), clusters.labels)
    >>> points.columns.tolist()
    ['x', 'y', 'dataset', 'group', 'cluster', 'prompt']
    """
    check_rows(coordinates, sample)
    points = sample[["dataset", "group", "prompt"]].assign(x=coordinates[:, 0], y=coordinates[:, 1], cluster=clusters)
    return points[["x", "y", "dataset", "group", "cluster", "prompt"]]


def cluster_profile(labels: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
    """What each cluster is made of: a row a cluster, a column a data set, counts; then `size` and two entropies.

    In: labels (n,), `frame` n rows. `dataset_entropy` and `group_entropy` are in [0, 1]: 0 for a cluster of a single
    class, 1 for one with equal parts of all; NaN where there is one class. Data sets stand by group, as they appear.

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


def map_claims(table: pd.DataFrame, neighbours: pd.DataFrame) -> pd.DataFrame:
    """T-REX Fig. 4's claim "semantic clusters do not align with predefined task groups", judged by a fixed rule.

    In: what `compare` and `compare_neighbours` returned. Out: source, claim, paper, measured, spread, verdict; for
    each text a row on the clusters and a row on the neighbours in other data sets.
    The rule. "reproduced": AMI with the groups below 0.5 at every k; fewer than half of the neighbours in the same
    group. "not reproduced": 0.5 or more. "not testable at this scale": a 95 % interval (of the largest AMI over k-means
    seeds; of the share over data sets) that holds 0.5; or fewer than two groups, or no group of several data sets; or
    clusters that follow not even the data sets better than shuffled labels, for then nothing could align.

    >>> map_claims(table, neighbours)["verdict"].tolist()
    ['not testable at this scale', 'not reproduced']
    """
    rows = []
    for text in table["text"].unique():
        of_text = table[table["text"] == text]
        rows += [_cluster_claim(text, of_text), _neighbour_claim(text, of_text, neighbours[neighbours["text"] == text])]
    return pd.DataFrame(rows)


def _cluster_claim(text: str, table: pd.DataFrame) -> dict[str, str]:
    claim = f"semantic clusters do not align with predefined task groups ({text} prompts)"
    if not _testable(table):
        return _row(claim, "no group of several data sets, or clusters no better than chance", "none", VERDICTS[2])
    groups = table[table["labels"] == "group"]
    best: Any = groups.sort_values("ami").iloc[-1]
    matched: Any = groups[groups["matched"]].iloc[0]
    own: Any = table[(table["labels"] == "dataset") & table["matched"]].iloc[0]
    beyond = (matched["ami"] - matched["regrouped_ami"]) / (1 - matched["regrouped_ami"])
    measured = (
        f"AMI with groups at most {best['ami']:.2f} (k = {best['k']}), {matched['ami']:.2f} at k = {matched['k']} "
        f"= groups; shuffled labels {matched['chance_ami_95']:.2f}, groups dealt anew {matched['regrouped_ami']:.2f} "
        f"(p = {matched['regrouped_p']:.3f}), {beyond:.0%} of what these leave to reach 1; "
        f"AMI with data sets {own['ami']:.2f} at k = {own['k']}"
    )
    low, high = _interval(best["ami"], best["ami_sd"], best["seeds"])
    return _row(claim, measured, f"{low:.2f} to {high:.2f} (95 %, k-means seeds)", _verdict(low, high))


def _neighbour_claim(text: str, table: pd.DataFrame, neighbours: pd.DataFrame) -> dict[str, str]:
    claim = f"nearest prompts of other data sets are not of the same group ({text} prompts)"
    found: Any = neighbours.set_index("measure").loc["same group, other data sets"]
    if not _testable(table):
        return _row(claim, "no group of several data sets, or clusters no better than chance", "none", VERDICTS[2])
    low, high = _interval(found["share"], found["sd"], found["datasets"])
    measured = f"{found['share']:.2f} of the neighbours share the group (at random {found['chance']:.2f})"
    return _row(claim, measured, f"{low:.2f} to {high:.2f} (95 %, data sets)", _verdict(low, high))


def _testable(table: pd.DataFrame) -> bool:
    by_labels = table.groupby("labels")
    datasets, groups = (int(by_labels.get_group(name)["classes"].iloc[0]) for name in ("dataset", "group"))
    return 1 < groups < datasets and bool((by_labels.get_group("dataset")["chance_p"] <= SIGNIFICANT).any())


def _interval(mean: float, deviation: float, number: float) -> tuple[float, float]:
    """95 % interval of a mean of `number` values (Student's t); the mean alone where there is one value."""
    from scipy.stats import t

    if number < 2:
        return mean, mean
    half = float(t.ppf(0.975, number - 1)) * deviation / np.sqrt(number)
    return mean - half, mean + half


def _verdict(low: float, high: float) -> str:
    if high < ALIGNED:
        return VERDICTS[0]
    return VERDICTS[1] if low >= ALIGNED else VERDICTS[2]


def _row(claim: str, measured: str, spread: str, verdict: str) -> dict[str, str]:
    return {
        "source": "T-REX Fig. 4",
        "claim": claim,
        "paper": "a map of 20 data sets, no number",
        "measured": measured,
        "spread": spread,
        "verdict": verdict,
    }
