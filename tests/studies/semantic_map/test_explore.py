"""k and the map: what is drawn and said is what the analysis finds for that k."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from moe_analysis.studies.semantic_map import explore as widget
from moe_analysis.studies.semantic_map.agreement import counts, scores
from moe_analysis.studies.semantic_map.maps import map_frame
from moe_analysis.studies.semantic_map.measure import SemanticMap, names_of
from moe_analysis.tasks.clusters import Clusters, cluster
from tests.drawing.test_explorer import picture

from .test_draw import SAMPLE, scattered

EMBEDDINGS, PLACES = scattered(1), scattered(0)[:, :2]


@pytest.fixture(scope="module")
def first():
    return cluster(EMBEDDINGS, 4, seed=3)


def mapped(clusters: Clusters, prompts: pd.DataFrame = SAMPLE, embeddings: np.ndarray = EMBEDDINGS) -> SemanticMap:
    """A map whose clusters are compared with nothing."""
    nothing = dict.fromkeys(("agreement", "by_seed", "neighbors", "by_dataset"), pd.DataFrame())
    return SemanticMap(
        prompts,
        **nothing,
        points=map_frame(prompts, PLACES[: len(prompts)], clusters.labels),
        embeddings={"bare": embeddings},
        clusters=clusters,
        names=names_of(prompts["prompt"], clusters.labels),
    )


def dotted(axes) -> list:
    """The layers of points, without hulls and stars."""
    return [layer for layer in axes.collections if isinstance(layer, PathCollection) and not is_unnamed(layer)]


def is_unnamed(layer) -> bool:
    return str(layer.get_label()).startswith("_")


def ami(labels: np.ndarray, column: str) -> float:
    return float(scores(counts(labels, pd.factorize(SAMPLE[column])[0]))["ami"][0])


def test_moving_k_clusters_anew_and_says_how_the_clusters_agree(first):
    explorer = mapped(first).widget()
    before = picture(explorer)
    assert f"k = 4 and 12 data sets: AMI {ami(first.labels, 'dataset'):.2f}" in explorer.note.value
    explorer.controls["k"].value = 9
    labels = cluster(EMBEDDINGS, 9, seed=3).labels
    assert f"k = 9 and 12 data sets: AMI {ami(labels, 'dataset'):.2f}" in explorer.note.value
    assert f"k = 9 and 4 predefined groups: AMI {ami(labels, 'group'):.2f}" in explorer.note.value
    assert (picture(explorer) != before).any()


def test_the_first_map_is_of_the_clusters_that_were_passed(first, monkeypatch):
    def refuse(*_):
        raise AssertionError("clustered again")

    monkeypatch.setattr(widget, "cluster", refuse)
    assert "k = 4 and" in mapped(first).widget().note.value


def test_the_right_map_has_every_cluster_with_its_prompts_and_the_left_one_the_labels(first):
    points = map_frame(SAMPLE, PLACES, first.labels)
    names = names_of(SAMPLE["prompt"], first.labels)
    left, right = widget.cluster_figure(points, "group", names).axes
    assert sorted(" ".join(text.get_text().split()) for text in right.texts) == sorted(names["name"])
    assert right.get_legend() is None
    for name, dots in enumerate(dotted(right)):
        inside = points[points["cluster"] == name]
        assert {tuple(place) for place in np.asarray(dots.get_offsets())} == set(zip(inside["x"], inside["y"]))
    assert len({to_hex(dots.get_facecolor()[0]) for dots in dotted(right)}) == 4
    assert {text.get_text() for text in left.get_legend().get_texts()} == set(SAMPLE["group"])


def test_a_cluster_looks_like_the_label_whose_prompts_it_holds():
    """Clusters that are the groups, numbered in another order, and one group cut in two."""
    groups, names = pd.factorize(SAMPLE["group"])
    points = map_frame(SAMPLE, PLACES, np.array([2, 0, 3, 1])[groups])
    left, right = widget.cluster_figure(points, "group", names_of(points["prompt"], points["cluster"])).axes
    colors = [[to_hex(dots.get_facecolor()[0]) for dots in dotted(axes)] for axes in (left, right)]
    assert [colors[1][number] for number in (2, 0, 3, 1)] == colors[0]
    cut = groups.copy()
    cut[np.flatnonzero(groups == 1)[:2]] = len(names)
    marks = widget.alike_marks(map_frame(SAMPLE, PLACES, cut), "group")
    assert [marks[number].color.lower() for number in range(len(names))] == colors[0]
    assert len({(mark.color, mark.marker) for mark in marks.values()}) == len(names) + 1


def test_every_number_of_clusters_that_the_slider_offers_has_looks_of_its_own():
    """More labels than clusters, and many more clusters than labels."""
    for k in (1, 2, 48):
        clusters = np.arange(len(SAMPLE)) % k
        for beside in ("group", "dataset"):
            marks = widget.alike_marks(map_frame(SAMPLE, PLACES, clusters), beside)
            assert sorted(marks) == list(range(k))
            assert len({(mark.color, mark.marker) for mark in marks.values()}) == k


def test_the_left_map_can_show_data_sets(first):
    explorer = mapped(first).widget()
    before = picture(explorer)
    explorer.controls["beside"].value = "dataset"
    assert "colored by data set" in explorer.picture.value and (picture(explorer) != before).any()


def test_more_clusters_than_distinct_prompts_are_refused(first):
    doubled = np.concatenate([EMBEDDINGS[:20]] * 3)
    explorer = mapped(cluster(doubled, 4), embeddings=doubled).widget()
    explorer.controls["k"].value = 30
    assert "k = 30 but only 20 of the 60 embeddings are distinct; lower k" in explorer.message.value
    assert "k = 4 and" in explorer.note.value


def test_k_is_bounded_by_what_looks_different_and_by_the_prompts(first):
    assert mapped(first).widget().controls["k"].max == 48
    few = SAMPLE.head(10)
    assert mapped(cluster(EMBEDDINGS[:10], 2), few, EMBEDDINGS[:10]).widget().controls["k"].max == 10


def test_plain_texts_have_a_knob_too_and_their_clusters_stand_alone(first):
    explorer = mapped(first, SAMPLE[["prompt"]]).widget()
    assert list(explorer.controls) == ["k", "search", "own"]
    explorer.controls["k"].value = 9
    sizes = np.bincount(cluster(EMBEDDINGS, 9, seed=3).labels)
    assert explorer.note.value.count(f"k = 9: the smallest cluster has {sizes.min()} of 60 prompts") == 1
    assert not explorer.message.value


def test_a_search_leaves_the_prompts_dark_that_contain_every_word_and_counts_them(first):
    explorer = mapped(first).widget()
    before = picture(explorer)
    explorer.controls["search"].value = "TASK_1 <b>3"
    assert "3 of 60 prompts contain TASK_1 and &lt;b&gt;3, such as: task_1 &amp;" in explorer.note.value
    assert (picture(explorer) != before).any() and not explorer.message.value
    explorer.controls["search"].value = "zebra"
    assert "None of the 60 prompts contains zebra" in explorer.note.value


def test_own_texts_are_placed_line_by_line_and_their_notes_name_the_cluster(first, monkeypatch):
    asked = []

    def place(found: SemanticMap, texts: list[str]) -> pd.DataFrame:
        asked.append(texts)
        return pd.DataFrame(
            {"x": 0.0, "y": 0.0, "text": texts, "cluster": 0, "name": "", "nearest": SAMPLE["prompt"][7], "cosine": 0.5}
        )

    monkeypatch.setattr(SemanticMap, "place", place)
    explorer = mapped(first).widget()
    before = picture(explorer)
    explorer.controls["own"].value = "one\n\n  two  \n"
    assert asked == [["one", "two"]] and (picture(explorer) != before).any()
    name = names_of(SAMPLE["prompt"], first.labels).set_index("cluster")["name"][first.labels[7]]
    assert f"★ two → {name}; most similar (0.50)" in explorer.note.value
    explorer.controls["own"].value = " \n"
    assert "★" not in explorer.note.value and len(asked) == 1


def test_points_in_a_lasso_are_listed_as_text_and_an_empty_one_says_what_to_do(first):
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    explorer = mapped(first).widget()
    lasso = explorer.lasso
    assert lasso.figure.layout.dragmode == "lasso" and len(lasso.figure.layout.shapes) == 4
    lasso.list([7, 3])
    assert lasso.told.value == "2 of 60 prompts selected."
    assert lasso.table.value.index("task_0 &amp; &lt;b&gt;3") < lasso.table.value.index("task_1 &amp; &lt;b&gt;2")
    lasso.list([])
    assert lasso.told.value.startswith("None of the 60 prompts is selected") and lasso.table.value == ""
    explorer.controls["search"].value = "task_11"
    assert lasso.told.value == "5 of 60 prompts selected." and len(lasso.figure.data[0].selectedpoints) == 5
    explorer.controls["k"].value = 6
    assert len(lasso.figure.layout.shapes) == 6
