"""Names for clusters of texts, from their own words: class TF-IDF, as BERTopic uses it (Grootendorst, 2022, eq. 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

WORDS = 3  # of a name
TOKEN = r"(?u)\b[^\W\d_][^\W_]+\b"  # two or more characters, the first one a letter


def class_tfidf(texts: Sequence[str], labels: np.ndarray) -> pd.DataFrame:
    """How typical each word is of each class of texts: its frequency there times log(1 + average words per class / its
    total frequency). English stop words and numbers are left out.

    Args:
        texts: n texts.
        labels: (n,), the class of each.

    Returns:
        One row per class, one column per word; no columns if the texts have no such word.

    Raises:
        ValueError: for a different number of labels.

    Example:
        >>> scores = class_tfidf(["a red coin", "the coin fell", "a red cat", "one cat sat"], np.array([0, 0, 1, 1]))
        >>> scores.idxmax(axis=1).tolist()
        ['coin', 'cat']
    """
    from sklearn.feature_extraction.text import CountVectorizer

    if len(texts) != len(labels):
        raise ValueError(f"labels has {len(labels)} rows but there are {len(texts)} texts; give each text one label")
    classes, codes = np.unique(labels, return_inverse=True)
    joined = [
        " ".join(text for text, own in zip(texts, codes, strict=True) if own == code) for code in range(len(classes))
    ]
    counter = CountVectorizer(stop_words="english", token_pattern=TOKEN)
    if not any(map(counter.build_analyzer(), joined)):  # fitting would fail
        return pd.DataFrame(index=classes)
    counts = counter.fit_transform(joined).toarray()  # (classes, words)
    weight = np.log1p(counts.sum() / len(classes) / counts.sum(axis=0))  # (words,)
    return pd.DataFrame(counts * weight, index=classes, columns=counter.get_feature_names_out())


def cluster_names(texts: Sequence[str], labels: np.ndarray, words: int = WORDS) -> dict[int, str]:
    """{cluster: its words with the highest `class_tfidf`}, "coin, heads, flips"; "cluster 3" if it has none.

    Of a word and its plural, only the better one is used.

    Example:
        >>> cluster_names(["a red coin", "two coins fell", "1 + 1", "7"], np.array([0, 0, 1, 1]), words=2)
        {0: 'coin, fell', 1: 'cluster 1'}
    """
    return {
        int(cluster): ", ".join(_distinct(row[row > 0].sort_values(ascending=False, kind="stable").index, words))
        or f"cluster {cluster}"
        for cluster, row in class_tfidf(texts, labels).iterrows()
    }


def _distinct(ranked: Sequence[str], most: int) -> list[str]:
    found: list[str] = []
    for word in ranked:
        if len(found) < most and word.removesuffix("s") not in {one.removesuffix("s") for one in found}:
            found.append(word)
    return found
