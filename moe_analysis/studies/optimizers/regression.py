"""A regression bench that costs seconds: a mixture of low-rank experts learns another one, under the paper's protocol.

A Stronger Mixture of Low-Rank Experts (section 2 of the reference): the real `MoeLora` with the real optimizers, both
learning rates falling linearly to a tenth, and the router's gradient clipped to norm 1. Several seeds are trained
together: each is a block of experts of one layer, and a block's tokens use only that block.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn

from ...adapters import MoeLora, MoeLoraConfig
from ...optim import FallbackWarning, build_optimizer

FINAL_LR, ROUTER_NORM = 0.1, 1.0  # the paper's protocol
LOST = 1e3  # times an untrained student's error: training has diverged
COLUMNS = (
    "seed",
    "step",
    "train_mse",
    "validation_mse",
    "gate_entropy",
    "load_balance",
    "effective_step",
    "diverged",
    "fallbacks",
)


@dataclass(frozen=True)
class RegressionTask:
    """A seeded teacher: a frozen linear map that the student knows, plus a routed mixture of rank-r maps.

    Inputs (samples, in_features) of unit variance form `clusters`, whose centers are `separation` times as far apart as
    the spread within one. Every cluster mixes `active` of the teacher's num_experts maps with its own weights, so one
    map for all inputs cannot be right. The mixture's output has unit mean square on the training inputs, so that an
    untrained student's error is 1. noise: standard deviation of the noise on the training targets; validation targets
    have none, so their error is the excess over the best possible one.
    """

    in_features: int = 32
    out_features: int = 32
    num_experts: int = 8
    r: int = 4
    clusters: int = 16
    active: int = 2
    separation: float = 1.0
    noise: float = 1.5
    samples: int = 2048
    validation: int = 512
    seed: int = 0

    def draw(self, seed: int = 0) -> RegressionData:
        """The teacher and its data for one repetition; the same (task.seed, seed) gives the same numbers."""
        if not 1 <= self.active <= self.num_experts:
            raise ValueError(f"active = {self.active} must be between 1 and num_experts = {self.num_experts}")
        generator = torch.Generator().manual_seed(1000 * self.seed + seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        base = normal(self.out_features, self.in_features) / self.in_features**0.5
        down = normal(self.num_experts, self.r, self.in_features) / self.in_features**0.5
        up = normal(self.num_experts, self.out_features, self.r) / self.r**0.5
        chosen = torch.rand(self.clusters, self.num_experts, generator=generator).argsort(1) < self.active
        weights = normal(self.clusters, self.num_experts).masked_fill(~chosen, -math.inf).softmax(1)
        maps = torch.einsum("ce,eor,eri->coi", weights, up, down)  # one map per cluster

        count = self.samples + self.validation
        cluster, centres = torch.arange(count) % self.clusters, normal(self.clusters, self.in_features)
        x = (self.separation * centres[cluster] + normal(count, self.in_features)) / (1 + self.separation**2) ** 0.5
        update = torch.einsum("noi,ni->no", maps[cluster], x)
        update /= update[: self.samples].square().mean().sqrt()
        y = x @ base.T + update
        y[: self.samples] += self.noise * normal(self.samples, self.out_features)
        return RegressionData(base, x[: self.samples], y[: self.samples], x[self.samples :], y[self.samples :])


@dataclass(frozen=True)
class RegressionData:
    """base (out, in); x, y (samples, in or out) for training; valid_x, valid_y without noise."""

    base: Tensor
    x: Tensor
    y: Tensor
    valid_x: Tensor
    valid_y: Tensor


class BlockRouter(nn.Linear):
    """A router of S students side by side: x (S, N, in) -> logits (S, N, S·E), −∞ outside the student's own block."""

    mask: Tensor

    def __init__(self, in_features: int, students: int, num_experts: int) -> None:
        super().__init__(in_features, students * num_experts, bias=False)
        block = torch.arange(students).repeat_interleave(num_experts)
        outside = torch.arange(students)[:, None] != block  # (S, S·E)
        self.register_buffer("mask", torch.zeros(outside.shape).masked_fill(outside, -math.inf)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.mask


def side_by_side(students: Sequence[MoeLora]) -> MoeLora:
    """One `MoeLora` of S·E experts whose blocks are the students: x (S, N, in) -> delta (S, N, out).

    A block's gates are exactly those of its student, because experts outside it get a probability of zero.
    """
    first = students[0]
    config = replace(
        first.config, num_experts=len(students) * first.config.num_experts, top_k=first.config.active_experts
    )
    layer = MoeLora(first.in_features, first.out_features, config)
    layer.router = BlockRouter(first.in_features, len(students), first.config.num_experts)
    with torch.no_grad():
        layer.A.copy_(torch.cat([student.A for student in students]))
        layer.B.copy_(torch.cat([student.B for student in students]))
        layer.router.weight.copy_(torch.cat([student.router.weight for student in students]))
    return layer


def new_student(task: RegressionTask, adapter: MoeLoraConfig, seed: int) -> MoeLora:
    """An untrained student, the same for any state of the random generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MoeLora(task.in_features, task.out_features, adapter)


def train_regression(
    task: RegressionTask,
    adapter: MoeLoraConfig,
    optimizer: str = "riemannian_sgd",
    options: Mapping[str, Any] | None = None,
    *,
    lr: float,
    router_lr: float,
    steps: int = 300,
    batch: int = 32,
    seeds: Sequence[int] = (0,),
    record_every: int = 10,
) -> pd.DataFrame:
    """Train one student per seed (the seed decides teacher, data, start and batches) and return the history.

    Columns seed, step, train_mse and effective_step (means over the steps since the last record, NaN at step 0; a
    step's length is the Frobenius norm, over all experts, of the change of (alpha / r)·B_e A_e), validation_mse,
    gate_entropy (of a token's kept gates / ln k: 0 for one expert, 1 for equal gates; NaN at k = 1), load_balance
    (entropy of the experts' mean gates / ln E), diverged, fallbacks (Gram matrices without a Cholesky factor so far,
    over all seeds trained together). A seed whose validation error reaches LOST or is not finite has diverged; its
    errors are infinite from then on. Raises ValueError for settings that cannot be trained side by side.
    """
    if steps % record_every:
        raise ValueError(
            f"steps = {steps} is not a multiple of record_every = {record_every}; the last step must be recorded"
        )
    if adapter.gate != "softmax" or adapter.normalize_gates is False or adapter.dropout or adapter.balance_weight:
        raise ValueError(
            f"gate = {adapter.gate!r}, normalize_gates = {adapter.normalize_gates}, dropout = "
            f"{adapter.dropout}, balance_coef = {adapter.balance_coef}: students train side by side only "
            "with a normalized softmax gate, without dropout and balance loss"
        )
    rows: list[dict[str, Any]] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)  # counted in the history
            bench = Bench(task, adapter, tuple(seeds), steps, batch)
            bench.train(build_optimizer(optimizer, bench.layer, lr, router_lr, options=options), record_every, rows)
    except FloatingPointError:
        if len(seeds) > 1:  # an infinite student spoils the sums of all, so train each alone
            again = partial(
                train_regression,
                task,
                adapter,
                optimizer,
                options,
                lr=lr,
                router_lr=router_lr,
                steps=steps,
                batch=batch,
                record_every=record_every,
            )
            return pd.concat([again(seeds=[seed]) for seed in seeds], ignore_index=True)
        lost = {"seed": seeds[0], "train_mse": math.inf, "validation_mse": math.inf, "effective_step": math.inf}
        rows += [
            {**lost, "step": step, "diverged": True, "fallbacks": rows[-1]["fallbacks"] if rows else 0}
            for step in range(len(rows) * record_every, steps + 1, record_every)
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(["seed", "step"], kind="stable", ignore_index=True)


class Bench:
    """Students side by side with their data (S, samples, features) and the order of their batches."""

    def __init__(self, task: RegressionTask, adapter: MoeLoraConfig, seeds: tuple[int, ...], steps: int, batch: int):
        self.seeds, self.steps = seeds, steps
        self.experts, self.kept = adapter.num_experts, adapter.active_experts
        self.layer = side_by_side([new_student(task, adapter, seed) for seed in seeds])
        data = [task.draw(seed) for seed in seeds]
        self.x, self.valid_x = torch.stack([one.x for one in data]), torch.stack([one.valid_x for one in data])
        # the student has the frozen map too, so it is subtracted from the targets once
        self.y = torch.stack([one.y - one.x @ one.base.T for one in data])
        self.valid_y = torch.stack([one.valid_y - one.valid_x @ one.base.T for one in data])
        orders = [
            torch.randint(task.samples, (steps, batch), generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        self.order = torch.stack(orders, dim=1)  # (steps, S, batch)

    def train(self, optimizer: torch.optim.Optimizer, record_every: int, rows: list[dict[str, Any]]) -> None:
        """All steps; appends one record per seed to `rows`. Raises FloatingPointError if a student diverges."""
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, FINAL_LR, self.steps)
        students = len(self.seeds)
        block = torch.arange(students)[:, None]
        maps, loss, moved = self.maps(), [], []
        nothing = torch.full((students,), math.nan)
        rows += self.record(0, nothing, nothing, 0)
        for step in range(1, self.steps + 1):
            picked = self.order[step - 1]
            optimizer.zero_grad()
            error = (self.layer(self.x[block, picked])[0] - self.y[block, picked]).square().mean((1, 2))  # (S,)
            error.sum().backward()
            self.clip_router()
            optimizer.step()
            schedule.step()
            before, maps = maps, self.maps()
            loss.append(error.detach())
            moved.append((maps - before).flatten(1).norm(dim=1))
            if step % record_every == 0:
                fallbacks = getattr(optimizer, "fallbacks", 0)
                rows += self.record(step, torch.stack(loss).mean(0), torch.stack(moved).mean(0), fallbacks)
                loss, moved = [], []

    @torch.no_grad()
    def maps(self) -> Tensor:
        """What the experts add to the frozen map if their gate is 1, (S, E, out, in)."""
        return (self.layer.scaling * self.layer.B @ self.layer.A).unflatten(0, (len(self.seeds), -1))

    def clip_router(self) -> None:
        """Clip each student's own router gradient to norm 1, like `clip_grad_norm_`."""
        gradient = cast(Tensor, self.layer.router.weight.grad).unflatten(0, (len(self.seeds), -1))  # (S, E, in)
        gradient *= (ROUTER_NORM / (gradient.flatten(1).norm(dim=1) + 1e-6)).clamp(max=1.0)[:, None, None]

    @torch.no_grad()
    def record(self, step: int, train_mse: Tensor, effective_step: Tensor, fallbacks: int) -> list[dict[str, Any]]:
        output, routing = self.layer(self.valid_x)
        gates = routing.gates.unflatten(-1, (len(self.seeds), -1)).diagonal(dim1=0, dim2=2)  # (N, E, S)
        measured = {
            "train_mse": train_mse,
            "validation_mse": (output - self.valid_y).square().mean((1, 2)),
            "gate_entropy": torch.special.entr(gates).sum(1).mean(0) / (math.log(self.kept) or math.nan),
            "load_balance": torch.special.entr(gates.mean(0)).sum(0) / (math.log(self.experts) or math.nan),
            "effective_step": effective_step,
        }
        if not (measured["validation_mse"] < LOST).all():
            raise FloatingPointError(f"a validation error is {LOST:g} or more at step {step}: training has diverged")
        lists = {name: values.tolist() for name, values in measured.items()}
        shared = {"step": step, "diverged": False, "fallbacks": fallbacks}
        return [
            {"seed": seed, **shared, **{name: values[i] for name, values in lists.items()}}
            for i, seed in enumerate(self.seeds)
        ]
