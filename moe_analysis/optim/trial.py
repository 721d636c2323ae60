"""Whether an optimizer takes its options, asked before there is a model: of one that has two numbers in each factor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_type_hints

import torch

from ..adapters import MoeLora, MoeLoraConfig
from .build import RIEMANNIAN, TORCH, build_optimizer, optimizer_options
from .riemannian import Riemannian


@cache
def option_hints(name: str) -> dict[str, Any]:
    """The types of an optimizer's options.

    >>> option_hints("sgd")["momentum"], option_hints("riemannian_adamw")["betas"]
    (<class 'float'>, tuple[float, float])
    """
    classes = [Riemannian, RIEMANNIAN[name]] if name in RIEMANNIAN else [TORCH[name]]
    hints: dict[str, Any] = {}
    for one in classes:
        hints |= get_type_hints(vars(one)["__init__"]) if "__init__" in vars(one) else {}
    return {option: hints[option] for option in optimizer_options(name)}


def try_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for options with which an optimizer of `OPTIMIZERS` cannot be built.

    >>> try_options("adamw", {"betas": [0.9, 2.0]})
    Traceback (most recent call last):
        ...
    ValueError: optimizer_options = {'betas': [0.9, 2.0]} ... Invalid beta parameter at index 1: 2.0; correct them
    """
    if not options:
        return
    try:
        build_optimizer(name, smallest(), lr=1.0, options=options)
    except (ValueError, TypeError, RuntimeError) as error:  # torch's own, each in its way
        raise ValueError(
            f"optimizer_options = {dict(options)} cannot be used with {name}: {error}; correct them"
        ) from error


@cache
def smallest() -> MoeLora:
    """A model that every optimizer takes; no random number of anybody's is used up for it."""
    with torch.random.fork_rng(devices=[]):
        return MoeLora(1, 1, MoeLoraConfig(num_experts=2, r=1))
