"""The TF-IDF embedding: a fitted space that takes any text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.tasks.embed import Embedder, EmbeddingError, embed

from .texts import TEXTS

WORDS = st.lists(st.sampled_from(["red", "blue", "sky", "1", "2", "+", "=", "rain"]), min_size=1, max_size=6).map(
    " ".join
)


@settings(max_examples=30, deadline=None)
@given(
    train=st.lists(WORDS, min_size=1, max_size=12),
    test=st.lists(st.text(min_size=1).filter(str.strip), max_size=4),
)
def test_tfidf_places_any_text_in_the_fitted_space_with_length_one(train: list[str], test: list[str]) -> None:
    test = [text for text in test if text.isprintable()] + ["entirely unheard"]
    embedder = Embedder("tfidf", cache=False).fit(train)
    known, new = embedder.transform(train), embedder.transform(test)
    assert known.shape[1] == new.shape[1] <= 256
    np.testing.assert_allclose(np.linalg.norm(np.vstack([known, new]), axis=1), 1, atol=1e-5)


def test_tfidf_does_not_depend_on_order_or_repeats_of_the_fitted_texts() -> None:
    first = Embedder("tfidf", cache=False).fit(TEXTS).transform(TEXTS)
    second = Embedder("tfidf", cache=False).fit([*TEXTS[::-1], TEXTS[2]]).transform(TEXTS)
    np.testing.assert_array_equal(first, second)


def test_tfidf_of_a_text_alone_equals_its_row_among_others() -> None:
    embedder = Embedder("tfidf", cache=False).fit(TEXTS)
    np.testing.assert_allclose(embedder.transform(TEXTS[1:2])[0], embedder.transform(TEXTS)[1], atol=1e-6)


def test_tfidf_keeps_the_cosines_of_the_full_word_space_when_no_axis_is_dropped() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    full = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True).fit_transform(TEXTS)
    ours = embed(TEXTS, "tfidf", cache=False)
    np.testing.assert_allclose(ours @ ours.T, (full @ full.T).toarray(), atol=1e-5)


def test_tfidf_must_be_fitted_before_it_transforms() -> None:
    with pytest.raises(EmbeddingError, match="not fitted"):
        Embedder("tfidf", cache=False).transform(["red"])
