"""Plain strings as what `record_gates` reads, without the columns of a suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ...tasks.batches import Example, prompt_ids
from ...tasks.rows import shorten

UNBOUNDED = 10**6  # tokenizers without a limit say 1e30
CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")


def encode_texts(texts: str | Sequence[str], tokenizer: Any, model: nn.Module) -> list[Example]:
    """Token ids of every text with the tokenizer's beginning token, none of them cut.

    Raises:
        ValueError: For a text that is no string, is empty, or has more tokens than the model's context.
    """
    listed = checked_texts(texts)
    most = context_length(model, tokenizer)
    examples = []
    for place, ids in enumerate(prompt_ids(listed, tokenizer)):
        if not ids:
            raise ValueError(f"texts[{place}] = {shorten(listed[place])} has no token for this tokenizer")
        if most is not None and len(ids) > most:
            raise ValueError(
                f"texts[{place}] = {shorten(listed[place])} has {len(ids)} tokens, more than the model's context of "
                f"{most}; split it into shorter texts"
            )
        examples.append(Example(ids, len(ids)))
    return examples


def checked_texts(texts: str | Sequence[str]) -> list[str]:
    """One text or several as a list; ValueError for none, one that is no string, and an empty one."""
    listed: list[Any] = [texts] if isinstance(texts, str) else list(texts)
    if not listed:
        raise ValueError("texts is empty; pass one string or more")
    for place, text in enumerate(listed):
        if not isinstance(text, str):
            raise ValueError(f"texts[{place}] = {text!r} is {type(text).__name__}; pass strings")
        if not text.strip():
            raise ValueError(f"texts[{place}] = {text!r} is empty; pass a text with at least one word")
    return listed


def context_length(model: Any, tokenizer: Any) -> int | None:
    """The most tokens that a model reads at once; None where neither it nor its tokenizer has a limit."""
    config: Any = getattr(model, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    told = [getattr(config, name, None) for name in CONTEXTS] + [getattr(tokenizer, "model_max_length", None)]
    known = [int(most) for most in told if isinstance(most, (int, float)) and 0 < most < UNBOUNDED]
    return min(known, default=None)
