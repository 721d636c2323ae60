"""The map in a notebook: the number of clusters k, words to search for, your own texts, and a lasso."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

from ...cards.in_words import percent
from ...drawing.explorer import Explorer, View, choice, labeled, slider
from ...drawing.style import BASE, FULL_WIDTH, MARKERS, Mark, category_marks, figure, use_style
from ...extras import extra
from ...tasks.clusters import cluster
from .agreement import counts, scores
from .draw import map_panel
from .draw_marks import COLORINGS, by_group, counted
from .explore_lasso import Lasso
from .maps import map_frame, matching
from .measure import SemanticMap, names_of

with extra("notebooks"):
    import ipywidgets

MOST_CLUSTERS = len(BASE) * len(MARKERS)  # with different marks on the map
STARTS, FEW_STARTS = 4, 1  # of k-means
MANY_ROWS = 2000  # with more rows, several starts take too long for a slider
NAME_SIZE, SMALL_NAME_SIZE = 9, 7  # points
MANY_NAMES = 12  # clusters; with more, their names are smaller


class MapExplorer(Explorer):
    """An `Explorer` with a lasso below it."""

    def __init__(self, controls: dict[str, Any], draw: Callable[..., View], show: Callable[..., Any]) -> None:
        super().__init__(controls, draw)
        self.lasso = Lasso()
        self._show = show
        self.children = [*self.children, self.lasso]  # type: ignore[has-type]
        self._show(self.lasso, *self.values)

    def _update(self, change: Any) -> None:
        super()._update(change)
        if not self.message.value:
            self._show(self.lasso, *self.values)


def widget(found: SemanticMap, k: int | None = None, beside: str = "group") -> MapExplorer:
    """A slider for k and the map colored by k-means clusters, next to the prompts' own labels if they have some, with a
    search and your own texts; below, a map with a lasso that lists points.

    A cluster has the color of the label with which it shares most prompts, a hull, and a name from its own words. With
    more than 2000 prompts, k-means starts once instead of four times.

    Args:
        found: the measured clusters are shown first.
        k: the first number of clusters; None is the measured one.
        beside: "group" or "dataset", the first coloring of the left map.
    """
    frame, clusters = found.prompts, found.clusters
    starts = STARTS if len(frame) <= MANY_ROWS else FEW_STARTS

    @lru_cache(8)
    def clustered(k: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The points and the names of k clusters."""
        labels = (
            clusters.labels if k == clusters.k else cluster(found.embeddings["bare"], k, clusters.seed, starts).labels
        )
        return map_frame(frame, found.coordinates, labels), names_of(frame["prompt"], labels)

    @lru_cache(8)
    def placed(own: str) -> pd.DataFrame | None:
        texts = [line.strip() for line in own.splitlines() if line.strip()]
        return found.place(texts) if texts else None

    def draw(k: int, search: str, own: str, beside: str | None = None) -> View:
        points, names = clustered(k)
        stars = placed(own)
        hits = matching(points["prompt"], search)
        note = [agreement_note(points, k) if beside else sizes_note(points, k), *hits_note(points, hits, search)]
        note += own_note(stars, points, names) if stars is not None else []
        alt = f"{map_alt(points, k, beside)} {counted(0 if stars is None else len(stars), 'own text')}."
        return View(
            cluster_figure(points, beside, names, stars, hits if search.strip() else None), alt, "\n".join(note)
        )

    def show(lasso: Any, *values: Any) -> None:
        chosen = dict(zip(controls, values, strict=True))
        points, names = clustered(chosen["k"])
        lasso.show(points, names, chosen.get("beside", "cluster"), placed(chosen["own"]), chosen["search"])

    most = min(MOST_CLUSTERS, len(frame))
    first = ("clusters.k", "Clusters k", clusters.k) if k is None else ("k", "Clusters k", k)
    controls: dict[str, Any] = {"k": slider(*first, 1, most, "How many clusters k-means makes")}
    if found.labeled:
        names = {COLORINGS[name]: name for name in ("group", "dataset")}
        controls["beside"] = choice("beside", "Compare with", beside, names, "The labels that color the left map")
    controls["search"] = field(ipywidgets.Text, "Search", "", "words", "Prompts without all these words become pale")
    own = "" if found.own is None else "\n".join(found.own["text"])
    hint = "one text per line"
    controls["own"] = field(ipywidgets.Textarea, "Your texts", own, hint, "They are drawn as stars on the map")
    return MapExplorer(controls, draw, show)


def field(kind: Any, label: str, value: str, hint: str, tooltip: str) -> Any:
    """A text field that draws when it loses focus; a field of one line also when the return key is pressed."""
    return kind(value, placeholder=hint, continuous_update=False, **labeled(label, tooltip, "22em"))


def hits_note(points: pd.DataFrame, hits: np.ndarray, search: str) -> list[str]:
    """How many prompts were found, and the first of them."""
    if not search.strip():
        return []
    words = " and ".join(search.split())
    if not hits.any():
        return [f"None of the {len(hits)} prompts contains {words}; try fewer or different words."]
    first = points["prompt"].to_numpy()[np.flatnonzero(hits)[0]]
    return [f"{hits.sum()} of {len(hits)} prompts contain {words}, such as: {' '.join(first.split())[:120]}"]


def own_note(own: pd.DataFrame, points: pd.DataFrame, names: pd.DataFrame) -> list[str]:
    """For each of the user's own texts, the cluster of the most similar prompt, and that prompt."""
    told = names.set_index("cluster")["name"]
    cluster_of = points.drop_duplicates("prompt").set_index("prompt")["cluster"]
    return [
        f"★ {row.text[:60]} → {told[cluster_of[row.nearest]]}; most similar ({row.cosine:z.2f}): "
        f"{' '.join(row.nearest.split())[:80]}"
        for row in own.itertuples()
    ]


def map_alt(points: pd.DataFrame, k: int, beside: str | None) -> str:
    if beside is None:
        return f"A map of {len(points)} prompts, colored by {k} clusters."
    return (
        f"Two maps of the same {len(points)} prompts: on the left colored by {COLORINGS[beside]}, on the "
        f"right by {k} clusters."
    )


def sizes_note(points: pd.DataFrame, k: int) -> str:
    sizes = points["cluster"].value_counts()
    return f"k = {k}: the smallest cluster has {sizes.min()} of {len(points)} prompts, the largest {sizes.max()}."


def cluster_figure(
    points: pd.DataFrame,
    beside: str | None,
    names: pd.DataFrame,
    own: pd.DataFrame | None = None,
    shown: np.ndarray | None = None,
) -> Figure:
    """The map colored by cluster; if there are labels, to the right of the map colored by one of `COLORINGS`.

    Args:
        points: as `map_frame` returns them.
        beside: "group" or "dataset"; None draws only the clusters.
        names: cluster and name.
        own: texts that are drawn as stars, as `place` returns them.
        shown: (n,) booleans; the other points are pale.
    """
    size = NAME_SIZE if len(names) <= MANY_NAMES else SMALL_NAME_SIZE
    if len(names) > MANY_NAMES:
        names = names.assign(name=names["name"].str.partition(",")[0])
    with use_style():
        if beside is None:
            drawing = figure(FULL_WIDTH, 5.0)
            map_panel(drawing.subplots(), points, "cluster", names, own, size, shown=shown)
            return drawing
        if shown is not None:
            shown = shown[np.argsort(pd.factorize(points["group"])[0], kind="stable")]  # as `by_group` sorts
        points = by_group(points)
        drawing = figure(FULL_WIDTH, 4.6)
        left, right = drawing.subplots(1, 2)
        map_panel(left, points, beside, None, own, size, shown=shown)
        map_panel(right, points, "cluster", names, own, size, alike_marks(points, beside), shown)
    return drawing


def alike_marks(points: pd.DataFrame, beside: str) -> dict[int, Mark]:
    """{cluster: Mark}: the mark of the label with which it shares most prompts, one cluster per label; others get new ones.

    So a cluster that holds a group looks like the group, for every k.
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
            f"k = {k} and {points[column].nunique()} {COLORINGS[column]}s: AMI {found['ami'][0]:z.2f}, "
            f"purity {percent(found['purity'][0])}"
        )
    return "\n".join(
        [
            *lines,
            "AMI is 0 if clusters say nothing about the labels and 1 if both are the same partition; "
            "purity always grows with k.",
        ]
    )
