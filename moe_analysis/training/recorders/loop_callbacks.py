"""How an attached record hears of the loops of transformers' Trainer and of Lightning."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from .attach import Attachment

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")


class TrainerRecording(TrainerCallback):
    """Hands the Trainer's optimiser to the record, and its loss where every step is logged (logging_steps=1)."""

    def __init__(self, handle: Attachment) -> None:
        self.handle = handle

    def on_train_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
        self.handle.watch(optimizer)
        self.handle.seek(state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if args.logging_steps == 1 and "loss" in (logs or {}):
            self.handle.log(logs["loss"])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.handle.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.handle.unwatch()
        self.handle.flush()


class LightningRecording:
    """The same for Lightning's Trainer, with the loss that training_step returned for the last batch of an update."""

    handle: Attachment

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.handle.watch(*trainer.optimizers)
        self.handle.seek(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *_: Any, **__: Any) -> None:
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is not None:
            # what Lightning hands on was divided by the batches of an update
            self.handle.log(float(loss) * getattr(trainer, "accumulate_grad_batches", 1))

    def on_save_checkpoint(self, *_: Any, **__: Any) -> None:
        self.handle.flush()

    def on_exception(self, *_: Any, **__: Any) -> None:
        self.handle.flush()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.handle.unwatch()
        self.handle.flush()


def lightning_recording(handle: Attachment) -> Any:
    """A `LightningRecording` that is a Callback of every Lightning imported so far too, as its Trainer asks for one."""
    bases = [sys.modules[name].Callback for name in LIGHTNING if hasattr(sys.modules.get(name), "Callback")]
    callback = type(LightningRecording.__name__, (LightningRecording, *bases), {})()
    callback.handle = handle
    return callback
