"""Router weights, their gradients and gate statistics of a training run, read between backward and optimiser step."""

from __future__ import annotations

import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..adapters import Adapter, Routing
from . import distributed
from .hooked_recorder import HookedRecorder, every_nth

LARGE_RECORD_BYTES = 4e9
STATISTICS_TOKENS = 1024  # evenly spaced tokens of a batch that the statistics are taken over


def gate_statistics(gates: Tensor) -> dict[str, Tensor]:
    """gates (modules, tokens, E) -> entropy (modules,), and load, top1 and importance (modules, E).

    entropy: of a token's normalised absolute gates, averaged over tokens, 1 for uniform gates and 0 for one expert.
    load: share of tokens that use the expert; top1: share for which it has the largest gate; importance: mean gate.
    """
    experts = gates.shape[-1]
    share = gates.abs()
    share = share / share.sum(-1, keepdim=True).clamp_min(1e-12)
    # a clamped logarithm gives 0 · log 0 = 0 and is several times faster than xlogy
    entropy = -(share * share.clamp_min(1e-30).log()).sum(-1).mean(-1) / max(np.log(experts), 1e-12)  # (modules,)
    largest = gates.argmax(-1)  # (modules, tokens)
    top1 = torch.zeros(gates.shape[0], experts).scatter_add_(1, largest, torch.ones_like(largest, dtype=torch.float))
    return {
        "gate_entropy": entropy,
        "gate_load": torch.count_nonzero(gates, dim=1) / gates.shape[1],
        "gate_top1": top1 / gates.shape[1],
        "gate_importance": gates.mean(1),
    }


class Recorder(HookedRecorder):
    """Writes a run's record; dimensions (step, module, expert, feature).

    A record at step t holds the weights before update t, the gradient that makes it (after clipping; the norm before
    clipping stands in the history) and statistics of the gates over some 1000 real tokens of the last micro-batch.
    Modules whose routers have other shapes than the first get arrays of their own, with the shape in the name.
    """

    def __init__(self, model: nn.Module, path: Path, every: int) -> None:
        super().__init__(model, path, every)
        self.groups: dict[str, list[str]] = {}  # suffix -> module names
        self.gates: dict[str, tuple[Tensor, Tensor | None]] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.adapters:
            return
        self.store = self.open_store()
        self._declare(state.max_steps)
        self.store.cut(state.global_step)
        for name, adapter in self.adapters.items():
            self.handles.append(adapter.register_forward_hook(self._keep_gates(name)))
        self.active = self.due(state.global_step)

    def _declare(self, steps: int) -> None:
        shapes = defaultdict(list)
        for name, adapter in self.adapters.items():
            shapes[router_shape(adapter)].append(name)
        values = sum(2 * len(names) * e * f for (e, f), names in shapes.items())
        if (size := 4 * values * steps // self.every) > LARGE_RECORD_BYTES:
            warnings.warn(f"record_every = {self.every} writes {size / 1e9:.0f} GB; raise it for less", stacklevel=2)
        for number, ((experts, features), names) in enumerate(shapes.items()):
            suffix = "" if number == 0 else f"_{experts}x{features}"
            module, expert, feature = f"module{suffix}", f"expert{suffix}", f"feature{suffix}"
            self.groups[suffix] = names
            coords = {module: names}
            if features:
                for kind in ("router_weight", "router_grad"):
                    shape = (len(names), experts, features)
                    self.store.declare(kind + suffix, (module, expert, feature), shape, coords)
            self.store.declare(f"gate_entropy{suffix}", (module,), (len(names),), coords)
            for kind in ("gate_load", "gate_top1", "gate_importance"):
                self.store.declare(kind + suffix, (module, expert), (len(names), experts), coords)

    def _keep_gates(self, name: str) -> Any:
        def hook(adapter: Adapter, inputs: tuple[Any, ...], output: tuple[Tensor, Routing]) -> None:
            if self.active and adapter.training:
                mask = inputs[1].token_mask if len(inputs) > 1 and inputs[1] is not None else None
                self.gates[name] = (output[1].gates.detach(), mask)

        return hook

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.active:
            return
        record: dict[str, np.ndarray] = {}
        for suffix, names in self.groups.items():
            weights = [self.adapters[name].router.weight for name in names if hasattr(self.adapters[name], "router")]
            if weights:
                record[f"router_weight{suffix}"] = stacked([weight.detach() for weight in weights])
                record[f"router_grad{suffix}"] = stacked([gradient(weight) for weight in weights])
            gates = [flat_gates(*self.gates[name]) for name in names]  # (tokens, E) each
            few = torch.stack([one[every_nth(len(one), STATISTICS_TOKENS, self.place)] for one in gates])
            statistics = distributed.mean_over_all(gate_statistics(few), few.shape[1])
            record |= {kind + suffix: value.numpy() for kind, value in statistics.items()}
        self.store.append(state.global_step, record)
        self.gates = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.active = self.due(state.global_step)


def router_shape(adapter: Any) -> tuple[int, int]:
    """(experts, features) of an adapter's router; no features where intuition alone routes."""
    return tuple(adapter.router.weight.shape) if hasattr(adapter, "router") else (adapter.num_gates, 0)


def flat_gates(gates: Tensor, token_mask: Tensor | None) -> Tensor:
    """(batch, sequence, …) -> (tokens, experts) of the real tokens, float32 on the CPU."""
    flat = gates.flatten(2) if gates.dim() > 2 else gates.unsqueeze(1)
    flat = flat[token_mask.bool()] if token_mask is not None else flat.flatten(0, 1)
    return flat.float().cpu()


def gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad.detach()


def stacked(tensors: list[Tensor]) -> np.ndarray:
    """A copy on the CPU in float32, (modules, E, features)."""
    return torch.stack([tensor.float().cpu() for tensor in tensors]).numpy()
