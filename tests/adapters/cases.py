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
        {"r": 1, "num_experts": 4, "gate": "dense", "normalize_gates": False, "temperature": 0.5},
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
    "hydralora": [{"r": 2}, {"r": 3, "num_experts": 5, "top_k": 2, "gate": "switch"}],
    "momor": [
        {"r": 2},
        {"r": [2, 3], "num_experts": [4, 2], "top_k": [1, 2], "gate": ["switch", "dense"], "alpha": [4.0, None]},
        {"r": 2, "num_experts": [3], "top_k": [2], "gate": "softmax"},
    ],
    "smore": [
        {"r": 2},
        {
            "r": [3, 2],
            "num_experts": [4, 3],
            "fanout": [2, 1],
            "key_dim": [5, 6],
            "activation": "prelu",
            "router_activation": "tanh",
        },
        {"r": 2, "activation_position": "child", "balance_coef": 0.0},
        {"r": [2, 3], "activation_position": "child_scored", "alpha": [4.0, 9.0], "expert_bias": False},
        {"r": 2, "num_experts": [4, 4, 4], "fanout": [2, 1, 2], "shared_pool": True, "gate": "noisy_topk"},
        {"r": 2, "num_experts": [3, 3], "fanout": [1, 1], "gate": "noisy_topk", "init": "eq_1_layer"},
        {"r": 2, "num_experts": [3, 2], "fanout": [3, 2], "gate": "dense", "activation": "identity"},
        {"r": 2, "gate_arch": "linear", "down_dim": None},
        {
            "r": 1,
            "num_experts": [3, 3, 4],
            "fanout": [2, 1, 2],
            "gate": "noisy_topk",
            "gate_arch": "linear",
            "down_dim": 4,
        },
        {"r": 2, "num_experts": [4, 3, 4], "fanout": [2, 2, 2], "router": "bottom_up", "key_dim": 4},
        {"r": 2, "num_experts": [4, 3], "fanout": [1, 1], "router": "bottom_up", "activation_position": "child_scored"},
        {"r": 3, "num_experts": [4], "fanout": [2]},
    ],
}
CASES = [(name, options) for name in REGISTRY for options in CONFIGURATIONS.get(name, [{}])]


def ours(name: str) -> bool:
    """Whether an adapter is the package's, and not one that `MOE_ANALYSIS_ADAPTERS` names."""
    return REGISTRY[name].__module__.startswith("moe_analysis.")


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


def hydra_shapes(config) -> dict[str, tuple[int, ...]]:
    return shapes(config) | {"A": (1, config.r, IN)}


def momor_shapes(config) -> dict[str, tuple[int, ...]]:
    table = {}
    for pool, (s, r) in enumerate(zip(config.num_experts, config.by_pool("r"), strict=True)):
        table |= {f"A.{pool}": (s, r, IN), f"B.{pool}": (s, OUT, r), f"gates.{pool}.weight": (s, IN)}
    return table


def smore_shapes(config) -> dict[str, tuple[int, ...]]:
    """Names and shapes by the formulas of the paper; a shared pool is stored once."""
    s, r, m, down = config.num_experts, config.ranks, config.key_dims, config.down_dim or IN
    layers, d = len(s), [0]
    for size, rank in zip(s, r, strict=True):
        d.append(s[0] * r[0] if config.shared_pool else d[-1] + size * rank)
    table: dict[str, tuple[int, ...]] = {"W_proj": (OUT, d[-1]), "down.weight": (down, IN), "down.bias": (down,)}
    for layer in range(layers):
        if layer == 0 or not config.shared_pool:
            table |= {f"A.{layer}": (s[layer], r[layer], IN), f"B.{layer}": (s[layer], d[layer + 1], r[layer])}
            if config.expert_bias:
                table |= {f"A_bias.{layer}": (s[layer], r[layer]), f"B_bias.{layer}": (s[layer], d[layer + 1])}
        if layer:
            table[f"W.{layer}"] = (d[layer + 1], d[layer])
            if config.expert_bias:
                table[f"W_bias.{layer}"] = (d[layer + 1],)
        if config.activation == "prelu" and (layer or config.activation_position == "all"):
            table[f"activations.{layer}.weight"] = (1,)
        table |= {f"gates.{layer}.{name}": shape for name, shape in gate_shapes(config, layer, d, down, m).items()}
    return table | ({"W_proj_bias": (OUT,)} if config.expert_bias else {})


def gate_shapes(config, layer: int, d: list[int], down: int, m: list[int]) -> dict[str, tuple[int, ...]]:
    s, nodes = config.num_experts[layer], 1
    for fanout in config.fanout[layer + 1 :]:
        nodes *= fanout
    known, outputs = down + sum(m[layer + 1 :]), m[layer]
    table: dict[str, tuple[int, ...]] = {"keys": (s, m[layer])}
    if config.gate_arch == "linear":
        keys = (s, down * 2 ** (config.layers - 1 - layer))
        return {"keys": keys, "noise.weight": keys} if config.gate == "noisy_topk" else {"keys": keys}
    if config.router == "bottom_up":
        if layer == 0:
            return {"keys": (nodes, s, down)}
        known, outputs = d[layer] + m[layer], 1
        table = {"keys": (nodes * config.fanout[layer], s, m[layer])}
    if config.router_activation == "prelu":
        table["mlp.1.weight"] = (1,)
    if config.gate == "noisy_topk":
        table["noise.weight"] = (s, known)
    if config.router == "top_down":
        table["mlp.2.bias"] = (outputs,)
    return table | {"mlp.0.weight": (m[layer], known), "mlp.0.bias": (m[layer],), "mlp.2.weight": (outputs, m[layer])}


SHAPES = {
    "moelora": shapes,
    "sira": shapes,
    "trex": shapes,
    "hydralora": hydra_shapes,
    "momor": momor_shapes,
    "smore": smore_shapes,
}
