"""The numbers shown while a run trains: loss, entropy of the gates, load of the experts, dead experts."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...peft_bridge import adapter_modules
from .. import distributed
from ..progress import FILE, MOST_POINTS, Live, Point, read_live, write_live
from .foreign_routers import foreign_routers
from .recorder import Recorder, gate_shares, mean_entropy
from .store import NoStore

WRITE_SECONDS = 1.0  # between two writings of the file
REMEMBERED = 5  # samples in which an expert must be idle to be called dead
DEAD = 0.01  # of an equal share, at most, has a dead expert


class LiveRecorder(Recorder):
    """Keeps live.json of a run, from gates of some tokens of some steps, and every step's loss.

    Gates are looked at in every `every`-th step, at most MOST_POINTS times in a run; which steps these are depends on
    nothing but the number of steps, so that all processes of a run look at the same ones. Nothing is written to a
    record.

    Args:
        model: The model that is trained; its adapters, or else its own routers where they can be read.
        folder: Of the run.
        steps: Of the whole run.
    """

    most_tokens = 256  # a quarter of what the records take: a panel has no digits to lose

    def __init__(self, model: nn.Module, folder: Path, steps: int) -> None:
        super().__init__(model, folder / FILE, every=max(1, -(-steps // MOST_POINTS)))
        self.folder, self.store = folder, NoStore()
        self.adapters = watched_routers(model)
        self.sizes: dict[int, list[str]] = {}  # experts -> names of the routers with this many
        for name, adapter in self.adapters.items():
            self.sizes.setdefault(adapter.num_gates, []).append(name)
        self.live, self.written = Live(), 0.0
        self.first: tuple[int, float] | None = None  # step of this process that ended first, and when
        self.losses: list[float] = []  # since the last point
        self.seen: dict[str, float] = {}  # of the gates of this step
        self.recent: deque[dict[int, Tensor]] = deque(maxlen=REMEMBERED)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        experts = sum(size * len(names) for size, names in self.sizes.items())
        before = read_live(self.folder) if state.global_step and distributed.first() else None
        self.live = replace((before or Live()).until(state.global_step), routers=len(self.adapters), experts=experts)
        self.hook()
        self.active = self.due(state.global_step)
        self.flush()

    def see(self, name: str, x: Any, routing: Any, mask: Tensor | None) -> None:
        with suppress(ValueError):  # a foreign router that hides its gates must not stop a run
            super().see(name, x, routing, mask)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.active:
            return
        seen = {experts: self.means(names, of_gates) for experts, names in self.sizes.items()}
        self.gates = {}
        entropy = mean([part["entropy"] for part in seen.values()])
        if math.isnan(entropy):  # no router ran, or none showed its gates
            return
        self.recent.append({experts: part["share"] for experts, part in seen.items()})
        self.seen = {
            "gate_entropy": entropy,
            "busiest_expert": mean([part["share"].amax(1) for part in seen.values()]),
            "dead_experts": float(sum(dead(list(shares)).sum() for shares in zip(*map(dict.values, self.recent)))),
        }
        self.live = replace(self.live, load=sorted_load(seen))

    def told(self, step: int, loss: float) -> dict[str, float]:
        """Hear the task's loss of an update; returns what the gates of the step showed, if they were looked at."""
        seen, self.seen = self.seen, {}
        self.losses.append(loss)
        points = self.live.points
        if (step - 1) % self.every == 0:
            points += (Point(step, sum(self.losses) / len(self.losses), **seen),)
            self.losses = []
        now = time.monotonic()
        begun, since = self.first = self.first or (step, now)
        pace = (now - since) / (step - begun) if step > begun else math.nan
        self.live = replace(self.live, step=step, loss=loss, pace=pace, points=points)
        if now - self.written > WRITE_SECONDS:
            self.flush()
        return seen

    def flush(self) -> None:
        """Write the file; also called before a checkpoint is written, and when training ends."""
        self.written = time.monotonic()
        if distributed.first():
            write_live(self.folder, self.live)


def watched_routers(model: nn.Module) -> dict[str, Any]:
    """Our adapters in a model, or the model's own routers; nothing if it has none, or some that cannot be read."""
    if ours := dict(adapter_modules(model)):
        return ours
    try:
        return foreign_routers(model)
    except ValueError:
        return {}


def of_gates(gates: Tensor) -> dict[str, Tensor]:
    """gates (routers, tokens, E) -> entropy (routers,) and share (routers, E) of the gates' weight, means over tokens."""
    share = gate_shares(gates)
    return {"entropy": mean_entropy(share), "share": share.mean(1)}


def mean(parts: Sequence[Tensor]) -> float:
    """Over the routers that ran; NaN if none did."""
    return torch.cat(list(parts)).nanmean().item()


def dead(samples: Sequence[Tensor]) -> Tensor:
    """Shares (routers, E) of several samples -> which experts have hardly any weight in all of them (routers, E).

    >>> dead([torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[0.5, 0.0, 0.5, 0.0]])]).tolist()
    [[False, False, False, True]]
    """
    most = torch.stack(list(samples)).amax(0)
    return most < DEAD / most.shape[-1]


def sorted_load(seen: dict[int, dict[str, Tensor]]) -> tuple[float, ...]:
    """Shares of the experts of a router, the busiest first, mean over the routers of the size that most have."""
    share = max((part["share"] for part in seen.values()), key=len)
    return tuple(share.sort(dim=1, descending=True).values.nanmean(0).tolist())
