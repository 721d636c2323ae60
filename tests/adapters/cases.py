"""The configurations in which each registered adapter is held to the contract, and how one is built for a test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from moe_analysis.adapters import REGISTRY, Adapter, AdapterConfig, RoutingContext

IN, OUT, BATCH, TOKENS = 12, 10, 3, 5

CONFIGURATIONS: dict[str, list[dict[str, Any]]] = {
    "moelora": [
        {"r": 2, "num_experts": 4},
        {"r": 3, "alpha": 6.0, "num_experts": 5, "top_k": 2, "gate_backward_power": 0.5},
        {"r": 2, "num_experts": 4, "top_k": 2, "gate": "switch"},
        {"r": 2, "num_experts": 4, "top_k": 1, "gate": "switch", "balance_coef": 0.5},
        {"r": 2, "num_experts": 4, "top_k": 2, "gate": "noisy_topk"},
        {"r": 2, "num_experts": 4, "top_k": 3, "gate": "noisy_topk", "balance_coef": 0.0, "gate_backward_power": 0.0},
        {"r": 1, "num_experts": 4, "gate": "dense", "normalize_gates": False},
        {"r": 2, "num_experts": 1},
    ],
    "sira": [{"r": 2}, {"r": 2, "num_experts": 4, "top_k": 3}],
    "trex": [
        {"num_down": 2, "num_up": 3},
        {"num_down": 3, "num_up": 2, "intuition": False},
        {"num_down": 2, "num_up": 2, "router": False},
        {"num_down": 2, "num_up": 3, "intuition_mapper": True, "num_clusters": 7},
        {"num_down": 2, "num_up": 2, "intuition_mapper": True},
        {"num_down": 3, "num_up": 3, "pairing": "diagonal"},
        {"num_down": 3, "num_up": 3, "pairing": "diagonal", "intuition_mapper": True, "num_clusters": 5},
        {"num_down": 2, "num_up": 2, "router_coef": 8.0, "intuition_coef": 1.5, "temperature": 10.0},
    ],
}
CASES = [(name, options) for name in REGISTRY for options in CONFIGURATIONS.get(name, [{}])]


def case_id(case: tuple[str, dict[str, Any]]) -> str:
    name, options = case
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


def randomize(module: nn.Module) -> None:
    """Away from the zero start; scalars stay small, for their sigmoid multiplies them by the temperature."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0.0, 0.5 if parameter.dim() else 0.005)


def build(name: str, options: dict[str, Any], dtype: torch.dtype = torch.float64) -> Adapter:
    """The adapter with random weights, in evaluation mode."""
    adapter = REGISTRY[name]
    layer = adapter(IN, OUT, adapter.config_class(**options)).to(dtype).eval()
    randomize(layer)
    return layer


def clusters(config: AdapterConfig) -> int | None:
    """Width of the intuition that the configuration asks for, None where it asks for none."""
    return config.clusters if getattr(config, "intuition", False) else None


def context_for(config: AdapterConfig, dtype: torch.dtype = torch.float64, mask: bool = True) -> RoutingContext:
    width = clusters(config)
    token_mask = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    token_mask[0, 2:] = False
    intuition = None if width is None else torch.rand(BATCH, width, dtype=dtype)
    return RoutingContext(intuition, token_mask if mask else None)


def example(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(BATCH, TOKENS, IN, dtype=dtype)


def shapes(config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the parameters as the contract fixes them, by the adapter's name."""
    experts = config.num_experts
    if hasattr(config, "num_down"):
        table = {"A": (config.num_down, IN), "B": (OUT, config.num_up), "omega_logit": (), "output_logit": ()}
        if config.router:
            table["router.weight"] = (experts, IN)
        if config.intuition_mapper:
            table["mapper.weight"] = (experts, config.num_clusters or 32)
        return table
    table = {"A": (experts, config.r, IN), "B": (experts, OUT, config.r), "router.weight": (experts, IN)}
    if config.gate == "noisy_topk":
        table["noise.weight"] = (experts, IN)
    return table


SHAPES = dict.fromkeys(("moelora", "sira", "trex"), shapes)
