"""Situations of training: what a balance loss weighs, by whatever trainer and loss."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.nn import functional as F
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from moe_analysis.peft_bridge import BalanceLossWarning

from .contract import BALANCED, situation
from .systems import Case, close, collected, gradients, llama, twin

BATCHES = 3  # accumulated to one step, of two samples each, with ever fewer labels


def rows(case: Case, batches: int = BATCHES) -> list[dict[str, torch.Tensor]]:
    """Two samples a batch; the batches have fewer and fewer labels: by those they weigh otherwise than by samples."""
    ids = torch.randint(3, 40, (2 * batches, 6), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    for place in range(len(ids)):
        labels[place, : place // 2 % BATCHES + 1] = -100
    extra = case.extra(len(ids))
    return [
        {
            "input_ids": ids[i],
            "attention_mask": torch.ones(6, dtype=torch.long),
            "labels": labels[i],
            **{key: value[i] for key, value in extra.items()},
        }
        for i in range(len(ids))
    ]


def micro_batches(case: Case, batches: int = BATCHES) -> list[dict[str, torch.Tensor]]:
    all_rows = rows(case, batches)
    return [
        {key: torch.stack([row[key] for row in all_rows[i : i + 2]]) for key in all_rows[0]}
        for i in range(0, len(all_rows), 2)
    ]


class Look(TrainerCallback):
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.gradient = collected(model)


class InOrder(Trainer):
    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def trained_gradient(case: Case, model: nn.Module, batches: int = BATCHES, **options: Any) -> torch.Tensor:
    """The gradient that Trainer gives to its one step, made of three accumulated batches in each process."""
    function = options.pop("compute_loss_func", None)
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=BATCHES,
        max_steps=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        max_grad_norm=0.0,
        disable_tqdm=True,
        logging_strategy="no",
        remove_unused_columns=False,
        **options,
    )
    look = Look()
    InOrder(model, arguments, train_dataset=rows(case, batches), callbacks=[look], compute_loss_func=function).train()
    return look.gradient


def token_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """Cross-entropy of the next tokens, summed."""
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum", label_smoothing=smoothing
    )


def by_hand(case: Case, model: nn.Module, smoothing: float = 0.0, batches: int = BATCHES) -> torch.Tensor:
    """Gradient of the mean over all labels plus the mean of the batches' balance losses."""
    model, parts, total = twin(model).train(), micro_batches(case, batches), 0.0
    labels = sum(int((part["labels"][:, 1:] != -100).sum()) for part in parts)
    for part in parts:
        output = model(**part)
        total = total + token_loss(output.logits, part["labels"], smoothing) / labels + output.balance_loss / batches
    return gradients(model, total)


@situation("Trainer with accumulated batches")
def _(case: Case) -> None:
    model = case.model()
    right = by_hand(case, model)
    close(trained_gradient(case, model), right)


@situation("Trainer with accumulated batches and gradient checkpointing")
def _(case: Case) -> None:
    model = case.model()
    right = by_hand(case, model)
    close(
        trained_gradient(
            case, model, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}
        ),
        right,
    )


@situation("Trainer of a model with `add_adapter`")
def _(case: Case) -> None:
    wrapped, plain = case.model(), llama()
    plain.add_adapter(case.config())
    plain.load_state_dict({key.removeprefix("base_model.model."): v for key, v in wrapped.state_dict().items()})
    close(trained_gradient(case, plain), by_hand(case, wrapped))


@situation("Trainer with label smoothing")
def _(case: Case) -> None:
    model = case.model()
    right = by_hand(case, model, smoothing=0.1)
    close(trained_gradient(case, model, label_smoothing_factor=0.1), right)


def own_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    return token_loss(outputs.logits, labels) / num_items_in_batch


def balanced_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    return own_loss(outputs, labels, num_items_in_batch) + outputs.balance_loss / BATCHES


@situation("Trainer with a custom loss function, with or without the balance loss")
def _(case: Case) -> None:
    model = case.model()
    right = by_hand(case, model)
    for function in (own_loss, balanced_loss):
        close(trained_gradient(case, twin(model), compute_loss_func=function), right)


@situation("Trainer's reported losses, of training and of evaluation")
def _(case: Case) -> None:
    model = case.model().train()
    right = [model(**batch).loss.item() for batch in micro_batches(case)]
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        per_device_eval_batch_size=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    trainer = Trainer(twin(model), arguments, eval_dataset=rows(case))
    predictions = trainer.predict(rows(case))
    assert abs(predictions.metrics["test_loss"] - sum(right) / BATCHES) < 1e-4
    assert predictions.predictions.shape == (2 * BATCHES, 6, 40)  # the logits alone, for compute_metrics


@situation("Trainer that goes on from a checkpoint, and that loads its best one")
def _(case: Case) -> None:
    start = case.model().train()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=2,
            max_steps=4,
            save_steps=2,
            eval_steps=2,
            eval_strategy="steps",
            load_best_model_at_end=True,
            learning_rate=1.0,  # too high: the best checkpoint is the first
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            remove_unused_columns=False,
        )
        found = []
        for checkpoint in (None, f"{folder}/checkpoint-2"):
            own = twin(start)
            trainer = Trainer(own, arguments, train_dataset=rows(case), eval_dataset=rows(case))
            trainer.train(resume_from_checkpoint=checkpoint)
            best = min(line["eval_loss"] for line in trainer.state.log_history if "eval_loss" in line)
            assert trainer.evaluate()["eval_loss"] == best
            found.append([parameter.detach().clone() for parameter in own.parameters() if parameter.requires_grad])
        assert all(map(torch.equal, *found))  # the very same operations on the same shapes


@situation("a custom loop, and accelerate with accumulation and bfloat16")
def _(case: Case) -> None:
    model, batches = case.model().train(), micro_batches(case)
    right = gradients(model, sum(model(**batch).loss for batch in batches) / BATCHES)
    for precision in ("no", "bf16"):
        own = twin(model)
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(gradient_accumulation_steps=BATCHES, cpu=True, mixed_precision=precision)
        prepared = accelerator.prepare_model(own)
        for batch in batches:
            with accelerator.accumulate(prepared):
                output = prepared(**batch)
                assert bool(output.balance_loss > 0) == case.balanced
                accelerator.backward(output.loss)
        assert collected(own).isfinite().all()
        if precision == "no":  # in bfloat16 a token may choose another expert
            close(collected(own), right)
    AcceleratorState._reset_state(reset_partial_state=True)


FORGOTTEN = "add output.balance_loss to the loss"


@situation("a preference loss from logits, with a reference pass under `disable_adapter`")
def _(case: Case) -> None:
    model = case.model().train()
    chosen, rejected = case.batch(seed=0), case.batch(seed=1)

    def log_probability(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        output = model(**{key: value for key, value in batch.items() if key != "labels"})
        return -token_loss(output.logits, batch["labels"]), output.balance_loss

    with torch.no_grad(), model.disable_adapter():
        reference = log_probability(chosen)[0] - log_probability(rejected)[0]
    (good, one), (bad, two) = log_probability(chosen), log_probability(rejected)
    loss = -F.logsigmoid(0.1 * (good - bad - reference)) + (one + two) / 2
    ours = gradients(model, loss)
    scale = torch.sigmoid(-0.1 * (good - bad - reference)).detach()
    right = 0.0
    for batch, sign in ((chosen, -1.0), (rejected, 1.0)):
        value, balance = log_probability(batch)
        right = right + gradients(model, sign * 0.1 * scale * value + balance / 2)
    close(ours, right)


@situation("a custom loss that omits the balance loss", dict.fromkeys(BALANCED, FORGOTTEN))
def _(case: Case) -> None:
    model, batch = case.model().train(), case.batch()
    output = model(**{key: value for key, value in batch.items() if key != "labels"})
    with warnings.catch_warnings():
        warnings.simplefilter("error", BalanceLossWarning)
        try:
            token_loss(output.logits, batch["labels"]).backward()
        except BalanceLossWarning as warning:
            raise ValueError(str(warning)) from warning
