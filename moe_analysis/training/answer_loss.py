"""The loss of a training step: that of the answers, from scores at the answers alone where the model allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import Trainer

from ..peft_bridge import weighing
from . import distributed
from .answer_head import answer_head, at_answers, gathers_loss, scores_at
from .recorders.hooked_recorder import HookedRecorder


class AnswerLoss(Trainer):
    """Trainer that scores the vocabulary where labels stand, counts right answers, and weighs balance losses.

    Attributes:
        recorders: What looks at the step; they are told which tokens of the batch are this process's.
        step_sums: Right answer tokens, all answer tokens, and the balance loss since they were last logged.
        answers_only: Whether the model's loss can be had from the answers alone; the first batch tells.
    """

    recorders: Sequence[HookedRecorder]
    step_sums: dict[str, float]
    answers_only: bool | None = None

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
        """The layer that scores the answers alone; None where a model, or a loss of the user's own, needs all scores."""
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
