"""Rebuild the cases of MoE-LoRA, plain and gate-rescaled, on our module."""

from __future__ import annotations

import torch
from torch import Tensor

from moe_analysis.adapters import MoeLora, MoeLoraConfig

BACKWARD_POWER = {"riemannian": 1.0, "moe-riemannian": 0.5}


def rebuild(description: dict, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """y, the mode's gradients of sum(y · grad_y), and those of ordinary autograd where the case holds them."""
    if description["mode"] not in BACKWARD_POWER:
        raise ValueError(f"mode {description['mode']!r}")
    results = gradients(description["hyper"], arrays, BACKWARD_POWER[description["mode"]])
    if "plain_grad_x" in arrays:
        plain = gradients(description["hyper"], arrays, 1.0)
        results |= {f"plain_{key}": value for key, value in plain.items() if key != "y"}
    return results


def gradients(hyper: dict, arrays: dict[str, Tensor], power: float) -> dict[str, Tensor]:
    experts, rank, width = arrays["A"].shape
    config = MoeLoraConfig(
        r=rank,
        alpha=float(hyper["scaling"]) * rank,
        num_experts=experts,
        top_k=hyper["top_k"],
        gate_backward_power=power,
    )
    layer = MoeLora(width, arrays["B"].shape[1], config).double()
    leaves = {"A": layer.A, "B": layer.B, "gate": layer.router.weight}
    for name, parameter in leaves.items():
        parameter.data = arrays[name].clone()
    x = arrays["x"].clone().requires_grad_()
    y = torch.nn.functional.linear(x, arrays["W"], arrays.get("bias")) + layer(x)[0]
    (y * arrays["grad_y"]).sum().backward()
    return {"y": y, "grad_x": x.grad, **{f"grad_{name}": leaf.grad for name, leaf in leaves.items()}}
