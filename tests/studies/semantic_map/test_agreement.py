"""Whether clusters and neighbors follow groups of data sets: against scikit-learn, chance and made-up embeddings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from moe_analysis.studies.semantic_map import agreement as counting
from moe_analysis.studies.semantic_map import neighbors as nearest
from tests.studies.fake_embeddings import EIGHT, around, suite, topics

SCORES = ("ami", "nmi", "homogeneity", "completeness", "purity")


def agreement(embeddings, frame, permutations=200, **sizes) -> pd.DataFrame:
    return counting.agreement(counting.clusterings(embeddings, frame, **sizes), frame, permutations)


def neighbor_agreement(embeddings, frame, neighbors=10) -> pd.DataFrame:
    return nearest.neighbor_agreement(nearest.neighbor_shares(embeddings, frame, neighbors))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=8, max_size=80))
@settings(max_examples=40, deadline=None)
def test_scores_equal_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    clusters, classes = (pd.factorize(np.array(column))[0] for column in zip(*pairs))
    if not classes.max():
        classes[0] = 1  # one class only has no agreement, see below
    found = {name: float(value[0]) for name, value in counting.scores(counting.counts(clusters, classes)).items()}
    table = metrics.cluster.contingency_matrix(classes, clusters)
    assert found["nmi"] == pytest.approx(metrics.normalized_mutual_info_score(classes, clusters), abs=1e-9)
    assert found["ami"] == pytest.approx(metrics.adjusted_mutual_info_score(classes, clusters), abs=1e-7)
    assert found["homogeneity"] == pytest.approx(metrics.homogeneity_score(classes, clusters), abs=1e-9)
    assert found["completeness"] == pytest.approx(metrics.completeness_score(classes, clusters), abs=1e-9)
    assert found["purity"] == pytest.approx(table.max(axis=0).sum() / table.sum())


def test_a_labeling_of_one_class_has_no_agreement() -> None:
    found = counting.scores(counting.counts(np.array([0, 1, 1]), np.zeros(3, dtype=int)))
    assert all(np.isnan(found[name]).all() for name in SCORES)


def test_shuffling_keeps_class_and_cluster_sizes_and_regrouping_keeps_whole_data_sets_together() -> None:
    frame = suite(EIGHT)
    dataset, group = (pd.factorize(frame[name])[0] for name in ("dataset", "group"))
    clusters = topics(frame, 3).to_numpy()[None]  # (1, n)
    shuffled = counting.shuffled_counts(clusters, group, 7)
    assert shuffled.shape == (7, 1, 3, 4)
    assert (shuffled.sum(2) == np.bincount(group)).all() and (shuffled.sum(3) == np.bincount(clusters[0])).all()
    regrouped = counting.regrouped_counts(dataset[None], dataset, group, 7)  # clusters that are the data sets
    assert ((regrouped > 0).sum(-1) == 1).all(), "a data set was torn between groups"
    assert (regrouped.sum(2) == np.bincount(group)).all()


def test_clusters_of_embeddings_that_are_the_groups_agree_with_the_groups_entirely() -> None:
    frame = suite(EIGHT)
    table = agreement(around(frame["group"]), frame, ks=(4,), seeds=(0, 1), permutations=50).set_index(["labels", "k"])
    groups = table.loc[("group", 4)]
    assert groups["matched"]
    assert [groups[name] for name in SCORES] == pytest.approx([1.0] * 5)
    assert groups["ami_sd"] == pytest.approx(0)
    assert groups["chance_p"] == pytest.approx(1 / 51)
    assert groups["regrouped_ami_95"] < 0.9
    assert table.loc[("dataset", 4), "completeness"] == pytest.approx(1.0)
    assert table.loc[("dataset", 4), "homogeneity"] == pytest.approx(np.log(4) / np.log(8))


def test_clusters_of_topics_that_cut_across_data_sets_agree_with_neither_label() -> None:
    frame = suite(EIGHT, rows=15)
    table = agreement(around(topics(frame, 5)), frame, ks=(5,), permutations=40)
    assert table.loc[table["k"] == 5, "ami"].max() < 0.01
    assert table.loc[table["k"] == 5, "chance_p"].min() > 0.5


def test_clusters_that_are_the_data_sets_agree_with_any_grouping_of_them_alike() -> None:
    frame = suite(EIGHT)
    table = agreement(around(frame["dataset"]), frame, ks=(8,), permutations=30).set_index(["labels", "k"])
    assert table.loc[("dataset", 8), "ami"] == pytest.approx(1.0)
    groups = table.loc[("group", 8)]
    assert groups["chance_p"] == pytest.approx(1 / 31), "far above shuffled labels"
    assert groups["regrouped_p"] == pytest.approx(1.0), "and yet no better than groups dealt at random"
    assert groups["regrouped_ami"] == pytest.approx(groups["ami"])


def test_chance_adjusted_agreement_of_shuffled_labels_is_zero_on_average() -> None:
    frame = suite(EIGHT, rows=20)
    table = agreement(around(frame["dataset"]), frame, ks=(10,), seeds=(0,), permutations=200)
    assert table["chance_ami"].abs().max() < 0.01
    assert (table["chance_nmi"] > 0.01).all(), "which NMI, unadjusted, is not"


def test_the_numbers_of_data_sets_and_groups_are_always_among_the_ks() -> None:
    table = agreement(around(suite(EIGHT)["dataset"]), suite(EIGHT), ks=(3,), seeds=(0,), permutations=2)
    assert list(table["k"].unique()) == [3, 4, 8]
    assert table.groupby("labels")["matched"].sum().to_dict() == {"dataset": 1, "group": 1}


def test_agreement_refuses_embeddings_of_another_frame_and_a_data_set_in_two_groups() -> None:
    frame = suite(EIGHT)
    with pytest.raises(ValueError, match="embeddings has 5 rows but frame has 96"):
        agreement(around(frame["dataset"])[:5], frame)
    frame.loc[0, "group"] = "D"
    with pytest.raises(ValueError, match="'d0' is in the groups D, A"):
        agreement(around(frame["dataset"]), frame)
    with pytest.raises(ValueError, match="permutations = 0"):
        agreement(around(suite(EIGHT)["dataset"]), suite(EIGHT), permutations=0)
    with pytest.raises(ValueError, match="seeds = \\(\\) is empty"):
        agreement(around(suite(EIGHT)["dataset"]), suite(EIGHT), seeds=())


def test_plain_texts_have_no_labels_to_agree_with() -> None:
    texts = pd.DataFrame({"prompt": ["one", "two"]})
    with pytest.raises(ValueError, match="frame has no column dataset and no column group; give each prompt"):
        counting.clusterings(np.eye(2), texts)


def test_a_cluster_holds_the_groups_of_a_tenth_of_its_prompts_and_no_stray() -> None:
    tables = np.array([[[10, 1, 0], [11, 1, 0], [0, 0, 0]]])
    assert counting.held(tables).sum(-1).tolist() == [[1, 1, 0]]
    assert counting.held(np.array([[9, 1, 0]])).sum(-1).tolist() == [2]


def test_the_scores_of_every_seed_are_those_that_are_averaged_and_say_which_clusters_are_mixed() -> None:
    frame = suite(EIGHT)
    clusters = counting.clusterings(around(topics(frame, 5)), frame, ks=(4,), seeds=(3, 5))
    table, seeds = counting.agreement(clusters, frame, 2), counting.seed_agreement(clusters, frame, (3, 5))
    assert seeds["seed"].tolist() == [3, 5] * 2 and seeds["k"].tolist() == [4, 4, 8, 8]
    for name in ("dataset", "group"):
        averaged = table[table["labels"] == name].set_index("k")["ami"]
        assert seeds.groupby("k")[f"{name}_ami"].mean().to_dict() == pytest.approx(averaged.to_dict())
    assert (seeds["mixed"] == 1).all()
    whole = counting.clusterings(around(frame["group"]), frame, ks=(4,), seeds=(0,))
    assert counting.seed_agreement(whole, frame, (0,)).set_index("k").loc[4, "mixed"] == 0


def test_neighbors_in_other_data_sets_share_the_group_when_groups_are_the_semantics() -> None:
    frame = suite(EIGHT)
    found = neighbor_agreement(around(frame["group"]), frame, neighbors=5).set_index("measure")
    assert found.loc["same group", "share"] == found.loc["same group, other data sets", "share"] == 1.0
    # the own data set out: 12 prompts of the one sibling among 84
    assert found.loc["same group, other data sets", "chance"] == pytest.approx(12 / 84)
    assert found.loc["same data set", "chance"] == pytest.approx(11 / 95)


def test_neighbors_follow_chance_outside_the_data_set_when_data_sets_are_the_semantics() -> None:
    frame = suite(EIGHT, rows=40)
    found = neighbor_agreement(around(frame["dataset"], width=64), frame).set_index("measure")
    assert found.loc["same data set", "share"] == 1.0
    other = found.loc["same group, other data sets"]
    assert other["share"] == pytest.approx(other["chance"], abs=0.08)


def test_only_prompts_whose_group_has_another_data_set_are_asked_about_it() -> None:
    frame = suite({"a1": "A", "a2": "A", "b": "B"})
    found = neighbor_agreement(around(frame["dataset"]), frame, neighbors=3).set_index("measure")
    assert found.loc["same group, other data sets", "prompts"] == 24
    alone = neighbor_agreement(around(frame["dataset"]), frame.assign(group=frame["dataset"]), neighbors=3)
    alone = alone.set_index("measure").loc["same group, other data sets"]
    assert alone[["share", "chance"]].isna().all() and alone["prompts"] == 0


def test_more_neighbors_than_candidates_are_refused() -> None:
    frame = suite({"a1": "A", "a2": "A"}, rows=4)
    with pytest.raises(ValueError, match="neighbors = 10 but a prompt has only 7 candidates"):
        neighbor_agreement(around(frame["dataset"]), frame)
