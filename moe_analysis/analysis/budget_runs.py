"""Trained models as points of accuracy against size: the table that `budget_curves` and what builds on it read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..studies.records import run_key
from ..studies.systems.scores import by_part, scores
from ..theory.method_table import adapter_cost, layer_shapes
from .budget_curves import COLUMNS


def budget_results(
    runs: Mapping[int, Sequence[Any]], backbone: Any, transferred: Mapping[int, Sequence[pd.DataFrame]] | None = None
) -> pd.DataFrame:
    """A row a run and part of its tests: columns method, seed, budget, trainable, active, operations, part, accuracy,
    loss.

    runs: budget (nominal trainable parameters) -> its runs. backbone: the model they adapt, on any device. transferred:
    budget -> each run's table on an out-of-distribution suite, as for `generalization.scores`. active counts what a
    token uses at most, its router included; operations are multiply-accumulates a token of the adapter. Accuracy and
    loss are means over the data sets of the part.

    >>> table = budget_results({20_000: runs[:2]}, ma.load_backbone("compact")[0])
    >>> table[["method", "seed", "budget", "trainable", "part"]].head(3)
         method  seed  budget  trainable       part
    0  LoRA-MoE     0   20000      10240  originals
    1  LoRA-MoE     1   20000      10240  originals
    2  LoRA-MoE     0   20000      10240   variants
    """
    frames = []
    for budget, own in runs.items():
        outside = () if transferred is None else transferred[budget]
        sizes = pd.DataFrame([{**run_key(run), **sizes_of(run.config.adapter, backbone)} for run in own])
        for part, rows in by_part(scores(own, outside)):
            means = rows.groupby(["method", "seed"], sort=False)[["accuracy", "loss"]].mean().reset_index()
            frames.append(sizes.merge(means, on=["method", "seed"]).assign(budget=budget, part=part))
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)]


def sizes_of(adapter: Any, backbone: Any) -> dict[str, int]:
    """trainable and active parameters and operations of a PEFT configuration on a model, by formula."""
    found = adapter_cost(adapter, layer_shapes(backbone, adapter))
    return {
        "trainable": found.parameters,
        "active": found.active_parameters + found.router_parameters,
        "operations": found.macs("experts", "paper") + found.macs("router", "paper"),
    }


def with_layers(results: pd.DataFrame, layers: Mapping[str, int]) -> pd.DataFrame:
    """The rows of the methods in `layers` (method -> number of layers), with that number in a column layers.

    >>> with_layers(results, {"S'MoRE": 2})["layers"].unique().tolist()
    [2]
    """
    chosen = results[results["method"].isin(list(layers))]
    return chosen.assign(layers=chosen["method"].map(layers))
