"""Router weights, their gradients and gate statistics of a training run, read between backward and optimizer step."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from ...peft_bridge import adapter_modules
from .. import distributed
from .store import NoStore, RecordStore

Place = tuple[int, int]  # tokens of a batch before those of this process, and tokens of the batch
Layout = dict[str, tuple[tuple[str, ...], tuple[int, ...]]]  # array -> its dimensions and sizes, without `step`
LARGE_RECORD_BYTES = 4e9
STATISTICS_TOKENS = 1024  # evenly spaced tokens of a batch that the statistics are taken over


class HookedRecorder(TrainerCallback, ABC):
    """A callback that reads a model's adapters through forward hooks at every `every`-th step and writes to `path`.

    A subclass declares its arrays and says what it sees of a forward pass; `store` and hooks are opened and closed here.
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

    @abstractmethod
    def declare(self, steps: int) -> None:
        """Create the arrays of the record in `store`; `steps` is the length of the run, 0 if unknown."""

    @abstractmethod
    def see(self, name: str, x: Any, routing: Any, mask: Tensor | None) -> None:
        """Look at a forward pass of an adapter: its input (…, in), its routing, and which tokens are real."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.adapters:
            return
        self.store = NoStore()
        distributed.together(lambda: self.open(state.global_step, state.max_steps))
        if not distributed.first():
            self.declare(state.max_steps)
        self.store.cut(state.global_step)
        self.hook()
        self.active = self.due(state.global_step)

    def open(self, step: int, steps: int) -> None:
        """Begin the record of a run of so many steps, or open that of one that resumes before `step`.

        Raises:
            RecordError: For a record that has lost what it had when the checkpoint was written.
        """
        self.store = RecordStore(self.path, self.kept(step))
        self.declare(steps)

    def kept(self, step: int) -> Sequence[int] | None:
        """The steps whose records are on disk where a run resumes before `step`; None if it begins."""
        return range(0, step, self.every) if step else None

    def hook(self) -> None:
        """Put a forward hook on every adapter; `unhook` takes them off."""
        for name, adapter in self.adapters.items():
            self.handles.append(adapter.register_forward_hook(self._shown_to(name), with_kwargs=True))

    def _shown_to(self, name: str) -> Any:
        def hook(adapter: Any, inputs: tuple[Any, ...], options: dict[str, Any], output: tuple[Any, Any]) -> None:
            if self.watches(name, adapter):
                x = inputs[0] if inputs else options.get("x")
                self.see(name, x, output[1], mask_of(inputs, options))

        return hook

    def due(self, step: int) -> bool:
        return bool(self.adapters) and step % self.every == 0

    def watches(self, name: str, adapter: nn.Module) -> bool:
        """Whether the forward pass that an adapter is in now is one to look at."""
        return self.active and adapter.training

    def flush(self) -> None:
        """Write what is buffered; called before a checkpoint is written, so that no record of it can be missing."""
        if self.handles:
            self.store.flush()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.active = self.due(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.flush()
        self.unhook()

    def unhook(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles, self.active = [], False


@contextmanager
def hooked(adapters: Mapping[str, Any], hook_of: Callable[[str], Callable[..., Any]]) -> Iterator[None]:
    """While inside, a forward pass of an adapter calls the hook that `hook_of` makes of its name.

    Args:
        adapters: By name.
        hook_of: Gives `hook(adapter, inputs, options, output)`.
    """
    with ExitStack() as hooks:
        for name, adapter in adapters.items():
            hooks.callback(adapter.register_forward_hook(hook_of(name), with_kwargs=True).remove)
        yield


def mask_of(inputs: tuple[Any, ...], options: Mapping[str, Any]) -> Tensor | None:
    """The token mask among what an adapter is called with: (x, context, …), the context perhaps by its name."""
    context = inputs[1] if len(inputs) > 1 else options.get("context")
    return None if context is None else context.token_mask


def every_nth(tokens: int, most: int, place: Place | None = None) -> slice:
    """Evenly spaced tokens of a whole batch, at most `most`: those of them that are among this process's `tokens`."""
    before, total = place or (0, tokens)
    stride = max(1, -(-total // most))
    return slice(-before % stride, None, stride)


def some_tokens(values: Tensor, mask: Tensor | None, most: int, place: Place | None = None) -> Tensor:
    """At most `most` evenly spaced real tokens of values (tokens, …), or of the batch that they have a place in."""
    every = torch.arange(len(values)) if mask is None else mask.flatten().nonzero()[:, 0]
    return values[every[every_nth(len(every), most, place)].to(values.device)]


def gate_statistics(gates: Tensor) -> dict[str, Tensor]:
    """gates (modules, tokens, E) -> entropy (modules,), and load, top1 and importance (modules, E).

    entropy: of a token's normalized absolute gates, averaged over tokens, 1 for uniform gates and 0 for one expert.
    load: share of tokens that use the expert; top1: share for which it has the largest gate; importance: mean gate.
    """
    experts = gates.shape[-1]
    entropy = mean_entropy(gate_shares(gates))  # (modules,)
    largest = gates.argmax(-1)  # (modules, tokens)
    top1 = torch.zeros(gates.shape[0], experts).scatter_add_(1, largest, torch.ones_like(largest, dtype=torch.float))
    return {
        "gate_entropy": entropy,
        "gate_load": torch.count_nonzero(gates, dim=1) / gates.shape[1],
        "gate_top1": top1 / gates.shape[1],
        "gate_importance": gates.mean(1),
    }


def gate_shares(gates: Tensor) -> Tensor:
    """Gates (..., E) -> an expert's share of a token's absolute gates (..., E); zeros if all gates are."""
    share = gates.abs()
    return share / share.sum(-1, keepdim=True).clamp_min(1e-12)


def mean_entropy(share: Tensor) -> Tensor:
    """Shares (..., tokens, E) -> their entropy, 1 for equal ones and 0 for one expert, mean over tokens (...)."""
    # a clamped logarithm gives 0 · log 0 = 0 and is several times faster than xlogy
    return -(share * share.clamp_min(1e-30).log()).sum(-1).mean(-1) / max(np.log(share.shape[-1]), 1e-12)


class Recorder(HookedRecorder):
    """Writes a run's record; dimensions (step, module, expert, feature).

    A record at step t holds the weights before update t, the gradient that makes it (after clipping; the norm before
    clipping is in the history) and statistics of the gates over some 1000 real tokens of the last micro-batch.
    Modules whose routers have other shapes than the first get arrays of their own, with the shape in the name.
    """

    most_tokens = STATISTICS_TOKENS

    def __init__(self, model: nn.Module, path: Path, every: int) -> None:
        super().__init__(model, path, every)
        self.groups: dict[str, list[str]] = {}  # suffix -> module names
        self.gates: dict[str, tuple[Tensor, Tensor | None]] = {}

    def layout(self) -> Layout:
        """The arrays of the record; their first dimension, where there is one, is that of modules."""
        shapes = defaultdict(list)
        for name, adapter in self.adapters.items():
            weight = router_weight(adapter)
            # no features where a router has no matrix, as intuition alone routes
            shapes[(adapter.num_gates, 0) if weight is None else tuple(weight.shape)].append(name)
        arrays: Layout = {}
        for number, ((experts, features), names) in enumerate(shapes.items()):
            suffix = "" if number == 0 else f"_{experts}x{features}"
            module, expert, feature = f"module{suffix}", f"expert{suffix}", f"feature{suffix}"
            self.groups[suffix] = names
            if features:
                for kind in ("router_weight", "router_grad"):
                    arrays[kind + suffix] = (module, expert, feature), (len(names), experts, features)
            arrays[f"gate_entropy{suffix}"] = (module,), (len(names),)
            for kind in ("gate_load", "gate_top1", "gate_importance"):
                arrays[kind + suffix] = (module, expert), (len(names), experts)
        return arrays

    def declare(self, steps: int) -> None:
        layout = self.layout()
        values = sum(prod(shape) for name, (_, shape) in layout.items() if name.startswith("router_"))
        if (size := 4 * values * steps // self.every) > LARGE_RECORD_BYTES:
            warnings.warn(
                f"record_every = {self.every} writes {size / 1e9:.0f} GB; raise record_every to write less",
                stacklevel=2,
            )
        for name, (dims, shape) in layout.items():
            self.store.declare(name, dims, shape, self.labels(dims))

    def labels(self, dims: tuple[str, ...]) -> dict[str, list[str]]:
        """{dimension: module names} of an array with these dimensions; nothing if it is not about modules."""
        return {dim: self.groups[dim.removeprefix("module")] for dim in dims[:1]}

    def see(self, name: str, x: Any, routing: Any, mask: Tensor | None) -> None:
        gates = routing.gates.detach().reshape(-1, self.adapters[name].num_gates)  # (tokens, E)
        self.gates[name] = gates, mask

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.active:
            self.store.append(state.global_step, {**self.weights(), **self.gradients(), **self.statistics()})

    def weights(self) -> dict[str, np.ndarray]:
        """router_weight of every shape (modules, E, features), as the weights are now."""
        return self._stacks("router_weight", lambda name, weight: weight.detach())

    def gradients(self) -> dict[str, np.ndarray]:
        """router_grad of every shape (modules, E, features), as the gradients are now; zeros if there is none."""

        def gradient(name: str, weight: Tensor) -> Tensor:
            return torch.zeros_like(weight) if weight.grad is None else weight.grad.detach()

        return self._stacks("router_grad", gradient)

    def _stacks(self, kind: str, read: Callable[[str, Tensor], Tensor]) -> dict[str, np.ndarray]:
        stacks = {}
        for suffix, names in self.groups.items():
            routers = {name: weight for name in names if (weight := router_weight(self.adapters[name])) is not None}
            if routers:
                stacks[kind + suffix] = stacked([read(name, weight) for name, weight in routers.items()])
        return stacks

    def statistics(self) -> dict[str, np.ndarray]:
        """Statistics of the gates that were kept, which are then let go; NaN for a module that did not run."""
        record: dict[str, np.ndarray] = {}
        for suffix, names in self.groups.items():
            means = self.means(names, gate_statistics)
            record |= {kind + suffix: value.numpy() for kind, value in means.items()}
        self.gates = {}
        return record

    def means(self, names: Sequence[str], measure: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        """`measure` of the gates (modules, tokens, E) of some modules of one size, mean over all processes' tokens."""
        few = [self._sample(name) for name in names]
        alike = len({len(one) for one in few}) == 1  # a module may have seen other tokens than the others, or none
        parts = [measure(torch.stack(few))] if alike else [measure(one[None]) for one in few]
        found = {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}
        # a module that did not run has no tokens, but all the same a say: it would be lost among the others
        tokens = max(len(one) if name in self.gates else 1 for name, one in zip(names, few))
        return distributed.mean_over_all(found, tokens)

    def _sample(self, name: str) -> Tensor:
        """Gates (tokens, E) of some real tokens of a module, evenly spaced, float32 on the CPU."""
        if name not in self.gates:
            return torch.zeros(0, self.adapters[name].num_gates)
        gates, mask = self.gates[name]
        mask = mask if mask is not None and mask.numel() == len(gates) else None
        return some_tokens(gates, mask, self.most_tokens, self.place).float().cpu()


def router_weight(adapter: Any) -> Tensor | None:
    """The matrix (experts, features) of an adapter's router; None if there is none, or one of another kind."""
    weight = getattr(getattr(adapter, "router", None), "weight", None)
    return weight if isinstance(weight, Tensor) and weight.dim() == 2 else None


def stacked(tensors: list[Tensor]) -> np.ndarray:
    """A copy on the CPU in float32, (modules, E, features)."""
    if len({tensor.device for tensor in tensors}) > 1:
        tensors = [tensor.cpu() for tensor in tensors]
    return torch.stack(tensors).float().cpu().numpy()
