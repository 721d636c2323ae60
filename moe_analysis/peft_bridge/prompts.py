"""T-REX's intuition from the prompt itself: what an adapter holds so that its model is called like any other.

An adapter that was given its clusters (`set_intuition`) holds their centroids and the name and digest of the embedder
that made them. A forward pass without `intuition` then decodes the prompt, embeds it, and takes its cosines to the
centroids: the numbers that `Clusters.intuition` gives for the same text.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ..adapters import Adapter
from .layer import AdapterLayer

KEPT = 4096  # prompts whose scores stay in memory
NO_TOKENIZER = (
    "T-REX reads its intuition from the prompt, but no tokenizer was found{}; pass intuition=(samples, clusters), or "
    "give the tokenizer: ma.set_intuition(model, tokenizer=...)"
)
NO_PROMPT = (
    "T-REX reads its intuition from the prompt, but {}; pass intuition=(samples, clusters)"
)


@dataclass
class IntuitionHalf:
    """What an adapter's configuration says of its intuition; filled in by `ma.set_intuition`.

    embedder: "minilm", or the id or folder of a transformer. embedder_digest: SHA-256 of its files. embedding_dim:
    width of the centroids that the adapter holds; None: it holds none. pooling: how the embedder pools its tokens.
    prompt_begin, prompt_ends: what stands around the text that was embedded, in the text that the model reads.
    """

    embedder: str | None = field(default=None)
    embedder_digest: str | None = field(default=None)
    embedding_dim: int | None = field(default=None)
    pooling: str | None = field(default=None)
    prompt_begin: str = field(default="")
    prompt_ends: list[str] = field(default_factory=list)


class Reader:
    """Tokenizer, embedder and memory of one adapter; copies of a model share it, and a pickle holds the tokenizer."""

    def __init__(self, config: IntuitionHalf, tokenizer: Any = None) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.embedder: Any = None
        self.rows: OrderedDict[str, np.ndarray] = OrderedDict()  # text -> (clusters,)
        self.lock = threading.Lock()

    def __deepcopy__(self, memo: Any) -> Reader:
        return self

    def __reduce__(self) -> Any:
        return Reader, (self.config, self.tokenizer)

    def scores(self, texts: Sequence[str], centroids: np.ndarray) -> np.ndarray:
        """Cosines (texts, clusters) float32; each text is embedded once."""
        from ..tasks.clusters import Clusters

        with self.lock:
            new = [text for text in dict.fromkeys(texts) if text not in self.rows]
            if new:
                clusters = Clusters(centroids, np.zeros(0, int), 0, 0.0)
                self.rows.update(zip(new, clusters.intuition(self._opened().transform(new))))
            found = np.stack([self.rows[text] for text in texts])
            for text in dict.fromkeys(texts):
                self.rows.move_to_end(text)
            while len(self.rows) > KEPT:
                self.rows.popitem(last=False)
            return found

    def _opened(self) -> Any:
        if self.embedder is None:
            from ..tasks.embed import Embedder

            embedder = Embedder(self.config.embedder, cache=False, progress=False)
            if embedder.digest != self.config.embedder_digest:
                raise ValueError(
                    f"embedder = {self.config.embedder!r} has the digest {embedder.digest[:12]} here, but the adapter "
                    f"was made with {str(self.config.embedder_digest)[:12]}; restore that model, or pass "
                    "intuition=(samples, clusters)"
                )
            self.embedder = embedder
        return self.embedder


class PromptIntuition(nn.Module):
    """The clusters of an adapter; a part of its first layer, so that every checkpoint holds them.

    Parameters:
        centroids: (clusters, embedding_dim) float32, kept as the whole numbers of their bits: no cast of the model to
            another precision changes them.
    """

    def __init__(self, config: IntuitionHalf, clusters: int, tokenizer: Any = None) -> None:
        super().__init__()
        self.reader = Reader(config, tokenizer)
        self.register_buffer("centroids", torch.zeros(clusters, config.embedding_dim or 0, dtype=torch.int32))

    def fill(self, centroids: np.ndarray) -> None:
        self.centroids.copy_(torch.from_numpy(np.ascontiguousarray(centroids, np.float32)).view(torch.int32))

    def of_texts(self, texts: Sequence[str]) -> Tensor:
        """Intuition (texts, clusters) of prompts as they were embedded for training."""
        return torch.from_numpy(self.reader.scores(texts, self.centroids.cpu().view(torch.float32).numpy()))

    def of_tokens(self, inputs: dict[str, Any], model: nn.Module) -> Tensor:
        """Intuition (samples, clusters) of a model's inputs.

        The prompt is what stands before the first label; without labels it is all real tokens of a row. What
        `prompt_begin` and `prompt_ends` name is taken off.

        Raises:
            ValueError: If there are no token ids, no tokenizer, or a row without a prompt.
        """
        ids, mask, labels = (inputs.get(name) for name in ("input_ids", "attention_mask", "labels"))
        if not isinstance(ids, Tensor):
            raise ValueError(NO_PROMPT.format("input_ids were not passed"))
        if torch.compiler.is_compiling():
            raise ValueError(NO_PROMPT.format("a compiled or exported model cannot read it"))
        tokenizer = self._tokenizer(model)
        kept = ids.ne(-1 if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
        if isinstance(mask, Tensor) and mask.shape == ids.shape:
            kept = mask.bool()
        targets = getattr(getattr(model, "config", None), "is_encoder_decoder", False)  # labels of another sequence
        if isinstance(labels, Tensor) and labels.shape == ids.shape and not targets:
            before = labels.ne(-100).cumsum(-1).eq(0) & kept
            kept = torch.where(before.any(-1, keepdim=True), before, kept)
        rows = [row[keep].tolist() for row, keep in zip(ids.cpu(), kept.cpu())]
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        texts = [self._unframed(tokenizer.decode(row, **options)) for row in rows]
        if empty := [place for place, text in enumerate(texts) if not text.strip()]:
            raise ValueError(NO_PROMPT.format(f"row {empty[0]} of the batch has none"))
        return self.of_texts(texts)

    def _unframed(self, text: str) -> str:
        """The text without what stood around it when the model was trained."""
        text = text.removeprefix(self.reader.config.prompt_begin)
        for end in reversed(self.reader.config.prompt_ends):
            text = text.rpartition(end)[0] if end in text else text
        return text

    def _tokenizer(self, model: nn.Module) -> Any:
        if self.reader.tokenizer is None:
            self.reader.tokenizer = found_tokenizer(model)
        return self.reader.tokenizer


def found_tokenizer(model: nn.Module) -> Any:
    """The tokenizer of a model by the name that it was loaded under."""
    from ..backbones import load_tokenizer

    name = getattr(model, "name_or_path", None) or getattr(getattr(model, "config", None), "_name_or_path", None)
    if not name:
        raise ValueError(NO_TOKENIZER.format(": the model has no name"))
    try:
        return load_tokenizer(name)
    except ValueError as error:
        raise ValueError(NO_TOKENIZER.format(f" under the model's name, {name!r}")) from error


def first_adapter(model: nn.Module, name: str) -> Adapter | None:
    """The adapter of this name in the first layer that has it."""
    layers = (module for module in model.modules() if isinstance(module, AdapterLayer))
    return next((layer.adapters[name] for layer in layers if name in layer.adapters), None)


def give_prompts(model: nn.Module, name: str, config: Any, tokenizer: Any = None) -> PromptIntuition | None:
    """Make room for the clusters of an adapter that says it holds some; None for one that does not."""
    adapter = first_adapter(model, name)
    if adapter is None or not getattr(config, "embedding_dim", None) or not getattr(config, "intuition", False):
        return None
    adapter.prompts = PromptIntuition(config, config.clusters, tokenizer)
    return adapter.prompts


def prompts_of(model: nn.Module) -> dict[str, PromptIntuition]:
    """The clusters that a model's adapters hold, by the adapter's name."""
    found: dict[str, PromptIntuition] = {}
    for layer in model.modules():
        if isinstance(layer, AdapterLayer):
            held = {name: getattr(adapter, "prompts", None) for name, adapter in layer.adapters.items()}
            found |= {name: prompts for name, prompts in held.items() if prompts is not None}
    return found


class CacheMemory:
    """The intuition of the prompt that a key-value cache holds: a pass that goes on with it sees no prompt."""

    def __init__(self) -> None:
        self.of: WeakKeyDictionary[Any, Tensor] = WeakKeyDictionary()

    def keep(self, output: Any, intuition: Tensor) -> None:
        cache = getattr(output, "past_key_values", None)
        if cache is not None and not isinstance(cache, tuple):
            self.of[cache] = intuition

    def recall(self, inputs: dict[str, Any]) -> Tensor | None:
        """What was kept with the cache of these inputs; None where nothing is cached yet.

        Raises:
            ValueError: For a cache of tokens that nothing is known of.
        """
        cache = inputs.get("past_key_values")
        length = getattr(cache, "get_seq_length", lambda: 0)() if cache is not None else 0
        if not length:
            return None
        if cache not in self.of:
            raise ValueError(NO_PROMPT.format("past_key_values hold it, and this cache was not filled by a pass that "
                                              "read it"))  # fmt: skip
        return self.of[cache]

    def __deepcopy__(self, memo: Any) -> CacheMemory:
        return self

    def __reduce__(self) -> Any:
        return CacheMemory, ()
