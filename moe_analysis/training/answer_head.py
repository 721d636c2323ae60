"""Scores over the vocabulary where an answer stands and nowhere else: the head is a fifth of a small model's cost.

The hidden states are gathered right before the model's output layer. Whether a model gives the same scores and the
same loss that way is not guessed: `gathers` and `gathers_loss` try it on a row or two.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from ..peft_bridge.loss import shifts_labels

REFUSALS = (ValueError, RuntimeError, TypeError, IndexError, KeyError, AttributeError)  # of a model, each its own
ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-6}  # of a log-likelihood, in nats
HALF_ROUNDING = 0.1


def answer_head(model: nn.Module) -> nn.Module | None:
    """The layer that makes scores of hidden states; None where there is none, or one that an adapter changes.

    An adapter knows the tokens of a batch by their places, so its layer must see all of them.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    adapted = isinstance(head, BaseTunerLayer | AuxiliaryTrainingWrapper)
    return head if isinstance(head, nn.Module) and not adapted else None


@contextmanager
def scores_at(head: nn.Module, row: Tensor, place: Tensor) -> Iterator[None]:
    """While inside, a model's logits are (1, reads, vocabulary): those of the hidden states at these rows and places."""

    def gather(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = inputs[0]  # (batch, sequence, features)
        return hidden[row, place].unsqueeze(0), *inputs[1:]

    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the mode that the model was in comes back."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def gathers(model: Any, batch: dict[str, Tensor]) -> bool:
    """Whether a model gives the scores at some places alone as it gives them among all.

    Args:
        model: A causal language model.
        batch: A small batch without labels.
    """
    head = answer_head(model)
    if head is None:
        return False
    row, place = torch.ones_like(batch["input_ids"]).nonzero(as_tuple=True)
    row, place = row[1::2], place[1::2]
    with evaluating(model):
        whole = model(**batch).logits[row, place]  # (reads, vocabulary)
        try:
            with scores_at(head, row, place):
                some = model(**batch).logits
        except REFUSALS:
            return False
    if some.shape != (1, *whole.shape):
        return False
    return same(some[0].log_softmax(-1), whole.log_softmax(-1), whole.dtype)


def gathers_loss(model: Any, batch: dict[str, Tensor]) -> bool:
    """Whether a model gives the loss of some labels from the scores at those labels alone.

    Args:
        model: A causal language model, adapted or not.
        batch: A small batch with `labels` (batch, sequence), at least one of them not -100.
    """
    head = answer_head(model)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if head is None or not shifts_labels(base):
        return False
    with evaluating(model):
        whole = model(**batch)
        try:
            row, place, shifted = at_answers(batch["labels"])
            with scores_at(head, row, place):
                some = model(**batch | {"labels": shifted, "shift_labels": shifted})
        except REFUSALS:
            return False
    if some.logits.shape[:2] != shifted.shape:
        return False
    return same(some.loss, whole.loss, whole.logits.dtype)


def at_answers(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a causal model's scores of labels stand, and these labels.

    Args:
        labels: (batch, sequence), -100 where nothing is to be answered.

    Returns:
        Row and place of the scores (answers,), each one place before its label, and the labels (1, answers).

    Example:
        >>> [part.tolist() for part in at_answers(torch.tensor([[-100, -100, 7, 8], [-100, 9, -100, -100]]))]
        [[0, 0, 1], [1, 2, 0], [[7, 8, 9]]]
    """
    shifted = labels[:, 1:]
    row, place = (shifted != -100).nonzero(as_tuple=True)
    return row, place, shifted[row, place].unsqueeze(0)


def same(ours: Tensor, right: Tensor, dtype: torch.dtype) -> bool:
    """Equal to the rounding of a model in these numbers; what is not a number is equal to nothing."""
    return bool(((ours - right).abs() <= ROUNDING.get(dtype, HALF_ROUNDING)).all())
