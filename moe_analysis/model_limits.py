"""What a language model can be asked: whether it reads from left to right, and how many tokens of which ids."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn

REFUSALS = (ValueError, RuntimeError, TypeError, IndexError, KeyError, AttributeError)  # of a model, each its own
SHARED, OTHER = 4, 12  # tokens of two made-up rows that begin alike
_tried: WeakSet[nn.Module] = WeakSet()  # models that were not refused


def check_causal(model: nn.Module) -> None:
    """Refuse a model that is not a causal language model: its likelihoods would be those of another question.

    A model is tried once, on two short rows, in evaluation mode.

    Raises:
        ValueError: For a model with an encoder and a decoder, and for one whose scores depend on later tokens.
    """
    base = base_of(model)
    if base in _tried:
        return
    if getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        raise ValueError(
            f"model = {type(base).__name__} has an encoder and a decoder, and does not continue its prompt; pass a "
            "causal language model"
        )
    if sees_ahead(base):
        raise ValueError(
            f"model = {type(base).__name__} reads from both sides: its scores change with later tokens, so that an "
            "answer would see itself; pass a causal language model (is_decoder=True in a configuration of BERT's kind)"
        )
    _tried.add(base)


def sees_ahead(model: Any) -> bool:
    """Whether another end of a row changes the scores before it by more than rounding; False if it cannot be tried.

    Both rows are read together, and once more each alone where that differs: experts with a limited capacity may drop
    tokens of one row for those of another. Models of BERT's kind say whether they are decoders; of one that says it is
    none, a small change is enough. That alone decides nothing: GPT-NeoX says so, too, and is one.
    """
    least = 1e-6 if getattr(getattr(model, "config", None), "is_decoder", None) is False else None
    try:
        known = model.get_input_embeddings().weight.shape[0]
        length = min(SHARED + OTHER, most_tokens(model) or SHARED + OTHER)
        rows = np.random.default_rng(0).integers(0, known, (2, length))
        rows[1, :SHARED] = rows[0, :SHARED]
        ids = torch.from_numpy(rows).to(next(model.parameters()).device)
        together = scores_before(model, ids)
        if not differ(together[0], together[1], least):
            return False
        one, other = (scores_before(model, row[None])[0] for row in ids)
        return differ(one, other, least)
    except REFUSALS:
        return False


@torch.no_grad()
def scores_before(model: Any, ids: Tensor) -> Tensor:
    """(rows, SHARED, vocabulary) scores of the tokens with which the rows begin."""
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[:, :SHARED]


def differ(one: Tensor, other: Tensor, least: float | None = None) -> bool:
    """Whether scores (tokens, vocabulary) differ by more than a share of their spread; None: by more than rounding."""
    off, spread = (one.float() - other.float()).abs().mean(), one.float().std(-1).mean()
    return bool(off > (torch.finfo(one.dtype).eps ** 0.5 if least is None else least) * spread)


def most_tokens(model: Any) -> int | None:
    """Tokens of a row for which a model has places in a table; None if it computes places as far as it is asked.

    Tables may begin with places that no token has, those of the padding, say.
    """
    base = base_of(model)
    config: Any = getattr(base, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    named = getattr(config, "max_position_embeddings", None)
    if not isinstance(named, int):
        return None
    words = base.get_input_embeddings()
    tables = [part for part in base.modules() if isinstance(part, nn.Embedding) and part is not words]
    rooms = [one.num_embeddings - unused(one) for one in tables if named <= one.num_embeddings <= named + 2]
    rooms += [named for buffer in base.buffers() if buffer.dim() == 2 and len(buffer) == named]
    return min(rooms, default=None)


def unused(table: nn.Embedding) -> int:
    """Rows at the beginning of a table of places that no token has."""
    return getattr(table, "offset", 0) or (0 if table.padding_idx is None else table.padding_idx + 1)


def check_reads(model: Any, longest: int, highest: int, max_length: int) -> None:
    """Refuse rows that a model cannot read, before it is given the first.

    Args:
        model: A language model.
        longest: Tokens of the longest row that it is given.
        highest: The highest token id of the rows.
        max_length: What the rows were cut to.

    Raises:
        ValueError: For a row with more tokens than the model has places for, and for a token that it does not know.
    """
    name, most, known = type(base_of(model)).__name__, most_tokens(model), known_tokens(model)
    if most is not None and longest > most:
        raise ValueError(
            f"max_length = {max_length} allows rows of {longest} tokens, but {name} has places for {most}; pass "
            f"max_length={most}"
        )
    if known is not None and highest >= known:
        raise ValueError(
            f"tokenizer makes the token {highest}, but {name} knows {known} tokens, 0 to {known - 1}; pass the tokenizer "
            "that belongs to the model, or call model.resize_token_embeddings(len(tokenizer))"
        )


def known_tokens(model: Any) -> int | None:
    """The size of a model's vocabulary; None if it has no table of words."""
    table = getattr(base_of(model), "get_input_embeddings", lambda: None)()
    return getattr(table, "num_embeddings", None)


def base_of(model: Any) -> Any:
    """The language model inside a PEFT model; any other model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
