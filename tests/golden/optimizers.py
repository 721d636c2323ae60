"""Rebuild the cases of the optimizers: the recorded gradients are given to ours, step by step."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from moe_analysis.adapters import MoeLora, MoeLoraConfig
from moe_analysis.optim import RiemannianAdamW, RiemannianSGD

# the authors' AdamW sees A already updated when it preconditions B, their SGD does not
MODES = {
    "SGD": (RiemannianSGD, {"precondition": False}),
    "SGDr": (RiemannianSGD, {"update": "simultaneous"}),
    "AdamW": (RiemannianAdamW, {"precondition": False}),
    "AdamWr": (RiemannianAdamW, {"update": "sequential"}),
}
OPTIONS = {
    "optimizer_reg": "damping",
    "correct_bias": "correct_bias",
    "eps": "eps",
    "betas": "betas",
    "weight_decay": "weight_decay",
}
NOT_OPTIONS = {"lr", "lrs", "zeroB"}  # zeroB says how the case was drawn


def recorded(arrays: dict[str, Tensor]) -> set[str]:
    """The arrays that a step makes: factors and moments from the first step on."""
    return {key for key in arrays if re.fullmatch(r"(exp_avg_|exp_avg_sq_)?[AB]_[1-9]\d*", key)}


def rebuild(description: dict, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """Factors (layers, E, …) and moments after every step that the case has gradients for."""
    mode, hyper = description["mode"], description["hyper"]
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}")
    if unknown := set(hyper) - set(OPTIONS) - NOT_OPTIONS:
        raise ValueError(f"hyper-parameters {sorted(unknown)}")
    layers = build_layers(arrays["A_0"], arrays["B_0"])
    kind, fixed = MODES[mode]
    given = {OPTIONS[name]: value for name, value in hyper.items() if name in OPTIONS}
    optimizer = kind(layers, lr=hyper["lr"], **fixed, **given)
    results = {}
    steps = sum(key.startswith("gradA_") for key in arrays)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = hyper["lrs"][step - 1] if "lrs" in hyper else hyper["lr"]
        for layer, grad_a, grad_b in zip(layers, arrays[f"gradA_{step}"], arrays[f"gradB_{step}"], strict=True):
            layer.A.grad, layer.B.grad = grad_a.clone(), grad_b.clone()
        optimizer.step()
        for name in "AB":
            factors = [getattr(layer, name) for layer in layers]
            results[f"{name}_{step}"] = torch.stack([factor.detach().clone() for factor in factors])
            for moment in ("exp_avg", "exp_avg_sq") if kind is RiemannianAdamW else ():
                results[f"{moment}_{name}_{step}"] = torch.stack([optimizer.state[p][moment].clone() for p in factors])
    return results


def build_layers(down: Tensor, up: Tensor) -> nn.ModuleList:
    """One MoeLora a layer with the case's factors; the routers are frozen."""
    _, experts, rank, width = down.shape
    layers = nn.ModuleList()
    for a, b in zip(down, up, strict=True):
        layer = MoeLora(width, b.shape[1], MoeLoraConfig(num_experts=experts, r=rank)).to(down.dtype)
        layer.A.data, layer.B.data = a.clone(), b.clone()
        layers.append(layer)
        layer.router.weight.requires_grad_(False)
    return layers
