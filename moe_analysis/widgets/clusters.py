"""The number of clusters k, and the map of the prompts coloured by the clusters that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from ..analysis.agreement import check_rows, counts, scores
from ..analysis.clusters import map_frame
from ..drawing.explorer import Explorer, View, choice, slider
from ..drawing.style import BASE, FULL_WIDTH, MARKERS, Mark, category_marks, figure, use_style
from ..plots.clusters import COLOURINGS, _by_group, _scatter
from ..tasks.clusters import Clusters, cluster

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLUSTERS = len(BASE) * len(MARKERS)  # that look different on the map
STARTS, FEW_STARTS = 4, 1  # of k-means
MANY_ROWS = 2000  # from here on several starts take longer than a hand waits
COLUMNS = 8  # of the clusters' legend, whose names are short


def cluster_widget(
    embeddings: np.ndarray, sample: pd.DataFrame, coordinates: np.ndarray, clusters: Clusters, beside: str = "group"
) -> Explorer:
    """A slider for k, the map coloured by k-means clusters beside the labels the prompts came with, and how they agree.

    In: embeddings (n, d); `sample`, n rows as `map_sample` gives them; coordinates (n, 2) of `embedding_map`; the
    clusters that are shown first, and that have been made. beside: "group" or "dataset". With more than 2000 rows
    k-means starts once in place of four times. A cluster has the colour of the label that it shares most prompts with.
    Raises ValueError for a number of rows that differs, and for clusters of other rows.
    """
    check_rows(embeddings, sample)
    for name, rows in (("coordinates", coordinates), ("clusters.labels", clusters.labels)):
        if len(rows) != len(sample):
            raise ValueError(f"{name} has {len(rows)} rows but sample has {len(sample)}; make both of the same prompts")
    starts = STARTS if len(sample) <= MANY_ROWS else FEW_STARTS

    def draw(k: int, beside: str) -> View:
        labels = clusters.labels if k == clusters.k else cluster(embeddings, k, clusters.seed, starts).labels
        points = map_frame(sample, coordinates, labels)
        alt = (
            f"Two maps of the same {len(points)} prompts: on the left coloured by {COLOURINGS[beside]}, on the "
            f"right by {k} clusters."
        )
        return View(cluster_figure(points, beside), alt, agreement_note(points, k))

    most = min(MOST_CLUSTERS, len(sample))
    controls = {
        "k": slider("clusters.k", "Clusters k", clusters.k, 1, most, "How many clusters k-means makes"),
        "beside": choice(
            "beside",
            "Compare with",
            beside,
            {COLOURINGS[name]: name for name in ("group", "dataset")},
            "The labels that colour the left map",
        ),
    }
    return Explorer(controls, draw)


def cluster_figure(points: pd.DataFrame, beside: str) -> Figure:
    """The map coloured by one of `COLOURINGS`, and by cluster; points: what `map_frame` returned."""
    points = _by_group(points)
    with use_style():
        drawing = figure(FULL_WIDTH, 4.6)
        left, right = drawing.subplots(1, 2)
        _scatter(left, points, beside)
        _scatter(right, points, "cluster", alike_marks(points, beside))
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
    """{cluster: Mark}: that of the label whose prompts it shares most, one cluster a label; the others get new ones.

    So a cluster that holds a group looks like the group, and goes on doing so while k moves.
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
            f"k = {k} against {points[column].nunique()} {COLOURINGS[column]}s: AMI {found['ami'][0]:.2f}, "
            f"purity {found['purity'][0]:.0%}"
        )
    return "\n".join(
        [
            *lines,
            "AMI is 0 for clusters that say nothing of the labels and 1 for the same partition; "
            "purity grows with k by itself.",
        ]
    )
