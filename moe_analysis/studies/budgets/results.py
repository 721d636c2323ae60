"""Trained models as points of accuracy against size: the table that `points` and its users read."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ...theory.method_table import adapter_cost, layer_shapes
from ..systems.scores import by_part
from .points import COLUMNS


def budget_results(frame: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """One row per method, seed, budget and part of its tests: the columns of `points.COLUMNS`.

    Args:
        frame: columns of `scores` and budget.
        sizes: columns method, budget, trainable, active, operations.

    Accuracy and loss are means over the data sets of the part.
    """
    frames = []
    for budget, own in frame.groupby("budget", sort=False):
        at = sizes[sizes["budget"] == budget]
        for part, rows in by_part(own):
            means = rows.groupby(["method", "seed"], sort=False)[["accuracy", "loss"]].mean().reset_index()
            frames.append(means.merge(at, on="method").assign(part=part))
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)]


def sizes_of(adapter: Any, backbone: Any) -> dict[str, int]:
    """trainable and active parameters and operations of a PEFT configuration on a model, by formula.

    active is the most that one token uses, including the router; operations are multiply-accumulates per token.
    """
    found = adapter_cost(adapter, layer_shapes(backbone, adapter))
    return {
        "trainable": found.parameters,
        "active": found.active_parameters + found.router_parameters,
        "operations": found.macs("experts", "paper") + found.macs("router", "paper"),
    }
