"""The models behind `embed`: TF-IDF with SVD, or a transformer; one small protocol."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .cache import digest_of

TFIDF = "tfidf"
TFIDF_DIMENSIONS = 256
TFIDF_WORDS = 20_000
TFIDF_VERSION = "tfidf-1"


class EmbeddingError(ValueError):
    """Texts that cannot be embedded, or a model that cannot be used; the message names it and the remedy.

    >>> ma.embed(["a prompt", ""], model="tfidf")
    Traceback (most recent call last):
        ...
    moe_analysis.tasks.encoders.EmbeddingError: texts[1] = '' is empty; drop the row or fill it in
    """


class Encoder(Protocol):
    """Turns distinct texts into vectors; `identity` changes whenever the vectors could, `digest` names the weights."""

    def fit(self, texts: list[str]) -> None: ...

    def identity(self) -> str: ...

    def digest(self) -> str: ...

    def encode(self, texts: list[str], batch_size: int, progress: bool | None) -> np.ndarray: ...


class TfidfEncoder:
    """Words and word pairs weighted by TF-IDF, projected on their leading singular directions.

    At most 256 dimensions, fewer when the fitted texts span fewer. A text that shares no word with the fitted
    texts gets their mean direction, since it says nothing that tells it from the average.
    """

    def __init__(self) -> None:
        self._texts: list[str] | None = None
        self._fitted: tuple[Any, np.ndarray, np.ndarray] | None = None

    def fit(self, texts: list[str]) -> None:
        # The fit waits for the first `encode`: with a cached result it is never needed.
        self._texts, self._fitted = texts, None

    def identity(self) -> str:
        if self._texts is None:
            raise EmbeddingError("model = 'tfidf' was not fitted; call fit(train texts) before transform")
        import sklearn

        return f"{TFIDF_VERSION} sklearn {sklearn.__version__} {digest_of(self._texts)}"

    def digest(self) -> str:
        """That of the texts it was fitted on: it has no weights."""
        return digest_of([self.identity()])

    def encode(self, texts: list[str], batch_size: int, progress: bool | None) -> np.ndarray:
        vectorizer, axes, mean = self._fit()
        projected = vectorizer.transform(texts) @ axes  # (n, d)
        unknown = np.linalg.norm(projected, axis=1) < 1e-6
        projected[unknown] = mean
        return projected.astype(np.float32)

    def _fit(self) -> tuple[Any, np.ndarray, np.ndarray]:
        if self._fitted is not None:
            return self._fitted
        if self._texts is None:
            raise EmbeddingError("model = 'tfidf' was not fitted; call fit(train texts) before transform")
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.utils.extmath import randomized_svd

        # Single digits and signs are words here: prompts of arithmetic consist of them.
        vectorizer = TfidfVectorizer(
            token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True, max_features=TFIDF_WORDS
        )
        weights = vectorizer.fit_transform(self._texts)  # (n, words)
        dimensions = min(TFIDF_DIMENSIONS, *weights.shape)
        _, strengths, directions = randomized_svd(weights, dimensions, random_state=0)
        # Directions without weight in the fitted texts are rounding noise and would move other texts.
        axes = directions[strengths > 1e-6 * strengths[0]].T  # (words, d)
        mean = np.asarray(weights.mean(axis=0)).ravel() @ axes  # (d,)
        self._fitted = vectorizer, axes, mean
        return self._fitted
