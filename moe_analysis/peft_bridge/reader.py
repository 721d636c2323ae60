"""Embeds the prompts of an adapter, and remembers them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

KEPT = 4096  # prompts whose embeddings stay in memory


@dataclass
class IntuitionHalf:
    """The fields of an adapter's configuration about its intuition; filled in by `ma.set_intuition`.

    embedder: "minilm", or the id or folder of a transformer. embedder_digest: SHA-256 of its weights. embedding_dim:
    width of the centroids that the adapter has; None: it has none. pooling: how the embedder pools its tokens.
    prompt_begin, prompt_ends: what stands around the text that was embedded, in the text that the model reads.
    """

    embedder: str | None = field(default=None)
    embedder_digest: str | None = field(default=None)
    embedding_dim: int | None = field(default=None)
    pooling: str | None = field(default=None)
    prompt_begin: str = field(default="")
    prompt_ends: list[str] = field(default_factory=list)


class Reader:
    """Tokenizer, embedder and memory of one adapter; copies of a model share it, and a pickle holds the tokenizer.

    It remembers embeddings and not scores: the centroids can change beneath it (another checkpoint, a hot swap).
    """

    def __init__(self, config: IntuitionHalf, tokenizer: Any = None) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.embedder: Any = None
        self.rows: OrderedDict[str, np.ndarray] = OrderedDict()  # text -> (embedding_dim,)
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: Any) -> Reader:
        return self

    def __reduce__(self) -> Any:
        return Reader, (self.config, self.tokenizer)

    def embeddings(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, embedding_dim) float32, rows of length 1; each text is embedded once."""
        with self.lock:
            new = [text for text in dict.fromkeys(texts) if text not in self.rows]
            if new:
                self.rows.update(zip(new, self._opened().transform(new)))
            found = np.stack([self.rows[text] for text in texts])
            for text in dict.fromkeys(texts):
                self.rows.move_to_end(text)
            while len(self.rows) > KEPT:
                self.rows.popitem(last=False)
            return found

    def _opened(self) -> Any:
        if self.embedder is None:
            self.embedder = opened_embedder(self.config)
        return self.embedder


def opened_embedder(config: IntuitionHalf) -> Any:
    """The embedder that an adapter's clusters were made with.

    Raises:
        ValueError: If it is not here, or is another one.
    """
    from ..tasks.embed import Embedder, EmbeddingError
    from ..tasks.transformer import POOLING_VERSION

    elsewhere = "if it is in another folder here, call ma.set_intuition(model, embedder=folder), or pass intuition="
    try:
        embedder = Embedder(config.embedder, cache=False, progress=False)
    except EmbeddingError as error:
        raise EmbeddingError(
            f"T-REX reads its intuition from the prompt with the embedder {config.embedder!r}, but {error}; {elsewhere}"
        ) from error
    if embedder.digest != config.embedder_digest:
        raise ValueError(
            f"embedder = {config.embedder!r} has weights with the digest {embedder.digest[:12]} here, but "
            f"the adapter was made with {str(config.embedder_digest)[:12]}; restore that model, or pass "
            "intuition=(samples, clusters)"
        )
    if config.pooling != POOLING_VERSION:
        raise ValueError(
            f"the adapter's clusters were made with pooling = {config.pooling!r}, but this version of "
            f"moe_analysis pools with {POOLING_VERSION!r}; use the version that made it, or pass intuition="
        )
    return embedder
