"""Which tokens of a model's inputs are real."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SEQUENCES = ("input_ids", "inputs_embeds", "decoder_input_ids", "decoder_inputs_embeds")
MASKED = -1e3  # what is added to the logits of attention where a mask of numbers forbids it is less
IGNORED = -100  # transformers' label of a position without one


def shape_of(inputs: dict[str, Any]) -> tuple[int | None, int | None]:
    """(samples, tokens) of a model's inputs; None if unknown."""
    for name in SEQUENCES:
        if isinstance(given := inputs.get(name), Tensor) and given.dim() > 1:
            return given.shape[0], given.shape[1]
    tensors = (value for value in inputs.values() if isinstance(value, Tensor) and value.dim())
    first = next(tensors, None)
    return (None, None) if first is None else (first.shape[0], None)


def mask_of(inputs: dict[str, Any], name: str, tokens: int | None) -> Tensor | None:
    """A mask (samples, tokens) of the tokens that are given now: one that covers a cache too is cut to its end.

    An attention mask for pairs of tokens (samples, heads, tokens, tokens) shows padding too: nothing attends to it.
    """
    mask = inputs.get(name)
    if not isinstance(mask, Tensor) or mask.dim() not in (2, 4):
        return None
    if mask.dim() == 4:
        if tokens not in (None, mask.shape[-1]):  # how the keys of a cache lie beside those given now is unknown
            return None
        attended = mask > MASKED if mask.is_floating_point() else mask.bool()
        return attended.flatten(1, 2).any(1)
    return mask if tokens is None else mask[:, -tokens:]


def target_mask(inputs: dict[str, Any], module: nn.Module) -> Tensor | None:
    """A mask (samples, tokens) of the decoder's tokens, of the inputs of a model with an encoder and a decoder.

    transformers makes the decoder's inputs from the labels, and its collators give no mask of them: padding begins
    after the last label of a row.
    """
    ids, labels = (inputs.get(name) for name in ("decoder_input_ids", "labels"))
    has_ids, has_labels = (isinstance(one, Tensor) and one.dim() == 2 for one in (ids, labels))
    if inputs.get("decoder_attention_mask") is not None:
        return mask_of(inputs, "decoder_attention_mask", ids.shape[1] if has_ids else None)
    if has_labels and not labels.is_floating_point() and (not has_ids or ids.shape == labels.shape):
        return labels.ne(IGNORED).flip(1).cumsum(1).flip(1).gt(0)
    return without_padding(ids, module)


def without_padding(ids: Any, module: nn.Module) -> Tensor | None:
    """A mask (samples, tokens) of a decoder's token ids; the first is real, though it often is that of padding."""
    pad = getattr(getattr(module, "config", None), "pad_token_id", None)
    if pad is None or not isinstance(ids, Tensor) or ids.dim() != 2:
        return None
    return torch.cat([torch.ones_like(ids[:, :1], dtype=torch.bool), ids[:, 1:].ne(pad)], 1)


def is_alone(inputs: dict[str, Any], mask: Tensor | None) -> bool:
    """Whether no input holds another sequence than that of a mask (samples, tokens), as the pixels of an image do."""
    tensors = [value for value in inputs.values() if isinstance(value, Tensor) and value.is_floating_point()]
    return mask is not None and not any(one.dim() > 2 and mask.shape[1] not in one.shape[1:] for one in tensors)


class Shortened:
    """The mask of an audio model's frames, which are fewer than the samples of its mask; once per length."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.made = module, {}

    def __call__(self, frames: int, mask: Tensor) -> Tensor:
        if frames not in self.made:
            self.made[frames] = self._make(frames, mask)
        return self.made[frames]

    def _make(self, frames: int, mask: Tensor) -> Tensor:
        options = {}
        if getattr(self.module.config, "add_adapter", False):  # it shortens the sequence again
            whole = self.module._get_feat_extract_output_lengths(torch.tensor(mask.shape[1]))
            options = {} if int(whole) == frames else {"add_adapter": False}
        return self.module._get_feature_vector_attention_mask(frames, mask, **options)


def shortened(module: nn.Module) -> Shortened | None:
    """How a model shortens its mask to its frames; None if it does not say so."""
    return Shortened(module) if hasattr(module, "_get_feature_vector_attention_mask") else None
