"""Optimizers by name, as a training configuration asks for them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from .groups import parameter_groups
from .riemannian import Riemannian, RiemannianAdamW, RiemannianSGD

RIEMANNIAN: dict[str, type[Riemannian]] = {"riemannian_sgd": RiemannianSGD, "riemannian_adamw": RiemannianAdamW}
TORCH: dict[str, type[torch.optim.Optimizer]] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
OPTIMIZERS = (*TORCH, *RIEMANNIAN)


LOOPS = {"foreach", "fused", "capturable", "differentiable"}  # options that say how AdamW goes over its parameters


def on_processor(model: nn.Module) -> bool:
    """Whether all that is trained is real numbers on a processor, where AdamW in one operation is the fastest.

    Adapters are many small weights, and torch's own choice there, a loop over them in Python, costs a tenth of a step.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    return all(p.device.type == "cpu" and p.is_floating_point() for p in trained)


def optimizer_options(name: str) -> tuple[str, ...]:
    """The options of an optimizer in addition to its learning rates and weight decay."""
    found = set(inspect.signature({**TORCH, **RIEMANNIAN}[name]).parameters)
    return tuple(sorted(found - {"model", "params", "lr", "router_lr", "weight_decay"}))


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown optimizer, or for an option that it does not have.

    >>> check_options("riemannian_adamw", {"damping": 1e-6})
    >>> check_options("adam", {})
    Traceback (most recent call last):
        ...
    ValueError: optimizer = 'adam' is unknown; choose one of adamw, sgd, riemannian_sgd, riemannian_adamw
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer = {name!r} is unknown; choose one of {', '.join(OPTIMIZERS)}")
    known = optimizer_options(name)
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(
            f"optimizer_options has {', '.join(unknown)}, which {name} does not accept; it accepts {', '.join(known)}"
        )


def build_optimizer(
    name: str,
    model: nn.Module,
    lr: float,
    router_lr: float | None = None,
    weight_decay: float = 0.0,
    options: Mapping[str, Any] | None = None,
) -> torch.optim.Optimizer:
    """An optimizer by its name in `OPTIMIZERS` over the groups "experts" and "router" of a model.

    Args:
        options: Keyword arguments of its own, such as damping or betas.

    Raises:
        ValueError: For an unknown name or option.

    Example:
        >>> optimizer = build_optimizer("adamw", model, lr=5e-3, router_lr=5e-4)
        >>> [(group["name"], group["lr"]) for group in optimizer.param_groups]
        [('experts', 0.005), ('router', 0.0005)]
    """
    options = dict(options or {})
    check_options(name, options)
    if name == "adamw" and not options.keys() & LOOPS and on_processor(model):
        options["fused"] = True
    make: Callable[..., torch.optim.Optimizer]
    if name in RIEMANNIAN:
        make = partial(RIEMANNIAN[name], model, lr, router_lr, weight_decay=weight_decay)
    else:
        make = partial(TORCH[name], parameter_groups(model, lr, router_lr, weight_decay))
    return make(**options)
