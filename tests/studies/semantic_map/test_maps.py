"""Samples and the semantic map, on embeddings whose geometry is known."""

from __future__ import annotations

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moe_analysis.studies.semantic_map import maps
from moe_analysis.studies.semantic_map.maps import (
    cluster_profile,
    embedding_map,
    map_frame,
    map_sample,
    templated,
)
from moe_analysis.tasks.cache import CacheWarning
from tests.studies.fake_embeddings import EIGHT, around, suite

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
    frame = pd.DataFrame(
        {
            "dataset": ["quiz", "rule", "last_word"],
            "prompt": ["Is 2 {odd}?", "Go.", "Hm?"],
            "choices": [["yes", "no"], None, None],
        }
    )
    manifest = {
        "quiz": {"template": "Choose: {prompt}\n\nA: .. B: ..\n\nSay yes or no", "rule": "unused"},
        "rule": {"rule": "Walk on."},
    }
    assert templated(frame, manifest) == [
        "Choose: Is 2 {odd}?\nSay yes or no\nOptions: yes, no\nAnswer:",
        "Walk on.\nGo.\nAnswer:",
        "Task: last word.\nHm?\nAnswer:",
    ]


def test_option_marks_on_the_prompts_own_line_are_dropped_with_what_follows_it() -> None:
    frame = pd.DataFrame({"dataset": ["q"], "prompt": ["Why?"], "choices": [None]})
    assert templated(frame, {"q": {"template": "Hear: {prompt} Choices: (A) .. (E) .."}}) == ["Hear: Why?\nAnswer:"]


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
    placed = maps._placed
    monkeypatch.setattr(maps, "_placed", lambda *given: computed.append(given[1:]) or placed(*given))
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


def test_umap_gets_exact_neighbors_and_is_told_to_be_repeatable_without_a_warning(monkeypatch) -> None:
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


def test_a_map_frame_carries_what_hover_and_colors_need() -> None:
    sample = suite({"a": "A", "b": "B"}, rows=2)
    points = map_frame(sample, np.arange(8, dtype=np.float32).reshape(4, 2), np.array([1, 0, 1, 0]))
    assert list(points.columns) == ["x", "y", "dataset", "group", "cluster", "prompt"]
    assert points.iloc[2].tolist() == [4.0, 5.0, "b", "B", 1, "b asks 0"]
