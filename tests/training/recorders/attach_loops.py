"""Loops as other people write them, and what a test looks at in their record."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from moe_analysis.training.recorders.attach import Attachment
from moe_analysis.training.recorders.attached_run import AttachedRun

MODULE = "layers.0.self_attn.q_proj"
ROUTER = f"base_model.model.model.{MODULE}.moelora_adapter.default.router"


def backward(model: nn.Module, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    ids = torch.randint(3, 40, (3, 7), generator=torch.Generator().manual_seed(seed))
    loss = model(input_ids=ids, labels=ids).loss
    (loss * scale).backward()
    return loss.detach()


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, updates: int, handle: Attachment | None = None, first: int = 0
) -> None:
    """A plain loop; with a handle it calls step()."""
    for number in range(first, first + updates):
        loss = backward(model, number)
        optimizer.step()
        if handle is not None:
            handle.step(loss)
        optimizer.zero_grad()


def router(model: nn.Module) -> np.ndarray:
    return model.get_submodule(ROUTER).weight.detach().numpy().copy()


def steps(handle: AttachedRun) -> list[int]:
    return handle.records["step"].values.tolist()


def assert_same_records(first, second, but: tuple[str, ...] = ()) -> None:
    assert first["step"].values.tolist() == second["step"].values.tolist()
    for name in set(first.data_vars) - set(but):
        np.testing.assert_array_equal(first[name].values, second[name].values, err_msg=name)
