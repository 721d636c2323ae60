"""What the recorders of a training run share: a store, hooks on the adapters, and a step that is due or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from ..peft_bridge import adapter_modules
from .store import RecordStore


class HookedRecorder(TrainerCallback):
    """A callback that reads a model's adapters through forward hooks at every `every`-th step and writes to `path`.

    A subclass opens `store` and puts its hooks into `handles` when training begins; both are closed here.
    """

    store: RecordStore

    def __init__(self, model: nn.Module, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.adapters: dict[str, Any] = dict(adapter_modules(model))
        self.handles: list[Any] = []
        self.active = False

    def due(self, step: int) -> bool:
        return bool(self.adapters) and step % self.every == 0

    def flush(self) -> None:
        """Write what is buffered; called before a checkpoint is written, so that no record of it can be missing."""
        if self.handles:
            self.store.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.flush()
        for handle in self.handles:
            handle.remove()
        self.handles, self.active = [], False
