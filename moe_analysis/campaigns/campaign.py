"""A campaign: systems tuned alike on rows held out of train, then trained with many seeds and tested; nothing else.

The stages are "base" (the backbone as it is, on the rows of the final runs; nothing is trained), "tune" (every cell of
one grid, for every system and tuning seed) and "final" (each system's best cell).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..training.config import TrainConfig
from ..training.sweep.grid import build
from ..training.values import check_seed
from .row import OF_AN_EVALUATION

TUNE, FINAL = "tune", "final"
BASE_MODEL = "base model"  # how the backbone without an adapter is called in tables
MEASURES = ("accuracy", "accuracy_norm", "loss")
# axes of a grid beside the fields of a TrainConfig: lr as a multiple of the system's own, router_lr as one of lr
LR_MULTIPLIER, ROUTER_MULTIPLIER = "lr_multiplier", "router_multiplier"

Cell = tuple[Any, ...]  # a value for each axis of the grid


class CampaignError(ValueError):
    """A campaign that cannot be run; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class Tuning:
    """grid: axis -> values, the same for every system; an axis is a field of a TrainConfig, "lr_multiplier"
    (of the system's own lr) or "router_multiplier" (of lr).
    choose_by: one of MEASURES, a mean over the data sets of the held-out rows. changes: fields in which the runs of
    this stage differ from the campaign's base.

    Every system is trained in every cell, also where an axis changes nothing for it, as "router_multiplier" for LoRA:
    those runs are alike, and each has a row, because a table knows a cell by the configuration of its runs."""

    grid: dict[str, list[Any]]
    seeds: list[int]
    holdout_rows: int
    choose_by: str = "accuracy"
    changes: dict[str, Any] = field(default_factory=dict)

    def cells(self) -> Iterator[Cell]:
        return product(*self.grid.values())

    def fields_of(self, cell: Cell, own_lr: float) -> dict[str, Any]:
        """What a cell sets in a TrainConfig of a system whose rate is `own_lr` where nothing is tuned."""
        values = dict(zip(self.grid, cell))
        if LR_MULTIPLIER in values:
            values["lr"] = values.pop(LR_MULTIPLIER) * own_lr
        if ROUTER_MULTIPLIER in values:
            values["router_lr"] = values.pop(ROUTER_MULTIPLIER) * values["lr"]
        return values


@dataclass(frozen=True)
class Final:
    """seeds: of the runs that are tested. changes: fields in which they differ from the campaign's base."""

    seeds: list[int]
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Endpoints:
    """By what the final runs will be compared, written before there are any.

    Args:
        parts: Name -> which data sets: {"role": …} or {"datasets": […]} of the base's suite, or {"suite": …} of the
            suites to transfer to.
        measure: "accuracy" or "accuracy_norm". A data set is left out where the strongest of the references is less
            than `floor` above guessing or better than `ceiling` on the rows held out of train. References need
            at least one of the two; where the other is None, it is 0 or 1.
    """

    parts: dict[str, dict[str, Any]]
    measure: str = "accuracy"
    references: list[str] = field(default_factory=list)
    floor: float | None = None
    ceiling: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """(floor, ceiling) as numbers."""
        return self.floor or 0.0, 1.0 if self.ceiling is None else self.ceiling


@dataclass(frozen=True)
class Campaign:
    """study: the name of its table. systems: label -> the fields of a TrainConfig that make it; base: fields that all
    share (a system's own win)."""

    study: str
    systems: dict[str, dict[str, Any]]
    base: dict[str, Any]
    tune: Tuning | None
    final: Final
    endpoints: Endpoints
    slurm: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Make every configuration that may come; raises CampaignError naming what cannot be, or is there twice."""
        self.check_seeds()
        candidates = {
            FINAL: [
                self.config(FINAL, label, cell, self.final.seeds[0]) for label in self.systems for cell in self.cells()
            ]
        }
        if self.tune:
            candidates[TUNE] = self.tuning_configs()
        for stage, configs in candidates.items():
            seen: dict[str, str] = {}
            for config in configs:
                try:
                    config.check()
                except ValueError as error:
                    raise CampaignError(f"{stage}: {config.name}: {error}") from error
                if (twin := seen.setdefault(config.digest, str(config.name))) != config.name:
                    raise CampaignError(f"systems: {config.name} is the same as {twin}; remove one of them")

    def check_seeds(self) -> None:
        for stage, seeds in ((TUNE, self.tune.seeds if self.tune else []), (FINAL, self.final.seeds)):
            for seed in seeds:
                try:
                    check_seed(seed)
                except ValueError as error:
                    raise CampaignError(f"{stage}: seeds: {error}") from error

    def base_config(self) -> TrainConfig:
        """What the base model is tested by: the base with what final runs change, as far as it moves a test outcome."""
        found = build([self.base, self.final.changes])
        return TrainConfig(**{name: getattr(found, name) for name in OF_AN_EVALUATION}, name=BASE_MODEL, steps=0)

    def cells(self) -> list[Cell]:
        """Of the tuning grid; one that changes nothing if nothing is tuned."""
        return list(self.tune.cells()) if self.tune else [()]

    def tuning_configs(self) -> list[TrainConfig]:
        """Every run of the tuning: seed by seed, in each the cells in the grid's order, in each the systems."""
        if self.tune is None:
            return []
        return [
            self.config(TUNE, label, cell, seed)
            for seed in self.tune.seeds
            for cell in self.tune.cells()
            for label in self.systems
        ]

    def final_configs(self, chosen: Mapping[str, Cell]) -> list[TrainConfig]:
        """The final runs of the systems whose cell is known: seed by seed, so that an early stop leaves a fair comparison."""
        return [
            self.config(FINAL, label, chosen[label], seed)
            for seed in self.final.seeds
            for label in self.systems
            if label in chosen
        ]

    def config(self, stage: str, label: str, cell: Cell, seed: int) -> TrainConfig:
        """One run; what comes later wins: base, the system, the stage's changes, the cell."""
        changes: list[dict[str, Any]] = [self.final.changes]
        if self.tune:
            of_stage = {**self.tune.changes, "holdout_rows": self.tune.holdout_rows}
            own_lr = {"lr": TrainConfig.lr, **self.base, **self.systems[label]}["lr"]
            changes = [of_stage if stage == TUNE else self.final.changes, self.tune.fields_of(cell, own_lr)]
        try:
            return build([self.base, self.systems[label], *changes, {"seed": seed, "name": label}])
        except ValueError as error:
            raise CampaignError(f"{stage}: {label}: {error}") from error
