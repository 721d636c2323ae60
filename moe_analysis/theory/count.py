"""What an adapter costs, counted on the module: parameters by numel, operations by torch's FLOP counter.

Modules are on the meta device, which computes shapes but no numbers, so layers of any size cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor, nn

FEWER, MORE = 8, 24  # tokens of the two passes; their difference is what a token costs
GATE_MODULES = re.compile(r"\w+\.(gates\.\d+|mapper)")


@dataclass(frozen=True)
class Counted:
    """Parameters, and multiply-accumulates of a forward pass: a token, and once per call of one sample."""

    expert_parameters: int
    router_parameters: int
    expert_macs: int
    router_macs: int
    expert_macs_per_call: int = 0
    router_macs_per_call: int = 0


def meta_layer(name: str, in_features: int, out_features: int, config: Any) -> Any:
    """The registered adapter `name`, on the meta device and in evaluation mode."""
    import torch

    from ..adapters.base import REGISTRY

    if name not in REGISTRY:
        raise ValueError(f"name = {name!r} is not an adapter; choose one of {', '.join(REGISTRY)}")
    with torch.device("meta"):
        return REGISTRY[name](in_features, out_features, config).eval()


def count(layer: Any) -> Counted:
    """Count a pure module of `adapters`; it should be on the meta device, for operations are run to be counted."""
    router = sum(parameter.numel() for parameter in layer.router_parameters())
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    (few_experts, few_router), (many_experts, many_router) = (operations(layer, n) for n in (FEWER, MORE))
    experts, per_token = (many_experts - few_experts, many_router - few_router)
    experts, per_token = experts // (MORE - FEWER), per_token // (MORE - FEWER)
    return Counted(
        parameters - router, router, experts, per_token, few_experts - FEWER * experts, few_router - FEWER * per_token
    )


def operations(layer: Any, tokens: int) -> tuple[int, int]:
    """Multiply-accumulates (experts, router) of one forward pass of one sample of this many tokens.

    Experts and router share the product that reads the input; the router's rows of it are counted by themselves.
    """
    import torch

    x = torch.empty(1, tokens, layer.in_features, device=next(layer.parameters()).device)
    with flop_counter() as counter:
        layer(x, context_of(layer, x))
    gates = sum(
        sum(by_op.values()) for name, by_op in counter.get_flop_counts().items() if GATE_MODULES.fullmatch(name)
    )
    with flop_counter() as reading:
        for reader in input_readers(layer):
            reader(x)
    router = gates + reading.get_total_flops()
    return (counter.get_total_flops() - router) // 2, router // 2  # a multiply-accumulate is two FLOPs


def flop_counter() -> Any:
    """torch's counter, taught the products that write into one of their arguments, which it passes over."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    def added_product(onto: Sequence[int], left: Sequence[int], right: Sequence[int], **options: Any) -> int:
        return 2 * prod(onto) * left[-1]  # two FLOPs for each multiply-accumulate

    aten = torch.ops.aten
    return FlopCounterMode(display=False, custom_mapping={aten.addmm_: added_product, aten.baddbmm_: added_product})


def input_readers(layer: Any) -> list[nn.Module]:
    """The router's maps of the layer's input, which the forward pass joins with the experts' down factors."""
    found = [getattr(layer, name) for name in ("router", "noise", "down") if hasattr(layer, name)]
    return found or list(getattr(layer, "gates", ()))


def context_of(layer: Any, x: Float[Tensor, "*tokens in"]) -> Any:
    """An intuition of one sample where the layer routes by it."""
    import torch

    from ..adapters import RoutingContext

    if not getattr(layer.config, "intuition", False):
        return None
    return RoutingContext(intuition=torch.empty(1, layer.config.clusters, device=x.device))


def count_lora(in_features: int, out_features: int, r: int) -> Counted:
    """PEFT's own LoRA on a linear layer, without the layer's own products."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch import nn

    with torch.device("meta"):
        base = nn.Sequential(nn.Linear(in_features, out_features, bias=False))
        model = get_peft_model(base, LoraConfig(r=r, target_modules=["0"], init_lora_weights=False))  # type: ignore
        x = torch.empty(FEWER, in_features)
    with flop_counter() as counter:
        model(x)
    macs = counter.get_total_flops() // 2 // FEWER - in_features * out_features
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Counted(trained, 0, macs, 0)


def parents_by_gate(layer: Any, x: Float[Tensor, "token in"]) -> list[int]:
    """How many nodes a token's gate of each layer is run for, seen at the last linear map of its MLP."""
    seen: dict[int, int] = {}
    hooks = [
        gate.mlp[2].register_forward_hook(
            lambda module, inputs, output, index=index: seen.update({index: inputs[0][0, ..., 0].numel()})
        )
        for index, gate in enumerate(layer.gates)
    ]
    try:
        layer(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[index] for index in range(len(hooks))]


def experts_used(routing: Any) -> list[Int[Tensor, "token"]]:
    """Different experts that each token uses of each pool, one tensor a layer, from the trees it was routed through."""
    import torch

    found = []
    for choice in routing.choices:
        ids = choice.ids.flatten(1)  # (N, F_l)
        present = torch.zeros(len(ids), choice.num_experts, dtype=torch.bool).scatter(1, ids, True)
        found.append(present.sum(1))
    return found
