"""Causal language models to adapt: the compact decoder that ships with the project, or any Hugging Face model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .noise import patient_bars

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig, PreTrainedTokenizerFast

COMPACT = Path(__file__).resolve().parents[1] / "data" / "compact"

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
# A word with the space before it, a digit with the space before it, or a run of marks: no token crosses these.
PIECES = r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s+"


class BackboneError(ValueError):
    """A backbone that cannot be loaded; the message names it and the remedy."""


def load_backbone(name_or_path: str | Path, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """`(model, tokenizer)` in evaluation mode, padding on the right, with a pad token.

    `name_or_path` is "compact", a folder, or a Hugging Face id of a causal language model; `dtype` is float32 when
    it is None. Raises BackboneError (a ValueError) when nothing can be loaded from there.

    >>> model, tokenizer = ma.load_backbone("compact")
    >>> model.num_parameters(), len(tokenizer)
    (1001984, 1547)
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(name_or_path)
    with _refused(name_or_path) as source, patient_bars():
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype or torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def load_tokenizer(name_or_path: str | Path) -> Any:
    """The tokenizer of `load_backbone` alone, which takes a moment where a model takes minutes."""
    from transformers import AutoTokenizer

    with _refused(name_or_path) as source:
        tokenizer = AutoTokenizer.from_pretrained(source)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


@contextmanager
def _refused(name_or_path: str | Path) -> Iterator[str]:
    """What transformers is to load from; its errors become a BackboneError."""
    name = str(name_or_path)
    if name == "compact" and not (COMPACT / "model.safetensors").exists():
        raise BackboneError(
            f"backbone 'compact' is not in {COMPACT}; make it with `python -m moe_analysis.pretrain --out {COMPACT}`"
        )
    try:
        yield str(COMPACT) if name == "compact" else name
    except (OSError, ValueError, KeyError) as error:
        raise BackboneError(
            f"backbone = {name!r} cannot be loaded: it is neither 'compact' nor a folder with a causal language model "
            "and its tokenizer, and the Hugging Face hub gave nothing of that name; check the spelling, or download "
            f"it once while online ({type(error).__name__}: {str(error).splitlines()[0]})"
        ) from error


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE in which every word of `texts` (with the space before it) is one token.

    Any other text still encodes, by smaller pieces down to single bytes. Encoding starts with `<bos>`.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    pieces = sorted(Counter(piece for text in texts for piece in re.findall(PIECES, text)))
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,  # ends by itself, when every piece is one token
        special_tokens=[PAD, BOS, EOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS, padding_side="right",
        model_max_length=1024, clean_up_tokenization_spaces=False,
    )


def compact_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The shape of the compact decoder: about one million parameters, for tests and figures on a CPU."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=1024, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )
