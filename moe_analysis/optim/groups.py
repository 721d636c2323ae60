"""Expert and router parameters as two groups, each with its own learning rate."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..adapters import Adapter


def router_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of a model's adapters that decide the routing; empty if nothing routes.

    >>> [tuple(weight.shape) for weight in router_parameters(model)[:2]]
    [(4, 128), (4, 128)]
    """
    return [p for m in model.modules() if isinstance(m, Adapter) for p in m.router_parameters()]


def parameter_groups(
    model: nn.Module, lr: float, router_lr: float | None = None, weight_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Groups named "experts" (all trainable parameters that do not route) and "router", for torch optimizers.

    router_lr=None gives the router the experts' lr.

    Raises:
        ValueError: When the model has nothing to train.

    Example:
        >>> [(group["name"], len(group["params"])) for group in parameter_groups(model, lr=1e-3)]
        [('experts', 8), ('router', 4)]
    """
    routers = set(router_parameters(model))
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("the model has no trainable parameters; wrap it with get_peft_model before training")
    router_lr = lr if router_lr is None else router_lr
    groups: list[dict[str, Any]] = [
        {"name": "experts", "params": [p for p in trainable if p not in routers], "lr": lr},
        {"name": "router", "params": [p for p in trainable if p in routers], "lr": router_lr},
    ]
    return [{**group, "weight_decay": weight_decay} for group in groups if group["params"]]
