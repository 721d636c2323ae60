"""Runs made of given arrays, with what the analyses read of a run and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

MODULES = ("layers.0.q_proj", "layers.0.v_proj")


def fake_run(
    weights: np.ndarray,
    method: str = "T-REX",
    seed: int = 0,
    *,
    stride: int = 1,
    chunk: int | None = None,
    losses: np.ndarray | None = None,
    balance: float = 0.0,
    optimizer: str = "adamw",
    gradients: np.ndarray | None = None,
    evaluation: pd.DataFrame | None = None,
) -> Any:
    """weights (T, experts, features) of one module, or (T, modules, experts, features); chunk makes it lazy."""
    weights = weights[:, None] if weights.ndim == 3 else weights
    steps = np.arange(len(weights)) * stride
    dims = ("step", "module", "expert", "feature")
    values = {"router_weight": (dims, weights.astype(np.float32))}
    gradients = np.zeros_like(weights) if gradients is None else gradients
    values["router_grad"] = (dims, (gradients[:, None] if gradients.ndim == 3 else gradients).astype(np.float32))
    values["gate_entropy"] = (dims[:2], np.tile(np.linspace(1.0, 0.5, len(steps))[:, None], (1, weights.shape[1])))
    records = xr.Dataset(values, coords={"step": steps, "module": list(MODULES[: weights.shape[1]])})
    updates = len(steps) * stride
    losses = np.linspace(2.0, 1.0, updates) if losses is None else np.asarray(losses, dtype=float)
    history = pd.DataFrame(
        {"step": np.arange(1, len(losses) + 1), "split": "train", "loss": losses + balance, "balance_loss": balance}
    )
    test = pd.DataFrame({"step": [len(losses)], "split": ["test"], "loss": [9.0], "balance_loss": [np.nan]})
    return SimpleNamespace(
        id=f"{method}-s{seed}",
        config=SimpleNamespace(name=method, seed=seed, optimizer=optimizer, system="trex"),
        records=records.chunk(step=chunk) if chunk else records,
        history=pd.concat([history, test], ignore_index=True),
        evaluation=evaluation,
    )


def walk(rng: np.random.Generator, steps: int, experts: int, features: int, drift: float = 0.0) -> np.ndarray:
    """(steps + 1, experts, features): unit Gaussian moves plus `drift` along one direction for each expert."""
    direction = rng.standard_normal((experts, features))
    moves = rng.standard_normal((steps, experts, features)) + drift * direction
    return np.concatenate([np.zeros((1, experts, features)), moves.cumsum(0)])
