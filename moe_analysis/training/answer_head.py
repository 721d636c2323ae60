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
from torch.nn.functional import cross_entropy

REFUSALS = (ValueError, RuntimeError, TypeError, IndexError, KeyError, AttributeError)  # of a model, each its own
MOST = 0.25  # of what another layout changes: a right one must change less, and half precision alone changes up to 0.14


def answer_head(model: nn.Module) -> nn.Module | None:
    """The layer that makes scores of hidden states; None where there is none, or one that an adapter changes.

    An adapter knows the tokens of a batch by their places, so its layer must see all of them.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    adapted = isinstance(head, BaseTunerLayer | AuxiliaryTrainingWrapper)
    return head if isinstance(head, nn.Module) and not adapted else None


@contextmanager
def scores_at(head: nn.Module | None, row: Tensor, place: Tensor) -> Iterator[None]:
    """While inside, a model's logits are (1, reads, vocabulary): those of the hidden states at these rows and places.

    Without a head, nothing changes.
    """
    if head is None:
        yield
        return

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
        whole = model(**batch)
        try:
            with scores_at(head, row, place):
                some = model(**batch)
        except REFUSALS:
            return False
    return same_scores(some.logits, whole.logits, row, place)


def gathers_loss(model: Any, batch: dict[str, Tensor]) -> bool:
    """Whether a model gives the loss of some labels from the scores at these labels alone.

    Args:
        model: A causal language model, adapted or not.
        batch: A small batch with `labels` (batch, sequence), at least one of them not -100.
    """
    head = answer_head(model)
    if head is None:
        return False
    row, place, labels = at_answers(batch["labels"])
    with evaluating(model):
        whole = model(**batch)
        try:
            with scores_at(head, row, place):
                some = model(**batch | {"labels": labels, "shift_labels": labels})
        except REFUSALS:
            return False
    if not same_scores(some.logits, whole.logits, row, place):
        return False
    entropies = [cross_entropy(scores.float(), labels[0]) for scores in (some.logits[0], whole.logits[row, place])]
    beside = [out.loss - entropy for out, entropy in zip((some, whole), entropies)]  # a balance loss, say
    return bool((beside[0] - beside[1]).abs() <= 1e-5 * (1 + entropies[1]))


def same_scores(some: Tensor, whole: Tensor, row: Tensor, place: Tensor) -> bool:
    """Whether some scores (1, reads, vocabulary) are those of the whole (batch, sequence, vocabulary) at their places.

    The scores one place before are the measure: what differs by rounding is far nearer than they are.
    """
    right, wrong = whole[row, place], whole[row, (place - 1).clamp_min(0)]
    if some.shape != (1, *right.shape):
        return False
    off, measure = ((other - right).float().abs().mean() for other in (some[0], wrong))
    return bool(off <= MOST * measure)


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
