"""Names of clusters: class TF-IDF against the formula, and texts that have no words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from moe_analysis.studies.semantic_map.words import class_tfidf, cluster_names


def test_scores_are_the_formula_of_class_tf_idf() -> None:
    texts, labels = ["coin coin purse", "coin cat", "cat tree cat"], np.array([0, 0, 2])
    found = class_tfidf(texts, labels)
    average = 8 / 2  # words per class
    assert found.loc[0, "coin"] == pytest.approx(3 * math.log(1 + average / 3))
    assert found.loc[0, "cat"] == pytest.approx(1 * math.log(1 + average / 3))
    assert found.loc[2, "cat"] == pytest.approx(2 * math.log(1 + average / 3))
    assert found.loc[2, "tree"] == pytest.approx(1 * math.log(1 + average / 1))
    assert found.index.tolist() == [0, 2] and found.loc[2, "purse"] == 0


def test_a_word_that_all_classes_share_comes_after_their_own() -> None:
    texts = ["question coin coin", "question cat cat", "question tree tree"]
    assert cluster_names(texts, np.arange(3), words=2) == {0: "coin, question", 1: "cat, question", 2: "tree, question"}


def test_stop_words_and_numbers_name_nothing_and_a_plural_is_not_taken_twice() -> None:
    texts = ["the of and 12 7", "Coins, coins! A coin; is it 3rd?"]
    assert cluster_names(texts, np.array([0, 1])) == {0: "cluster 0", 1: "coins"}
    assert cluster_names(["1", "the"], np.array([4, 5])) == {4: "cluster 4", 5: "cluster 5"}


def test_words_of_other_scripts_count_and_markup_is_left_to_those_who_show_it() -> None:
    assert cluster_names(["вопрос ответ вопрос", "straße <b>"], np.array([0, 1]), words=1) == {0: "вопрос", 1: "straße"}


def test_labels_of_other_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="labels has 3 rows but there are 2 texts"):
        class_tfidf(["a", "b"], np.arange(3))
