"""From a suite of prompts to the results of T-REX Fig. 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...tasks import Clusters, cluster, embed, load_suite, suite_manifest
from ..result import Result, name_of
from .agreement import agreement, by_text, clusterings, held, seed_agreement
from .maps import cluster_profile, embedding_map, map_frame, map_sample, templated
from .neighbours import neighbour_agreement, neighbour_shares


@dataclass(frozen=True, eq=False)
class SemanticMap(Result):
    """Prompts on a plane, and how their clusters agree with the labels that they came with.

    Args:
        prompts: the prompts of the map with their labels, as `map_sample` returns them; `templated` is each as it is
            read under instruction tuning.
        agreement: of clusters with data sets and groups, for each text and k, as `agreement` returns it.
        by_seed: the same before averaging, as `seed_agreement` returns it.
        neighbours: what nearest prompts have in common, as `neighbour_agreement` returns it.
        by_dataset: the same before averaging, as `neighbour_shares` returns it.
        points: one row per prompt, as `map_frame` returns it.
        embeddings: of each text, (n, d).
        clusters: of the bare prompts, as many as groups.
    """

    item = "trex_fig4"
    title = "T-REX Fig. 4: semantic map of the prompts"
    question = "Do semantic clusters of the prompts align with the predefined task groups?"
    how_to_read = (
        "Above, each dot is a prompt; large distances on such a map mean nothing. Below, AMI and NMI are 1 where "
        "clusters and labels are the same, and 0 where clusters say nothing about the labels. Bars are one standard "
        "deviation over the seeds of k-means, and 95 % of shuffled labels lie in the gray band. For the dotted line "
        "the groups are assigned to whole data sets at random. Above the line at 0.5, clusters and labels count as "
        "aligned. At the right, an orange tick is the share that neighbors drawn at random would have."
    )

    prompts: pd.DataFrame
    agreement: pd.DataFrame
    by_seed: pd.DataFrame
    neighbours: pd.DataFrame
    by_dataset: pd.DataFrame
    points: pd.DataFrame
    embeddings: Mapping[str, np.ndarray] = field(repr=False)
    clusters: Clusters = field(repr=False)

    @property
    def coordinates(self) -> np.ndarray:
        """(n, 2), where the prompts lie on the plane."""
        return self.points[["x", "y"]].to_numpy()

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {
            "agreement": self.agreement,
            "by_seed": self.by_seed,
            "neighbours": self.neighbours,
            "by_dataset": self.by_dataset,
            "points": self.points.drop(columns="prompt"),
        }


@dataclass(frozen=True, eq=False)
class ClusterContents(Result):
    """What each semantic cluster of a map is made of.

    Args:
        profile: prompts of each data set in each cluster, as `cluster_profile` returns it.
        groups: the group of each data set, by data set.
        shared: one row per cluster: size, the number of groups that it holds, and their shares in words.
    """

    item = "trex_fig4_contents"
    title = "T-REX Fig. 4: what the semantic clusters hold"
    question = "Which data sets and groups share a semantic cluster?"
    how_to_read = (
        "Each row is a data set, each column a cluster. The color is the share of the data set's prompts in it. "
        "Lines separate the groups. If the clusters were the groups, each column would be filled between two lines "
        "and empty elsewhere, and the evenness below it would be 0."
    )
    drawing = "draw_contents"
    judging = exploring = ""  # the map judges the claims and has the knob

    profile: pd.DataFrame
    groups: pd.Series
    shared: pd.DataFrame

    @property
    def numbers(self) -> Mapping[str, Any] | pd.DataFrame:
        return self.profile.reset_index()


def measure(
    suite: str | Path | pd.DataFrame,
    *,
    embedder: str = "minilm",
    datasets: int = 20,
    rows: int = 100,
    ks: Sequence[int] = (5, 10, 20, 32, 50),
    seeds: Sequence[int] = (0, 1, 2),
    permutations: int = 200,
    method: str = "umap",
) -> SemanticMap:
    """Embed the prompts of a suite, cluster them, and compare the clusters with data sets and groups.

    Args:
        suite: a name or folder, as for `load_suite`, or its frame; then data sets have no templates.
        embedder: a model, as for `embed`.
        datasets: on the map, one of each group, then a second of each; all where there are fewer.
        rows: prompts of each data set.
        ks: numbers of clusters; those of the data sets and of the groups are added.
        seeds: of k-means.
        permutations: of each baseline.
        method: of the map, "umap", "tsne" or "pca".

    Raises:
        ValueError: for a frame of plain texts, without labels to compare, and for counts below 1.

    Example:
        >>> found = measure(frame, embedder="tfidf", rows=15, ks=(2, 4), permutations=20, method="pca")
        >>> len(found.points), found.agreement["text"].unique().tolist()
        (60, ['bare', 'templated'])
    """
    if isinstance(suite, pd.DataFrame):
        frame, manifest, source = suite, None, "a frame"
    else:
        frame, manifest, source = load_suite(suite), suite_manifest(suite), f"the suite {name_of(suite)}"
    if missing := [name for name in ("dataset", "group", "split") if name not in frame]:
        raise ValueError(
            f"suite has no column {', '.join(missing)}; label each prompt, or look at plain texts with "
            "studies.semantic_map.explore.cluster_widget"
        )
    prompts = map_sample(frame, datasets=datasets, rows=rows)
    prompts = prompts.assign(templated=templated(prompts, manifest))
    texts = {"bare": "prompt", "templated": "templated"}
    embeddings = {text: embed(prompts[column], model=embedder) for text, column in texts.items()}
    found = {text: clusterings(matrix, prompts, ks, seeds) for text, matrix in embeddings.items()}
    shares = by_text({text: neighbour_shares(matrix, prompts) for text, matrix in embeddings.items()})
    clusters = cluster(embeddings["bare"], k=prompts["group"].nunique())
    coordinates = embedding_map(embeddings["bare"], method=method, cache=True)
    return SemanticMap(
        prompts=prompts,
        agreement=by_text({text: agreement(one, prompts, permutations) for text, one in found.items()}),
        by_seed=by_text({text: seed_agreement(one, prompts, seeds) for text, one in found.items()}),
        neighbours=by_text({text: neighbour_agreement(part) for text, part in shares.groupby("text", sort=False)}),
        by_dataset=shares,
        points=map_frame(prompts, coordinates, clusters.labels),
        embeddings=embeddings,
        clusters=clusters,
        sample=(
            f"{len(prompts)} prompts of {prompts['dataset'].nunique()} data sets of {source}, "
            f"embedded by {name_of(embedder)}, {len(seeds)} seeds of k-means"
        ),
    )


def measure_contents(found: SemanticMap) -> ClusterContents:
    """What the clusters of a map hold.

    Args:
        found: the result of `measure`.

    Example:
        >>> found = measure(frame, embedder="tfidf", rows=15, ks=(2, 4), permutations=20, method="pca")
        >>> measure_contents(found).shared.columns.tolist()
        ['cluster', 'size', 'held', 'groups']
    """
    profile = cluster_profile(found.clusters.labels, found.prompts)
    groups = found.prompts.drop_duplicates("dataset").set_index("dataset")["group"]
    by_group = profile[groups.index].T.groupby(groups, sort=False).sum().T  # (clusters, groups)
    share = by_group.div(by_group.sum(axis=1), axis=0)
    holds = held(by_group.to_numpy())  # (clusters, groups)
    named = [
        ", ".join(f"{name} {value:.0%}" for name, value in share.loc[row][own].sort_values(ascending=False).items())
        for row, own in zip(share.index, holds, strict=True)
    ]
    shared = pd.DataFrame(
        {"cluster": profile.index, "size": profile["size"].to_numpy(), "held": holds.sum(1), "groups": named}
    )
    return ClusterContents(profile=profile, groups=groups, shared=shared, sample=found.sample)
