"""k and the map: what is drawn and said is what the analysis finds for that k."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from moe_analysis.studies.semantic_map import explore as widget
from moe_analysis.studies.semantic_map.agreement import counts, scores
from moe_analysis.studies.semantic_map.explore import cluster_widget
from moe_analysis.studies.semantic_map.maps import map_frame
from moe_analysis.tasks.clusters import cluster
from tests.drawing.test_explorer import picture

from .test_draw import SAMPLE, scattered

EMBEDDINGS, PLACES = scattered(1), scattered(0)[:, :2]


@pytest.fixture(scope="module")
def first():
    return cluster(EMBEDDINGS, 4, seed=3)


def ami(labels: np.ndarray, column: str) -> float:
    return float(scores(counts(labels, pd.factorize(SAMPLE[column])[0]))["ami"][0])


def test_moving_k_clusters_anew_and_says_how_the_clusters_agree(first):
    explorer = cluster_widget(EMBEDDINGS, SAMPLE, PLACES, first)
    before = picture(explorer)
    assert f"k = 4 against 12 data sets: AMI {ami(first.labels, 'dataset'):.2f}" in explorer.note.value
    explorer.controls["k"].value = 9
    labels = cluster(EMBEDDINGS, 9, seed=3).labels
    assert f"k = 9 against 12 data sets: AMI {ami(labels, 'dataset'):.2f}" in explorer.note.value
    assert f"k = 9 against 4 predefined groups: AMI {ami(labels, 'group'):.2f}" in explorer.note.value
    assert (picture(explorer) != before).any()


def test_the_first_map_is_of_the_clusters_that_were_passed(first, monkeypatch):
    def refuse(*_):
        raise AssertionError("clustered again")

    monkeypatch.setattr(widget, "cluster", refuse)
    assert "k = 4 against" in cluster_widget(EMBEDDINGS, SAMPLE, PLACES, first).note.value


def test_the_right_map_has_every_cluster_with_its_prompts_and_the_left_one_the_labels(first):
    points = map_frame(SAMPLE, PLACES, first.labels)
    left, right = widget.cluster_figure(points, "group").axes
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["0", "1", "2", "3"]
    for name, dots in enumerate(right.collections):
        inside = points[points["cluster"] == name]
        assert {tuple(place) for place in np.asarray(dots.get_offsets())} == set(zip(inside["x"], inside["y"]))
    assert len({to_hex(dots.get_facecolor()[0]) for dots in right.collections}) == 4
    assert {text.get_text() for text in left.get_legend().get_texts()} == set(SAMPLE["group"])


def test_a_cluster_looks_like_the_label_whose_prompts_it_holds():
    """Clusters that are the groups, numbered in another order, and one group cut in two."""
    groups, names = pd.factorize(SAMPLE["group"])
    points = map_frame(SAMPLE, PLACES, np.array([2, 0, 3, 1])[groups])
    left, right = widget.cluster_figure(points, "group").axes
    colors = [[to_hex(dots.get_facecolor()[0]) for dots in axes.collections] for axes in (left, right)]
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
    explorer = cluster_widget(EMBEDDINGS, SAMPLE, PLACES, first)
    before = picture(explorer)
    explorer.controls["beside"].value = "dataset"
    assert "colored by data set" in explorer.picture.value and (picture(explorer) != before).any()


def test_more_clusters_than_distinct_prompts_are_refused(first):
    doubled = np.concatenate([EMBEDDINGS[:20]] * 3)
    explorer = cluster_widget(doubled, SAMPLE, PLACES, cluster(doubled, 4))
    explorer.controls["k"].value = 30
    assert "k = 30 but only 20 of the 60 embeddings are distinct; lower k" in explorer.message.value
    assert "k = 4 against" in explorer.note.value


def test_k_is_bounded_by_what_looks_different_and_by_the_prompts(first):
    assert cluster_widget(EMBEDDINGS, SAMPLE, PLACES, first).controls["k"].max == 48
    few = SAMPLE.head(10)
    assert cluster_widget(EMBEDDINGS[:10], few, PLACES[:10], cluster(EMBEDDINGS[:10], 2)).controls["k"].max == 10


def test_arrays_of_other_prompts_are_refused(first):
    with pytest.raises(ValueError, match="coordinates has 59 rows but prompts has 60"):
        cluster_widget(EMBEDDINGS, SAMPLE, PLACES[1:], first)
    with pytest.raises(ValueError, match="clusters.labels has 20 rows but prompts has 60"):
        cluster_widget(EMBEDDINGS, SAMPLE, PLACES, cluster(EMBEDDINGS[:20], 4))
    with pytest.raises(ValueError, match="embeddings has 59 rows"):
        cluster_widget(EMBEDDINGS[1:], SAMPLE, PLACES, first)


def test_plain_texts_have_a_knob_too_and_their_clusters_stand_alone(first):
    texts = SAMPLE["prompt"].tolist()
    explorer = cluster_widget(EMBEDDINGS, texts, PLACES, first)
    assert list(explorer.controls) == ["k"]
    explorer.controls["k"].value = 9
    sizes = np.bincount(cluster(EMBEDDINGS, 9, seed=3).labels)
    assert explorer.note.value.count(f"k = 9: the smallest cluster holds {sizes.min()} of 60 prompts") == 1
    assert not explorer.message.value
    with pytest.raises(ValueError, match="coordinates has 60 rows but prompts has 59"):
        cluster_widget(EMBEDDINGS[1:], texts[1:], PLACES, first)


def test_prompts_with_one_label_only_are_refused(first):
    with pytest.raises(ValueError, match="frame has no column group; give each prompt the labels"):
        cluster_widget(EMBEDDINGS, SAMPLE.drop(columns="group"), PLACES, first)
