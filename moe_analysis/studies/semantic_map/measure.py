"""From a suite of prompts to the results of T-REX Fig. 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...cards.in_words import percent
from ...evidence import counted
from ...tasks import Clusters, cluster, embed, load_suite, suite_manifest
from ...tasks.rows import shorten
from ..asked import asked, instance, listed
from ..result import Result, name_of
from .agreement import LABELS, agreement, by_text, clusterings, held, seed_agreement
from .maps import cluster_profile, embedding_map, map_frame, map_sample, templated
from .neighbors import neighbor_agreement, neighbor_shares
from .place import check_texts, place
from .words import cluster_names

FEWEST = 4  # texts of a map
MOST_USUAL = 8  # clusters of plain texts if no number is given


@dataclass(frozen=True, eq=False)
class SemanticMap(Result):
    """Prompts on a plane, and how their clusters agree with their own labels.

    Args:
        prompts: the prompts of the map with their labels, as `map_sample` returns them; `templated` is the prompt as a
            model reads it in instruction tuning.
        agreement: of clusters with data sets and groups, for each text and k, as `agreement` returns it.
        by_seed: the same before averaging, as `seed_agreement` returns it.
        neighbors: what nearest prompts have in common, as `neighbor_agreement` returns it.
        by_dataset: the same before averaging, as `neighbor_shares` returns it.
        points: one row per prompt, as `map_frame` returns it.
        embeddings: of each text, (n, d).
        clusters: of the bare prompts.
        names: one row per cluster: cluster, name (from its own words, by `cluster_names`) and size.
        embedder: the model that embedded the prompts.
        own: texts that were added by `with_texts`, as `place` returns them.
    """

    item = "trex_fig4"
    title = "T-REX Fig. 4: semantic map of the prompts"
    question = "Do semantic clusters of the prompts align with the predefined task groups?"
    how_to_read = (
        "Above, each dot is a prompt, and its color is its predefined group; large distances on such a map mean nothing. "
        "Each gray area is a semantic cluster, named by the words that are typical of its prompts; it contains nine "
        "tenths of them. If clusters were the groups, each area would contain one color. Below, AMI is 1 if clusters and "
        "labels are the same, and 0 if clusters say nothing about the labels. Bars are one standard deviation over the "
        "seeds of k-means, and 95 % of shuffled labels are in the gray band. For the dotted line, the groups are "
        "assigned to whole data sets at random. Above the line at 0.5, clusters and labels count as aligned. On the "
        "right, an orange tick is the share for neighbors drawn at random."
    )
    how_to_explore = (
        "Each dot is a prompt, colored by its predefined group, its data set or its semantic cluster; large distances "
        "on such a map mean nothing. Each gray area is a semantic cluster, named by the words that are typical of its "
        "prompts; it contains nine tenths of them. If clusters were the groups, each area would contain one color. The "
        "picture and the claims measure how well they agree."
    )

    prompts: pd.DataFrame
    agreement: pd.DataFrame
    by_seed: pd.DataFrame
    neighbors: pd.DataFrame
    by_dataset: pd.DataFrame
    points: pd.DataFrame
    embeddings: Mapping[str, np.ndarray] = field(repr=False)
    clusters: Clusters = field(repr=False)
    names: pd.DataFrame
    embedder: str | Path = "minilm"
    own: pd.DataFrame | None = None

    @property
    def labeled(self) -> bool:
        """Whether the prompts have data sets and groups; plain texts have only clusters."""
        return "group" in self.prompts

    def place(self, texts: Sequence[str]) -> pd.DataFrame:
        """Where your own texts are on this map; see `place.place`.

        Args:
            texts: at least one.

        Returns:
            One row per text: x, y, text, cluster (with the nearest center), name (of the cluster), nearest (the prompt
            with the highest cosine) and cosine.

        Raises:
            ValueError: for no texts, and texts that cannot be embedded.

        Example:
            >>> found = measure(frame, embedder="tfidf", rows=15, ks=(2, 4), permutations=20, method="pca")
            >>> found.place([found.prompts["prompt"][3]])["cosine"].round(2).tolist()
            [1.0]
        """
        return place(self, texts)

    def with_texts(self, texts: Sequence[str]) -> SemanticMap:
        """The same map with your own texts, which all its drawings show as stars; no number changes.

        Args:
            texts: at least one; they replace texts that were added before.

        Raises:
            ValueError: for no texts, and texts that cannot be embedded.
        """
        return replace(self, own=self.place(texts))

    @property
    def coordinates(self) -> np.ndarray:
        """(n, 2), the places of the prompts on the plane."""
        return self.points[["x", "y"]].to_numpy()

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {
            "agreement": self.agreement,
            "by_seed": self.by_seed,
            "neighbors": self.neighbors,
            "by_dataset": self.by_dataset,
            "points": self.points.drop(columns="prompt"),
            "names": self.names,
        }


@dataclass(frozen=True, eq=False)
class ClusterContents(Result):
    """What each semantic cluster of a map contains.

    Args:
        profile: number of prompts of each data set in each cluster, as `cluster_profile` returns it.
        groups: the group of each data set, by data set.
        names: of the clusters, by cluster.
        shared: one row per cluster: name, size, the number of groups that it holds, and their shares in words.
    """

    item = "trex_fig4_contents"
    title = "T-REX Fig. 4: what the semantic clusters contain"
    question = "Which data sets and groups share a semantic cluster?"
    how_to_read = (
        "Each row is a data set, each column a cluster, named by the words that are typical of its prompts. The color is "
        "the share of the data set's prompts in the cluster. Lines separate the groups. If the clusters were the groups, "
        "each column would be filled between two lines and empty elsewhere, and the evenness below it would be 0."
    )
    how_to_explore = (
        "Each row is a data set with its group in brackets, each column a cluster, named by the words that are typical "
        "of its prompts. The color is the share of the data set's prompts in the cluster. If the clusters were the "
        "groups, each column would be filled in the rows of one group and empty elsewhere."
    )
    drawing = "draw_contents"
    judging = exploring = ""  # the map judges the claims and has the controls

    profile: pd.DataFrame
    groups: pd.Series
    names: pd.Series
    shared: pd.DataFrame

    @property
    def numbers(self) -> Mapping[str, Any] | pd.DataFrame:
        return self.profile.reset_index()


@asked(seeds=0)
def measure(
    suite: str | Path | pd.DataFrame | Sequence[str],
    *,
    embedder: str | Path = "minilm",
    datasets: int | str | Sequence[str] = 20,
    rows: int = 100,
    ks: int | Sequence[int] = (5, 10, 20, 32, 50),
    seeds: int | Sequence[int] = (0, 1, 2),
    permutations: int = 200,
    method: str = "umap",
    k: int | None = None,
) -> SemanticMap:
    """Embed the prompts of a suite, cluster them, and compare the clusters with data sets and groups.

    Args:
        suite: a name or folder, as for `load_suite`; or its frame, and then data sets have no templates; or plain texts,
            a list or a frame with only `prompt`, which give a map with named clusters but no comparison.
        embedder: a model, as for `embed`.
        datasets: the number of data sets on the map, one of each group, then a second of each, and all if there are
            fewer; or their names.
        rows: number of prompts per data set. Plain texts are all shown.
        ks: one or several numbers of clusters; the numbers of data sets and of groups are added.
        seeds: one or several seeds of k-means.
        permutations: of each baseline.
        method: of the map, "umap", "tsne" or "pca".
        k: the number of clusters that are drawn and named; None is the number of groups, and for plain texts the
            square root of their number, up to 8.

    Raises:
        ValueError: for a frame with only some of its labels, fewer texts than clusters or than a map needs, and for
            counts below 1.

    Example:
        >>> found = measure(frame, embedder="tfidf", rows=15, ks=(2, 4), permutations=20, method="pca")
        >>> len(found.points), found.agreement["text"].unique().tolist()
        (60, ['bare', 'templated'])
        >>> measure(frame["prompt"].tolist(), embedder="tfidf", method="pca", k=4).names["size"].sum()
        np.int64(60)
    """
    ks, seeds = listed(ks), listed(seeds)
    frame, manifest, source = _read(suite)
    labeled = any(name in frame for name in LABELS)
    if labeled and (missing := [name for name in (*LABELS, "split") if name not in frame]):
        raise ValueError(
            f"suite has no column {', '.join(missing)}; label each prompt, or pass only the texts: frame['prompt']"
        )
    frame, count = _chosen(frame, datasets, source)
    prompts = map_sample(frame, datasets=count, rows=rows) if labeled else frame[["prompt"]]
    k = _clusters_of(prompts, k, ks if labeled else ())
    texts = {"bare": "prompt"}
    if labeled:
        prompts = prompts.assign(templated=templated(prompts, manifest))
        texts["templated"] = "templated"
    embeddings = {text: embed(prompts[column], model=embedder) for text, column in texts.items()}
    clusters = cluster(embeddings["bare"], k=k)
    coordinates = embedding_map(embeddings["bare"], method=method, cache=True)
    return SemanticMap(
        prompts=prompts,
        **_compared(embeddings, prompts, ks, seeds, permutations) if labeled else _nothing_compared(),
        points=map_frame(prompts, coordinates, clusters.labels),
        embeddings=embeddings,
        clusters=clusters,
        names=names_of(prompts["prompt"], clusters.labels),
        embedder=embedder,
        sample=f"{_counted(prompts, source)}, embedded by {name_of(embedder)}, "
        + (f"{len(seeds)} seeds of k-means" if labeled else f"{k} clusters"),
    )


def names_of(texts: Sequence[str], labels: np.ndarray) -> pd.DataFrame:
    """One row per cluster: cluster, name and size."""
    found = cluster_names(list(texts), labels)
    return pd.DataFrame(
        {"cluster": list(found), "name": list(found.values()), "size": np.bincount(labels)[list(found)]}
    )


def _read(suite: Any) -> tuple[pd.DataFrame, Mapping[str, Any] | None, str]:
    """The rows, the manifest if there is one, and the words for the source."""
    if isinstance(suite, str | Path):
        return load_suite(suite), suite_manifest(suite), f"the suite {name_of(suite)}"
    if isinstance(suite, pd.DataFrame):
        if "prompt" not in suite:
            raise ValueError(f"suite is a frame with the columns {', '.join(map(str, suite))}; it needs prompt")
        check_texts(suite["prompt"].tolist(), "suite", FEWEST)
        return suite.reset_index(drop=True), None, "a frame"
    if not isinstance(suite, Sequence | pd.Series | np.ndarray):
        raise ValueError(
            f"suite = {suite!r} is {type(suite).__name__}; pass a name, a folder, a frame or a list of texts"
        )
    texts = list(suite)
    check_texts(texts, "suite", FEWEST)
    return pd.DataFrame({"prompt": texts}), None, "a list"


def _chosen(frame: pd.DataFrame, datasets: Any, source: str) -> tuple[pd.DataFrame, int]:
    """The rows of the named data sets, or all rows if only a number is given, and the number of data sets."""
    if not isinstance(datasets, list):
        return frame, datasets
    if "dataset" not in frame:
        raise ValueError(f"datasets = {shorten(datasets)}, but plain texts have none; leave it out")
    known = frame["dataset"].unique().tolist()
    for name in datasets:
        if name not in known:
            near = get_close_matches(name, known, 3) or known[:3]
            raise ValueError(f"datasets: {name!r} is not in {source}; choose from {', '.join(near)}, …")
    return frame[frame["dataset"].isin(datasets)].reset_index(drop=True), len(datasets)


def _clusters_of(prompts: pd.DataFrame, k: int | None, ks: Sequence[int]) -> int:
    """The number of drawn clusters; ValueError, before anything is embedded, if there are fewer prompts."""
    distinct = prompts["prompt"].nunique()
    if ks and max(ks) > distinct:
        raise ValueError(
            f"ks = {tuple(ks)} asks for {max(ks)} clusters but there are only {distinct} different prompts; pass smaller "
            "ks or more rows"
        )
    if k is None:
        k = prompts["group"].nunique() if "group" in prompts else min(MOST_USUAL, round(distinct**0.5))
    if k > distinct:
        raise ValueError(f"k = {k} clusters but only {distinct} different texts; use a k from 1 to {distinct}")
    return k


def _counted(prompts: pd.DataFrame, source: str) -> str:
    if "dataset" not in prompts:
        return f"{len(prompts)} plain texts"
    return f"{len(prompts)} prompts of {counted(prompts['dataset'].nunique(), 'data set')} of {source}"


def _compared(
    embeddings: Mapping[str, np.ndarray],
    prompts: pd.DataFrame,
    ks: Sequence[int],
    seeds: Sequence[int],
    permutations: int,
) -> dict[str, pd.DataFrame]:
    """The tables of a `SemanticMap` that compare clusters and neighbors with labels."""
    found = {text: clusterings(matrix, prompts, ks, seeds) for text, matrix in embeddings.items()}
    shares = by_text({text: neighbor_shares(matrix, prompts) for text, matrix in embeddings.items()})
    return {
        "agreement": by_text({text: agreement(one, prompts, permutations) for text, one in found.items()}),
        "by_seed": by_text({text: seed_agreement(one, prompts, seeds) for text, one in found.items()}),
        "neighbors": by_text({text: neighbor_agreement(part) for text, part in shares.groupby("text", sort=False)}),
        "by_dataset": shares,
    }


def _nothing_compared() -> dict[str, pd.DataFrame]:
    return {name: pd.DataFrame({"text": []}) for name in ("agreement", "by_seed", "neighbors", "by_dataset")}


@asked()
def measure_contents(found: SemanticMap) -> ClusterContents:
    """What the clusters of a map contain.

    Args:
        found: the result of `measure`.

    Example:
        >>> found = measure(frame, embedder="tfidf", rows=15, ks=(2, 4), permutations=20, method="pca")
        >>> measure_contents(found).shared.columns.tolist()
        ['cluster', 'name', 'size', 'held', 'groups']
    """
    instance("found", found, SemanticMap, "pass what ma.papers.trex_fig4(...) returns")
    prompts = found.prompts if found.labeled else found.prompts.assign(dataset="all texts", group="no groups")
    profile = cluster_profile(found.clusters.labels, prompts)
    groups = prompts.drop_duplicates("dataset").set_index("dataset")["group"]
    by_group = profile[groups.index].T.groupby(groups, sort=False).sum().T  # (clusters, groups)
    share = by_group.div(by_group.sum(axis=1), axis=0)
    holds = held(by_group.to_numpy())  # (clusters, groups)
    named = [
        ", ".join(
            f"{name} {percent(value)}" for name, value in share.loc[row][own].sort_values(ascending=False).items()
        )
        for row, own in zip(share.index, holds, strict=True)
    ]
    names = found.names.set_index("cluster")["name"]
    shared = pd.DataFrame(
        {
            "cluster": profile.index,
            "name": names.loc[profile.index].to_numpy(),
            "size": profile["size"].to_numpy(),
            "held": holds.sum(1),
            "groups": named,
        }
    )
    return ClusterContents(profile=profile, groups=groups, names=names, shared=shared, sample=found.sample)
