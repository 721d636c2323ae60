"""`attach`: records any training loop, in plain PyTorch, Trainer or Lightning."""

from __future__ import annotations

import atexit
import math
import sys
import warnings
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr
from filelock import Timeout
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from .. import distributed
from ..files import RunError
from ..status import locked
from .attached_run import RECORDS, AttachedConfig, AttachedRun, LoopRecorder, first_step, holder, passed_over, system_of

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")


def attach(
    model: nn.Module,
    recorder: str | Path,
    optimizer: Optimizer | str | None = None,
    *,
    every: int = 1,
    name: str | None = None,
    seed: int = 0,
    resume: bool = False,
    at_step: int | None = None,
) -> Attachment:
    """Record router weights, router gradients and gate statistics of `model` while any loop trains it.

    model: a PEFT model with our adapters, one built from modules of `ma.adapters`, or another one that has its own
    routers: transformers' mixtures of experts, PEFT's X-LoRA and Arrow. recorder: the folder to write; its records.zarr
    has the layout of a run's. optimizer: hooks on it see every update, except those that a GradScaler skips; without
    it call `handle.step()` between `optimizer.step()` and `optimizer.zero_grad()`, or give `handle.trainer_callback` to
    transformers' Trainer or `handle.lightning_callback` to Lightning's. If you pass only an optimizer's name ("adamw"),
    the analyses know whether there is momentum. every: updates between two records. name, seed: the method's name in
    the analyses, and the seed of this run. resume: continue the record in the folder. at_step: updates that the model
    has seen, by default those of the record; later records are deleted.

    Use it in a `with` statement, or call `handle.detach()`: up to 50 records wait in memory. With several processes
    (DistributedDataParallel) each attaches, and only the first writes. Raises ValueError for a model without routers or
    an optimizer of another model, and RunError for a folder that cannot take the record.

    >>> optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    >>> with ma.attach(model, folder / "mine", optimizer, name="LoRA-MoE") as handle:
    ...     for _ in range(3):
    ...         loss = model(**batch).loss
    ...         loss.backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    ...         handle.log(loss)
    >>> len(handle.history), dict(handle.records["router_weight"].sizes)["step"]
    (3, 3)
    """
    if not isinstance(recorder, (str, Path)) or not str(recorder):
        raise ValueError(f"recorder = {recorder!r} is not a folder; pass a path such as 'runs/mine'")
    for label, value, least in (("every", every, 1), ("at_step", at_step, 0), ("seed", seed, 0)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{label} = {value!r} must be a whole number of at least {least}")
    path = Path(recorder)
    loop = LoopRecorder(model, path / RECORDS, every)
    watched = None if optimizer is None or isinstance(optimizer, str) else holder(loop.adapters, (optimizer,))
    system = system_of(loop.adapters)
    kind = optimizer.lower() if isinstance(optimizer, str) else None
    handle = Attachment(path, AttachedConfig(name or system, seed, system, kind, every), loop, model)
    handle.open(resume, at_step)
    if watched is not None:
        handle.watch(watched)
    return handle


class Attachment(AttachedRun):
    """A loop that is being recorded; `attach` makes it. The analyses take it as they take a run."""

    def __init__(self, path: Path, config: AttachedConfig, recorder: LoopRecorder, model: nn.Module) -> None:
        super().__init__(path, config)
        self.recorder, self.trained = recorder, [p for p in model.parameters() if p.requires_grad]
        self.updates, self.began = 0, False
        self.held: tuple[int, dict[str, Any]] | None = None  # the latest record, while it may still get its loss
        self.before: dict[str, np.ndarray] = {}
        self.hooks: list[Any] = []  # on the optimizer
        self.taken = ExitStack()  # of the folder and of the model

    def open(self, resume: bool, at_step: int | None) -> None:
        """Take the folder and begin, or resume; `attach` calls it."""
        with ExitStack() as unless_open:
            try:
                unless_open.enter_context(locked(self.path))
            except RunError as error:
                if not isinstance(error.__cause__, Timeout):
                    raise
                raise RunError(
                    f"{self.path} is already being recorded into; detach() that handle first, or pass another folder"
                ) from error
            self.updates = distributed.together(lambda: first_step(self.path, self.recorder, resume, at_step))
            unless_open.callback(self.recorder.unhook)
            atexit.register(self._remind)
            unless_open.callback(atexit.unregister, self._remind)
            self.recorder.on_train_begin(None, state(self.updates), None)
            self._say_how_far()
            self.taken = unless_open.pop_all()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: Any) -> None:
        self.detach()

    @property
    def attached(self) -> bool:
        return bool(self.recorder.handles)

    @property
    def records(self) -> xr.Dataset:
        self.flush()
        return super().records

    @cached_property
    def trainer_callback(self) -> TrainerRecording:
        """For `transformers.Trainer(..., callbacks=[handle.trainer_callback])`."""
        return TrainerRecording(self)

    @cached_property
    def lightning_callback(self) -> Any:
        """For `Trainer(callbacks=[handle.lightning_callback])` of a Lightning that was imported before."""
        # its Trainer requires a Callback of its own; of every Lightning imported so far
        bases = [sys.modules[name].Callback for name in LIGHTNING if hasattr(sys.modules.get(name), "Callback")]
        return type(LightningRecording.__name__, (LightningRecording, *bases), {"handle": self})()

    def step(self, loss: Tensor | float | None = None) -> None:
        """Record the update that was just made, of which `loss` was the training loss.

        Call it after `optimizer.step()`, while the gradients are still there. One that a GradScaler skipped is seen by
        its gradients and does not count. Raises ValueError when called in another place, or if hooks count the updates.
        """
        self._check_attached()
        if self.hooks:
            raise ValueError(
                "step() is for loops without hooks, but hooks on the optimizer already count its updates; "
                "call log(loss) instead, or attach without an optimizer"
            )
        if passed_over(self.trained):
            self.recorder.forget()
            return
        if self.recorder.active:
            self._check_order()
            self._hold({**self.recorder.weights_before(), **self.recorder.gradients()})
        self._count()
        if loss is not None:
            self.log(loss)

    def log(self, loss: Tensor | float) -> None:
        """Log the training loss of the latest update; the first call after an update counts."""
        if self.held and self.held[0] == self.updates - 1 and math.isnan(self.held[1]["loss"]):
            self.held[1]["loss"] = np.float32(float(loss.detach() if isinstance(loss, Tensor) else loss))

    def watch(self, *optimizers: Any) -> None:
        """Let the hooks of the optimizer that moves the routers count the updates, in place of `step()`.

        Raises ValueError when none of them does, or several do.
        """
        self._check_attached()
        optimizer = holder(self.recorder.adapters, optimizers)
        self.unwatch()
        self.recorder.starts = None
        self.config = replace(self.config, optimizer=type(optimizer).__name__.lower())
        self._say_how_far()
        self.hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def unwatch(self) -> None:
        """Take the hooks off the optimizer; `step()` counts again."""
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.before, self.recorder.starts = [], {}, {}

    def seek(self, step: int) -> None:
        """A checkpoint of step > 0 was loaded: forget the records from there on, and continue."""
        if step and step != self.updates:
            self.flush()
            self.recorder.store.cut(step)
            self.updates = step
            self.recorder.on_step_end(None, state(step), None)

    def flush(self) -> None:
        """Write the records that wait in memory; a record counts once all of it is on disk."""
        if self.attached:
            self._settle()
            self.recorder.flush()
            self._say_how_far()

    def detach(self) -> None:
        """Write what waits and take every hook off model and optimizer; the record stays readable."""
        try:
            self.flush()
        finally:
            self.unwatch()
            self.held = None
            self.taken.close()

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self.recorder.active:
            self.before = self.recorder.weights()
            # a closure makes the gradients inside the step, and a fused optimizer takes a GradScaler's scale off there
            closure = any(callable(one) for one in (*args, *kwargs.values()))
            if not closure and getattr(optimizer, "grad_scale", None) is None:
                self.before |= self.recorder.gradients()

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        overflow = getattr(optimizer, "found_inf", None)  # where a fused optimizer skips the update by itself
        if overflow is not None and bool(overflow):
            self.recorder.forget()
            return
        if self.recorder.active:
            self._hold({**self.recorder.gradients(), **self.before})
        self._count()

    def _hold(self, tensors: dict[str, np.ndarray]) -> None:
        self._settle()
        self.held = self.updates, {**tensors, **self.recorder.statistics(), "loss": np.float32(np.nan)}
        self.began = True

    def _settle(self) -> None:
        if self.held:
            self.recorder.store.append(*self.held)
        self.held = None

    def _count(self) -> None:
        self.updates, self.before = self.updates + 1, {}
        self.recorder.forget()
        self.recorder.on_step_end(None, state(self.updates), None)

    def _say_how_far(self) -> None:
        if distributed.first():
            self.describe(self.updates)

    def _remind(self) -> None:
        """Python is ending, and zarr's threads have ended already: nothing can be written any more."""
        if waiting := len(getattr(self.recorder.store, "buffer", ())) + bool(self.held):
            warnings.warn(
                f"{waiting} records of {self.path} were never written; use attach in a `with` statement, or "
                "call detach() at the end",
                stacklevel=2,
            )

    def _check_attached(self) -> None:
        if not self.attached:
            raise ValueError(f"the handle of {self.path} was detached; attach again with resume=True")

    def _check_order(self) -> None:
        """A wrong place of step() shows at the first record; later ones may lack anything, and are recorded so."""
        if self.began:
            return
        if not self.recorder.gates:
            raise ValueError(
                "step() saw no forward pass of the adapters since attach(); attach before torch.compile "
                "and before the loop, and call step() once per update"
            )
        parameters = [p for adapter in self.recorder.adapters.values() for p in adapter.parameters()]
        if not any(p.grad is not None and p.grad.any() for p in parameters):
            raise ValueError(
                "step() found no gradient of the adapters; call it after optimizer.step() and before "
                "optimizer.zero_grad(), or pass optimizer= to attach"
            )


def state(step: int) -> SimpleNamespace:
    """What a `Recorder` reads of a Trainer's state; the number of steps to come is not known."""
    return SimpleNamespace(global_step=step, max_steps=0)


class TrainerRecording(TrainerCallback):
    """Hands the Trainer's optimizer to the record, and its loss where every step is logged (logging_steps=1)."""

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

    on_exception = on_save_checkpoint

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.handle.unwatch()
        self.handle.flush()
