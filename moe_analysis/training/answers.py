"""Scores over the vocabulary at the answer's tokens only, and the loss of a training step from them.

The head is a fifth of a small model's cost. The hidden states are gathered right before the model's output layer.
Whether a model gives the same scores and the same loss that way is not guessed: `gathers` and `gathers_loss` try it on
a row or two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy
from transformers import Trainer

from ..peft_bridge import weighing
from . import distributed
from .recorders.recorder import HookedRecorder

REFUSALS = (ValueError, RuntimeError, TypeError, IndexError, KeyError, AttributeError)  # of a model, each its own
MOST = 0.25  # of what another layout changes: a right one must change less, and half precision alone changes up to 0.14
SHORT = 128  # tokens of a row


def answer_head(model: nn.Module) -> nn.Module | None:
    """The layer that makes scores of hidden states; None if there is none, or one that an adapter changes.

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
    """The places of a causal model's scores of labels, and these labels.

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


def attention_of(tokens: int, device: torch.device, half: bool) -> AbstractContextManager[None]:
    """While inside, attention of short rows in half precision on a processor is plain matrix products.

    torch's fused kernel is several times as slow there: forward and backward of 16 rows of 22 tokens and 9 heads take
    11 ms with it and 3 ms without. Forward and backward must both be inside, or a checkpoint finds other tensors.
    """
    return sdpa_kernel(SDPBackend.MATH) if half and device.type == "cpu" and tokens <= SHORT else nullcontext()


class AnswerLoss(Trainer):
    """Trainer that scores the vocabulary at the labels only, counts right answers, and weights balance losses.

    Attributes:
        recorders: Record the step; they receive which tokens of the batch belong to this process.
        step_sums: Right answer tokens, all answer tokens, and the balance loss since they were last logged.
        answers_only: Whether the model's loss can be computed from the answers alone; known after the first batch.
    """

    recorders: Sequence[HookedRecorder]
    step_sums: dict[str, float]
    answers_only: bool | None = None

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        with attention_of(inputs["labels"].shape[-1], self.args.device, self.args.bf16):
            return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if any(recorder.active for recorder in self.recorders):
            tokens = distributed.place(int(inputs["attention_mask"].sum()))
            for recorder in self.recorders:
                recorder.place = tokens
        weight = inputs.pop("weight")  # of this process's share of the batch, 1 on average
        share = weight / self.args.gradient_accumulation_steps
        row, place, labels = at_answers(inputs["labels"])
        head = self.head_of_answers(inputs)
        if head is not None:
            inputs = inputs | {"labels": labels, "shift_labels": labels}
        # the token loss is a sum over the whole accumulated batch, the balance loss a mean of each part; both are
        # multiplied by the processes, whose mean is taken when they put their gradients together
        balance_weight = share / distributed.world_size() if num_items_in_batch is not None else 1.0
        with weighing(balance_weight), scores_at(head, row, place):
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        scores = outputs.logits[row, place] if head is None else outputs.logits[0]  # (answer tokens, vocabulary)
        right = scores.detach().argmax(-1) == labels[0]
        self.step_sums["right"] += right.sum().item()
        self.step_sums["answers"] += right.numel()
        balance = getattr(outputs, "balance_loss", None)
        if balance is not None:
            self.step_sums["balance_loss"] += share * balance.item()
        return (loss, outputs) if return_outputs else loss

    def head_of_answers(self, inputs: dict[str, Any]) -> nn.Module | None:
        """The layer that scores the answers alone; None if a model, or the user's own loss, needs all scores."""
        answered = (inputs["labels"] != -100).any(-1)
        if self.label_smoother is not None or self.compute_loss_func is not None or not answered.any():
            return None
        model = self.accelerator.unwrap_model(self.model)
        if self.answers_only is None:
            first = answered.int().argmax()
            kept = inputs["attention_mask"][first].bool()
            rows = {name: value[first : first + 1] for name, value in inputs.items()}
            tokens = ("input_ids", "attention_mask", "labels")
            batch = {name: value[:, kept] if name in tokens else value for name, value in rows.items()}
            self.answers_only = gathers_loss(model, batch)
        return answer_head(model) if self.answers_only else None
