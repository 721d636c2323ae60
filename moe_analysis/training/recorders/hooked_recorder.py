"""What the recorders of a training run share: a store, hooks on the adapters, and a step that is due or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from ...peft_bridge import adapter_modules
from .. import distributed
from .store import NoStore, RecordStore

Place = tuple[int, int]  # tokens of a batch before those of this process, and tokens of the batch


class HookedRecorder(TrainerCallback):
    """A callback that reads a model's adapters through forward hooks at every `every`-th step and writes to `path`.

    A subclass opens `store` and puts its hooks into `handles` when training begins; both are closed here.
    Where several processes train the run, a record is of all their tokens: each process calls every method, and the
    first writes. `place` says which tokens of the batch are those that the hooks see (None: all of them).
    """

    store: RecordStore | NoStore
    place: Place | None = None

    def __init__(self, model: nn.Module, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.adapters: dict[str, Any] = dict(adapter_modules(model))
        self.handles: list[Any] = []
        self.active = False

    def open_store(self) -> RecordStore | NoStore:
        return RecordStore(self.path) if distributed.first() else NoStore()

    def due(self, step: int) -> bool:
        return bool(self.adapters) and step % self.every == 0

    def watches(self, name: str, adapter: nn.Module) -> bool:
        """Whether the forward pass that an adapter is in now is one to look at."""
        return self.active and adapter.training

    def flush(self) -> None:
        """Write what is buffered; called before a checkpoint is written, so that no record of it can be missing."""
        if self.handles:
            self.store.flush()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.flush()
        for handle in self.handles:
            handle.remove()
        self.handles, self.active = [], False


def every_nth(tokens: int, most: int, place: Place | None = None) -> slice:
    """Evenly spaced tokens of a whole batch, at most `most`: those of them that are among this process's `tokens`."""
    before, total = place or (0, tokens)
    stride = max(1, -(-total // most))
    return slice(-before % stride, None, stride)
