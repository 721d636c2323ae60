"""The number of clusters k, and the map of the prompts colored by the clusters that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from ...drawing.explorer import Explorer, View, choice, slider
from ...drawing.style import BASE, FULL_WIDTH, MARKERS, Mark, category_marks, figure, use_style
from ...tasks.clusters import Clusters, cluster
from .agreement import LABELS, check_rows, counts, scores
from .draw import COLORINGS, by_group, scatter
from .maps import map_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .measure import SemanticMap

MOST_CLUSTERS = len(BASE) * len(MARKERS)  # that look different on the map
STARTS, FEW_STARTS = 4, 1  # of k-means
MANY_ROWS = 2000  # from here on several starts take longer than a hand waits
COLUMNS = 8  # of the clusters' legend, whose names are short


def widget(found: SemanticMap) -> Explorer:
    """The number of clusters, beside the labels that the prompts came with."""
    return cluster_widget(found.embeddings["bare"], found.prompts, found.coordinates, found.clusters)


def cluster_widget(
    embeddings: np.ndarray,
    prompts: pd.DataFrame | Sequence[str],
    coordinates: np.ndarray,
    clusters: Clusters,
    beside: str = "group",
) -> Explorer:
    """A slider for k and the map colored by k-means clusters, beside the labels of the prompts where they have some.

    A cluster has the color of the label that it shares most prompts with. With more than 2000 prompts k-means starts
    once in place of four times.

    Args:
        embeddings: (n, d), rows of length 1.
        prompts: n rows with `prompt`, `dataset` and `group`, or n plain texts; then the clusters are drawn alone.
        coordinates: (n, 2), as `embedding_map` returns them.
        clusters: those that are shown first, and that have been made.
        beside: "group" or "dataset", what colors the left map first.

    Raises:
        ValueError: for a number of rows that differs, for clusters of other rows, and for prompts with one of the two
            labels only.
    """
    frame = prompts if isinstance(prompts, pd.DataFrame) else pd.DataFrame({"prompt": list(prompts)})
    labeled = any(name in frame for name in LABELS)
    if labeled:
        check_rows(embeddings, frame)
    for name, rows in (("embeddings", embeddings), ("coordinates", coordinates), ("clusters.labels", clusters.labels)):
        if len(rows) != len(frame):
            raise ValueError(f"{name} has {len(rows)} rows but prompts has {len(frame)}; make both of the same prompts")
    starts = STARTS if len(frame) <= MANY_ROWS else FEW_STARTS

    def labels_of(k: int) -> np.ndarray:
        return clusters.labels if k == clusters.k else cluster(embeddings, k, clusters.seed, starts).labels

    def draw(k: int, beside: str) -> View:
        points = map_frame(frame, coordinates, labels_of(k))
        alt = (
            f"Two maps of the same {len(points)} prompts: on the left colored by {COLORINGS[beside]}, on the "
            f"right by {k} clusters."
        )
        return View(cluster_figure(points, beside), alt, agreement_note(points, k))

    def draw_alone(k: int) -> View:
        found = labels_of(k)
        points = pd.DataFrame({"x": coordinates[:, 0], "y": coordinates[:, 1], "cluster": found})
        sizes = np.bincount(found)
        note = f"k = {k}: the smallest cluster holds {sizes.min()} of {len(found)} prompts, the largest {sizes.max()}."
        return View(cluster_figure(points), f"A map of {len(found)} prompts, colored by {k} clusters.", note)

    most = min(MOST_CLUSTERS, len(frame))
    controls = {"k": slider("clusters.k", "Clusters k", clusters.k, 1, most, "How many clusters k-means makes")}
    if not labeled:
        return Explorer(controls, draw_alone)
    names = {COLORINGS[name]: name for name in ("group", "dataset")}
    controls["beside"] = choice("beside", "Compare with", beside, names, "The labels that color the left map")
    return Explorer(controls, draw)


def cluster_figure(points: pd.DataFrame, beside: str | None = None) -> Figure:
    """The map colored by cluster, at the right of the map colored by one of `COLORINGS` where there are labels.

    points: x, y and cluster, or what `map_frame` returned.
    """
    with use_style():
        if beside is None:
            drawing = figure(FULL_WIDTH / 2, 4.6)
            right = drawing.subplots()
            scatter(right, points, "cluster")
        else:
            points = by_group(points)
            drawing = figure(FULL_WIDTH, 4.6)
            left, right = drawing.subplots(1, 2)
            scatter(left, points, beside)
            scatter(right, points, "cluster", alike_marks(points, beside))
        right.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0.0),
            ncols=COLUMNS,
            markerscale=1.8,
            handletextpad=0.0,
            columnspacing=0.6,
            labelspacing=0.25,
        )
    return drawing


def alike_marks(points: pd.DataFrame, beside: str) -> dict[int, Mark]:
    """{cluster: Mark}: that of the label whose prompts it shares most, one cluster per label; the others get new ones.

    So a cluster that holds a group looks like the group, also while k moves.
    """
    labels, names = pd.factorize(points[beside])  # in the order of the left map's legend
    table = counts(points["cluster"].to_numpy(), labels)[0]  # (clusters, labels)
    matched = {int(own): int(label) for own, label in zip(*linear_sum_assignment(table, maximize=True))}
    found = sorted(points["cluster"].unique())
    rest = [own for own in found if own not in matched]
    places = {**matched, **{own: len(names) + number for number, own in enumerate(rest)}}
    marks = list(category_marks(map(str, range(max(places.values()) + 1))).values())
    return {int(own): marks[places[own]] for own in found}


def agreement_note(points: pd.DataFrame, k: int) -> str:
    """AMI and purity of these clusters with data sets and with groups, in words."""
    lines = []
    for column in ("dataset", "group"):
        found = scores(counts(points["cluster"].to_numpy(), pd.factorize(points[column])[0]))
        lines.append(
            f"k = {k} against {points[column].nunique()} {COLORINGS[column]}s: AMI {found['ami'][0]:.2f}, "
            f"purity {found['purity'][0]:.0%}"
        )
    return "\n".join(
        [
            *lines,
            "AMI is 0 for clusters that say nothing of the labels and 1 for the same partition; "
            "purity grows with k by itself.",
        ]
    )
