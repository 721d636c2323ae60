"""Layers with random experts and gradients, and the paper's formula for a step of theirs."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

import moe_analysis as ma
from moe_analysis.adapters import MoeLora, MoeLoraConfig

DAMPING = 1e-6
HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])


def layers(*shapes: tuple[int, int, int, int], seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.ModuleList:
    """A MoeLora for every (experts, r, in, out) with random factors and gradients."""
    torch.manual_seed(seed)
    modules = nn.ModuleList(
        MoeLora(width, out, MoeLoraConfig(num_experts=experts, r=rank)) for experts, rank, width, out in shapes
    ).to(dtype)
    for parameter in modules.parameters():
        parameter.data.normal_()
        parameter.grad = torch.randn_like(parameter)
    return modules


def at_the_start(dtype: torch.dtype) -> nn.ModuleList:
    """A layer with B = 0, so the gradient of A, Bᵀ of that of BA, is zero."""
    modules = layers((3, 2, 6, 5), dtype=dtype)
    modules[0].B.data.zero_()
    modules[0].A.grad.zero_()
    return modules


def factors(modules: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in modules.parameters()]


def model_of(*names: str) -> nn.Module:
    """A PEFT model with a MoeLora of each name beside one layer, all of them active, every factor random."""
    torch.manual_seed(0)
    model = None
    for name in names:
        config = ma.MoeLoraConfig(num_experts=3, r=2, target_modules=["0"])
        if model is None:
            model = peft.get_peft_model(nn.Sequential(nn.Linear(6, 5)), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    model.base_model.set_adapter(list(names))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
            parameter.grad = torch.randn_like(parameter)
    return model


def by_hand(A: torch.Tensor, B: torch.Tensor, grad_a: torch.Tensor, grad_b: torch.Tensor, damping: float = DAMPING):
    """Section 2.2, one expert at a time, with an explicit inverse."""
    eye = damping * torch.eye(A.shape[1], dtype=A.dtype)
    moved = [
        (torch.inverse(b.T @ b + eye) @ ga, gb @ torch.inverse(a @ a.T + eye))
        for a, b, ga, gb in zip(A, B, grad_a, grad_b)
    ]
    return torch.stack([a for a, _ in moved]), torch.stack([b for _, b in moved])


def beside_words() -> tuple[nn.Module, torch.Tensor]:
    """A MoeLora and a table of words with a sparse gradient, and that gradient."""
    model = nn.ModuleList([*layers((3, 2, 6, 5)), nn.Embedding(7, 6, sparse=True, dtype=torch.float64)])
    model[1](torch.tensor([2, 5, 2])).sum().backward()
    return model, model[1].weight.grad.to_dense()
