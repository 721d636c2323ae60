"""T-REX's intuition from the prompt itself: what an adapter stores so that its model is called like any other.

An adapter that was given its clusters (`set_intuition`) holds their centroids and the name and digest of the embedder
that made them. A forward pass without `intuition` then decodes the prompt, embeds it, and takes its cosines to the
centroids: the numbers that `Clusters.intuition` gives for the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ..adapters import Adapter
from .layer import AdapterLayer
from .reader import IntuitionHalf, Reader

NO_TOKENIZER = (
    "T-REX reads its intuition from the prompt, but no tokenizer was found{}; pass intuition=(samples, clusters), or "
    "give the tokenizer: ma.set_intuition(model, tokenizer=...)"
)
NO_PROMPT = "T-REX reads its intuition from the prompt, but {}; pass intuition=(samples, clusters)"


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
        from ..tasks.clusters import Clusters

        if not texts:
            return torch.zeros(0, len(self.centroids))
        centroids = self.centroids.cpu().view(torch.float32).numpy()
        clusters = Clusters(centroids, np.zeros(0, int), 0, 0.0)
        return torch.from_numpy(clusters.intuition(self.reader.embeddings(texts)))

    def of_tokens(self, inputs: dict[str, Any], model: nn.Module) -> Tensor:
        """Intuition (samples, clusters) of a model's inputs.

        The prompt is what stands before the first label of a causal model; without such labels it is all real tokens
        of a row. What `prompt_begin` and `prompt_ends` name is taken off. A prompt that was cut to fit the model is
        embedded as cut.

        Raises:
            ValueError: If there are no token ids, no tokenizer, a row without a prompt, or a row of several texts.
        """
        ids, mask, labels = (inputs.get(name) for name in ("input_ids", "attention_mask", "labels"))
        if not isinstance(ids, Tensor):
            raise ValueError(NO_PROMPT.format("input_ids were not passed"))
        if torch.compiler.is_compiling():
            raise ValueError(NO_PROMPT.format("an exported model cannot read it"))
        tokenizer = self._tokenizer(model)
        kept = ids.ne(-1 if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
        if isinstance(mask, Tensor) and mask.shape == ids.shape:
            kept = mask.bool()
        refuse_packed(inputs.get("position_ids"), kept)
        if isinstance(labels, Tensor) and labels.shape == ids.shape and continues_prompt(model):
            before = labels.ne(-100).cumsum(-1).eq(0) & kept
            kept = torch.where(before.any(-1, keepdim=True), before, kept)
        rows = [row[keep].tolist() for row, keep in zip(ids.cpu(), kept.cpu())]
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        texts = [self._unframed(tokenizer.decode(row, **options)) for row in rows]
        if empty := [place for place, text in enumerate(texts) if not text.strip()]:
            raise ValueError(NO_PROMPT.format(f"row {empty[0]} of the batch has none"))
        return self.of_texts(texts)

    def agrees(self, other: PromptIntuition) -> bool:
        """Whether another adapter reads the same intuition from every prompt."""
        names = [entry.name for entry in fields(IntuitionHalf) if entry.name != "embedder"]  # its digest tells it
        same = all(getattr(self.reader.config, name) == getattr(other.reader.config, name) for name in names)
        return same and torch.equal(self.centroids, other.centroids)

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


def continues_prompt(model: nn.Module) -> bool:
    """Whether a model's labels are the text after its prompt, and not words within it, nor a decoder's."""
    from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

    causal = LOSS_MAPPING.get(getattr(model, "loss_type", None), ForCausalLMLoss) is ForCausalLMLoss
    return causal and not getattr(getattr(model, "config", None), "is_encoder_decoder", False)


def refuse_packed(positions: Any, kept: Tensor) -> None:
    """Raise ValueError if a row holds several texts, one after the other, each counted from 0."""
    if not isinstance(positions, Tensor) or positions.shape != kept.shape:
        return
    back = (positions[:, 1:] < positions[:, :-1]) & kept[:, 1:] & kept[:, :-1]
    if back.any():
        raise ValueError(
            "position_ids restart inside a row: several texts are packed into one sample, but T-REX "
            "has one intuition for each sample; pass one text per row, padded"
        )


@torch.compiler.disable(reason=NO_PROMPT.format("a compiled graph cannot read it"))
def reads(
    held: dict[str, PromptIntuition], names: list[str], rows: list[str] | None, inputs: dict[str, Any], model: nn.Module
) -> Tensor:
    """Intuition (samples, clusters) of a model's inputs, by the clusters that its adapters hold.

    Args:
        held: Clusters by the name of the adapter.
        names: The adapters of this pass that route by intuition.
        rows: The adapter of each sample; None: all of `names` for each of them.
        inputs: Arguments of the model by name.
        model: The model.

    Raises:
        ValueError: If the adapters do not agree on the clusters, or a prompt cannot be read.
    """
    if lacking := [name for name in names if name not in held]:
        raise ValueError(
            f"adapter {lacking[0]!r} routes by intuition but has no clusters, unlike other adapters of "
            "this pass; call ma.set_intuition(model, clusters, adapter_name=...), or pass intuition="
        )
    first, *others = [held[name] for name in names]
    if rows is None:
        if not all(first.agrees(other) for other in others):
            raise ValueError(
                f"adapters {names} are active together and have different clusters, but a sample has one "
                "intuition; activate one of them, or pass intuition=(samples, clusters)"
            )
        return first.of_tokens(inputs, model)
    if any(len(other.centroids) != len(first.centroids) for other in others):
        raise ValueError(
            f"adapters {names} expect different numbers of clusters and cannot share a batch; use one batch per adapter"
        )
    scores = torch.zeros(len(rows), len(first.centroids))
    for name in names:
        places = torch.tensor([place for place, one in enumerate(rows) if one == name])
        scores[places] = held[name].of_tokens(rows_of(inputs, places, len(rows)), model)
    return scores


def rows_of(inputs: dict[str, Any], places: Tensor, samples: int) -> dict[str, Any]:
    """Some samples of a model's inputs."""
    return {
        name: value[places.to(value.device)]
        for name, value in inputs.items()
        if isinstance(value, Tensor) and value.dim() and len(value) == samples
    }


def first_adapter(model: nn.Module, name: str) -> Adapter | None:
    """The adapter of this name in the first layer that has it."""
    layers = (module for module in model.modules() if isinstance(module, AdapterLayer))
    return next((layer.adapters[name] for layer in layers if name in layer.adapters), None)


def give_prompts(model: nn.Module, name: str, config: Any, tokenizer: Any = None) -> PromptIntuition | None:
    """Make room for the clusters of an adapter whose configuration has some; None if it has none."""
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
    """The intuition of the prompt that a key-value cache holds: a pass that continues it sees no prompt."""

    def __init__(self) -> None:
        self.of: WeakKeyDictionary[Any, Tensor] = WeakKeyDictionary()

    def keep(self, output: Any, intuition: Tensor) -> None:
        values = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
        for cache in values:
            if hasattr(cache, "get_seq_length"):
                self.of[cache] = intuition

    def recall(self, inputs: dict[str, Any]) -> Tensor | None:
        """What was kept with the cache of these inputs; None if nothing is cached yet.

        Raises:
            ValueError: For a cache of tokens that nothing is known of.
        """
        cache = inputs.get("past_key_values")
        length = getattr(cache, "get_seq_length", lambda: 0)() if cache is not None else 0
        if not length:
            return None
        if cache not in self.of:
            raise ValueError(
                NO_PROMPT.format("past_key_values contain it, but this cache was not filled by a pass that read it")
            )
        return self.of[cache]

    def __deepcopy__(self, memo: Any) -> CacheMemory:
        return self

    def __reduce__(self) -> Any:
        return CacheMemory, ()
