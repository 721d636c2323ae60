"""The semantic map and its agreement with labels, on embeddings whose geometry is known."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from moe_analysis.analysis import agreement as counting
from moe_analysis.analysis import clusters
from moe_analysis.analysis.clusters import (
    SCORES,
    agreement,
    cluster_profile,
    compare,
    compare_neighbours,
    embedding_map,
    map_claims,
    map_frame,
    map_sample,
    neighbour_agreement,
    templated,
)
from moe_analysis.tasks.cache import CacheWarning


def suite(groups: dict[str, str], rows: int = 12, split: str = "train") -> pd.DataFrame:
    """`rows` prompts of each data set, {data set: group}, all different."""
    return pd.DataFrame(
        {"dataset": name, "group": group, "split": split, "prompt": f"{name} asks {row}", "choices": None}
        for name, group in groups.items() for row in range(rows)
    )  # fmt: skip


def around(labels: pd.Series, spread: float = 0.05, width: int = 16) -> np.ndarray:
    """Rows of length 1 scattered around one axis for each label: the labels are the semantics."""
    codes = pd.factorize(labels)[0]
    points = np.eye(width)[codes] + spread * np.random.default_rng(0).normal(size=(len(codes), width))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def topics(frame: pd.DataFrame, number: int) -> pd.Series:
    """A topic for each row that runs through every data set alike."""
    return frame.groupby("dataset").cumcount() % number


EIGHT = {f"d{index}": "ABCD"[index // 2] for index in range(8)}


# ---------------------------------------------------------------- sample and template


def test_a_sample_takes_one_data_set_of_each_group_before_a_second_of_any() -> None:
    frame = suite({"a1": "A", "a2": "A", "a3": "A", "b1": "B", "c1": "C", "b2": "B"})
    assert set(map_sample(frame, datasets=3, rows=2)["dataset"]) == {"a1", "b1", "c1"}
    assert set(map_sample(frame, datasets=5, rows=2)["dataset"]) == {"a1", "b1", "c1", "a2", "b2"}


def test_a_sample_holds_all_data_sets_when_there_are_fewer_and_all_rows_of_a_short_one() -> None:
    frame = pd.concat([suite({"long": "A"}, rows=9), suite({"short": "B"}, rows=3)], ignore_index=True)
    assert map_sample(frame, rows=5)["dataset"].value_counts().to_dict() == {"long": 5, "short": 3}


def test_a_sample_uses_train_rows_where_a_data_set_has_them_and_test_rows_where_it_has_none() -> None:
    both = pd.concat([suite({"a": "A"}, rows=4), suite({"a": "A"}, rows=9, split="test")], ignore_index=True)
    both["prompt"] += both.index.astype(str)
    sample = map_sample(pd.concat([both, suite({"b": "B"}, rows=4, split="test")], ignore_index=True), rows=8)
    assert sample.groupby("dataset")["split"].agg(set).to_dict() == {"a": {"train"}, "b": {"test"}}


def test_a_prompt_that_two_data_sets_share_is_sampled_from_the_first_only() -> None:
    frame = suite({"a": "A", "b": "B"}, rows=4)
    frame.loc[frame["dataset"] == "b", "prompt"] = ["a asks 0", "a asks 1", "own", "another"]
    sample = map_sample(frame, rows=10)
    assert sample["prompt"].is_unique
    assert sample["dataset"].value_counts().to_dict() == {"a": 4, "b": 2}


def test_a_sample_repeats_for_its_seed_and_differs_for_another() -> None:
    frame = suite(EIGHT, rows=30)
    prompts = [list(map_sample(frame, rows=5, seed=seed)["prompt"]) for seed in (0, 0, 1)]
    assert prompts[0] == prompts[1] != prompts[2]


def test_a_sample_of_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="rows = 0"):
        map_sample(suite(EIGHT), rows=0)


def test_a_templated_prompt_has_instruction_options_and_answer_line_around_the_bare_one() -> None:
    frame = pd.DataFrame({"dataset": ["quiz", "rule", "last_word"], "prompt": ["Is 2 {odd}?", "Go.", "Hm?"],
                          "choices": [["yes", "no"], None, None]})  # fmt: skip
    manifest = {"quiz": {"template": "Choose: {prompt}\n\nA: .. B: ..\n\nSay yes or no", "rule": "unused"},
                "rule": {"rule": "Walk on."}}  # fmt: skip
    assert templated(frame, manifest) == [
        "Choose: Is 2 {odd}?\nSay yes or no\nOptions: yes, no\nAnswer:",
        "Walk on.\nGo.\nAnswer:",
        "Task: last word.\nHm?\nAnswer:",
    ]


def test_option_marks_on_the_prompts_own_line_are_dropped_with_what_follows_it() -> None:
    frame = pd.DataFrame({"dataset": ["q"], "prompt": ["Why?"], "choices": [None]})
    assert templated(frame, {"q": {"template": "Hear: {prompt} Choices: (A) .. (E) .."}}) == ["Hear: Why?\nAnswer:"]


# ---------------------------------------------------------------- scores


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


def test_a_labelling_of_one_class_has_no_agreement() -> None:
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


# ---------------------------------------------------------------- agreement


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
    with pytest.raises(ValueError, match="'d0' lies in the groups D, A"):
        agreement(around(frame["dataset"]), frame)
    with pytest.raises(ValueError, match="permutations = 0"):
        agreement(around(frame["dataset"]), suite(EIGHT), permutations=0)


# ---------------------------------------------------------------- neighbours


def test_neighbours_in_other_data_sets_share_the_group_when_groups_are_the_semantics() -> None:
    frame = suite(EIGHT)
    found = neighbour_agreement(around(frame["group"]), frame, neighbours=5).set_index("measure")
    assert found.loc["same group", "share"] == found.loc["same group, other data sets", "share"] == 1.0
    # the own data set out: 12 prompts of the one sibling among 84
    assert found.loc["same group, other data sets", "chance"] == pytest.approx(12 / 84)
    assert found.loc["same data set", "chance"] == pytest.approx(11 / 95)


def test_neighbours_follow_chance_outside_the_data_set_when_data_sets_are_the_semantics() -> None:
    frame = suite(EIGHT, rows=40)
    found = neighbour_agreement(around(frame["dataset"], width=64), frame).set_index("measure")
    assert found.loc["same data set", "share"] == 1.0
    other = found.loc["same group, other data sets"]
    assert other["share"] == pytest.approx(other["chance"], abs=0.08)


def test_only_prompts_whose_group_has_another_data_set_are_asked_about_it() -> None:
    frame = suite({"a1": "A", "a2": "A", "b": "B"})
    found = neighbour_agreement(around(frame["dataset"]), frame, neighbours=3).set_index("measure")
    assert found.loc["same group, other data sets", "prompts"] == 24
    alone = neighbour_agreement(around(frame["dataset"]), frame.assign(group=frame["dataset"]), neighbours=3)
    assert alone.set_index("measure").loc["same group, other data sets", ["share", "chance"]].isna().all()


def test_more_neighbours_than_candidates_are_refused() -> None:
    frame = suite({"a1": "A", "a2": "A"}, rows=4)
    with pytest.raises(ValueError, match="neighbours = 10 but a prompt has only 7 candidates"):
        neighbour_agreement(around(frame["dataset"]), frame)


# ---------------------------------------------------------------- map and profile


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_keeps_far_clusters_apart_and_has_the_same_bits_again(method: str) -> None:
    frame = suite({"a": "A", "b": "B"}, rows=20)
    first, second = (embedding_map(around(frame["dataset"]), method, seed=3) for _ in range(2))
    assert first.shape == (40, 2) and first.dtype == np.float32
    assert (first == second).all()
    centres = first.reshape(2, 20, 2).mean(1)
    radius = np.linalg.norm(first.reshape(2, 20, 2) - centres[:, None], axis=-1).max()
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * radius


def test_a_map_is_computed_once_and_then_read_unless_something_it_is_made_from_changes(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_CACHE", str(tmp_path))
    computed = []
    placed = clusters._placed
    monkeypatch.setattr(clusters, "_placed", lambda *given: computed.append(given[1:]) or placed(*given))
    points = around(suite({"a": "A", "b": "B"}, rows=20)["dataset"])
    first, second = (embedding_map(points, "pca", cache=True) for _ in range(2))
    assert (first == second).all() and computed == [("pca", 0)]
    embedding_map(points, "pca", seed=1, cache=True)
    moved = embedding_map(points[::-1], "pca", cache=True)
    assert len(computed) == 3 and (moved != first).any()
    next((tmp_path / "maps").glob("*.npy")).write_bytes(b"damaged")
    with pytest.warns(CacheWarning, match="is damaged"):
        for seed in (0, 1):
            embedding_map(points, "pca", seed=seed, cache=True)
            embedding_map(points[::-1], "pca", seed=seed, cache=True)


def test_umap_gets_exact_neighbours_and_is_told_to_be_repeatable_without_a_warning(monkeypatch) -> None:
    asked = {}

    class Recorded:
        def __init__(self, **options: object) -> None:
            asked.update(options)

        def fit_transform(self, matrix: np.ndarray) -> np.ndarray:
            warnings.warn("precomputed_knn[2] (knn_search_index) is not an NNDescent object", UserWarning, stacklevel=1)
            return matrix[:, :2]

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Recorded))  # the real one compiles for a minute
    points = around(suite(EIGHT)["dataset"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        placed = embedding_map(points, "umap", seed=7)
    assert (placed == points[:, :2]).all()
    assert asked["random_state"] == 7 and asked["n_jobs"] == 1
    indices, distances = asked["precomputed_knn"]
    assert indices.shape == distances.shape == (96, 15)
    truth = np.sort(1 - points @ points.T, axis=1)[:, :15]
    assert distances == pytest.approx(truth, abs=1e-5)


def test_an_unknown_map_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="method = 'mds' is unknown; choose one of umap, pca, tsne"):
        embedding_map(np.eye(5), "mds")
    with pytest.raises(ValueError, match="at least 4 rows"):
        embedding_map(np.eye(3), "pca")


def test_a_profile_counts_prompts_by_cluster_and_data_set_and_says_how_mixed_a_cluster_is() -> None:
    frame = suite({"a": "A", "b": "B", "a2": "A"}, rows=4)
    labels = np.array([0] * 4 + [1] * 4 + [0] * 2 + [2] * 2)
    profile = cluster_profile(labels, frame)
    assert list(profile.columns) == ["a", "a2", "b", "size", "dataset_entropy", "group_entropy"]
    assert profile[["a", "a2", "b"]].to_numpy().tolist() == [[4, 2, 0], [0, 0, 4], [0, 2, 0]]
    assert profile["size"].tolist() == [6, 4, 2]
    assert profile["group_entropy"].tolist() == pytest.approx([0, 0, 0])
    mixed = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(3)
    assert profile["dataset_entropy"].tolist() == pytest.approx([mixed, 0, 0])


def test_a_map_frame_carries_what_hover_and_colours_need() -> None:
    sample = suite({"a": "A", "b": "B"}, rows=2)
    points = map_frame(sample, np.arange(8, dtype=np.float32).reshape(4, 2), np.array([1, 0, 1, 0]))
    assert list(points.columns) == ["x", "y", "dataset", "group", "cluster", "prompt"]
    assert points.iloc[2].tolist() == [4.0, 5.0, "b", "B", 1, "b asks 0"]


# ---------------------------------------------------------------- claims


def verdicts(embeddings: np.ndarray, frame: pd.DataFrame) -> list[str]:
    texts = {"bare": embeddings}
    table = compare(texts, frame, ks=(4,), seeds=(0,), permutations=40)
    claims = map_claims(table, compare_neighbours(texts, frame))
    assert list(claims.columns) == ["source", "claim", "paper", "measured", "spread", "verdict"]
    return claims["verdict"].tolist()


def test_the_claim_is_not_reproduced_when_clusters_are_the_groups() -> None:
    frame = suite(EIGHT)
    assert verdicts(around(frame["group"]), frame) == ["not reproduced"] * 2


def test_the_claim_is_reproduced_when_tasks_of_different_groups_lie_together() -> None:
    frame = suite(EIGHT)
    partner = frame["dataset"].str[1].astype(int) % 4  # d0 with d4, d1 with d5: never of one group
    assert verdicts(around(partner), frame) == ["reproduced"] * 2


def test_the_claim_is_not_testable_when_clusters_follow_nothing_or_groups_are_data_sets() -> None:
    frame = suite(EIGHT, rows=15)
    by_dataset = around(frame["dataset"])
    assert verdicts(around(topics(frame, 5)), frame) == ["not testable at this scale"] * 2
    assert verdicts(by_dataset, frame.assign(group=frame["dataset"])) == ["not testable at this scale"] * 2
    assert verdicts(by_dataset, frame.assign(group="one")) == ["not testable at this scale"] * 2


def test_an_alignment_whose_interval_holds_the_limit_is_not_decided() -> None:
    frame = suite(EIGHT)
    texts = {"bare": around(frame["group"])}
    table = compare(texts, frame, ks=(4,), seeds=(0, 1, 2), permutations=20)
    near = compare_neighbours(texts, frame)
    table.loc[table["labels"] == "group", ["ami", "ami_sd"]] = 0.51, 0.05
    near[["share", "sd"]] = 0.45, 0.3
    assert map_claims(table, near)["verdict"].tolist() == ["not testable at this scale"] * 2
    table["ami_sd"], near["sd"] = 0.001, 0.01
    assert map_claims(table, near)["verdict"].tolist() == ["not reproduced", "reproduced"]
    # Student's t with two degrees of freedom: 4.303 standard errors
    assert map_claims(table, near)["spread"][0] == "0.51 to 0.51 (95 %, k-means seeds)"


def test_each_text_is_judged_on_its_own_numbers() -> None:
    frame = suite(EIGHT)
    texts = {"bare": around(frame["dataset"].str[1].astype(int) % 4), "templated": around(frame["group"])}
    table = compare(texts, frame, ks=(4,), seeds=(0, 1), permutations=20)
    claims = map_claims(table, compare_neighbours(texts, frame))
    assert claims["verdict"].tolist() == ["reproduced"] * 2 + ["not reproduced"] * 2
    assert claims["claim"].str.contains("bare").tolist() == [True, True, False, False]
