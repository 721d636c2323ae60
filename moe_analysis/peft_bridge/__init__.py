"""The bridge between the adapters and PEFT, transformers, accelerate and torch.

    configs   the configurations of the six systems
    methods   their registration with PEFT; `use_adapter` for a user's own adapters
    tuner     puts the layers into a model, names their weights in a checkpoint
    targets   which layers can have adapters
    layer     a linear layer with its adapters
    call      one forward pass: intuition, token mask, balance losses
    hooks     open a call before a model's forward, close it after
    masks     which tokens are real
    rows      each row of a batch with its own adapter (`adapter_names`)
    prompts   T-REX's intuition read from the prompt
    reader    the embedder of the prompts, and their memory
    intuition `set_intuition` gives an adapter its clusters
    loss      where balance losses go, and their weights

Import moe_analysis before PEFT loads one of our checkpoints; otherwise PEFT reports the type as unknown.
"""

from __future__ import annotations

from typing import Any

from . import methods
from .call import Call, current, keeping_call, opened
from .configs import HydraLoraConfig, MoeLoraConfig, MomorConfig, SiraConfig, SmoreConfig, TRexConfig
from .layer import AdapterLayer
from .look import adapter_modules, routes_by_intuition
from .loss import BalanceLossWarning, weighing
from .methods import CONFIGS, bridge, use_adapter
from .targets import check_target_modules
from .tuner import AdapterTuner

__all__ = [
    "CONFIGS",
    "AdapterLayer",
    "AdapterTuner",
    "BalanceLossWarning",
    "Call",
    "HydraLoraConfig",
    "MoeLoraConfig",
    "MomorConfig",
    "SiraConfig",
    "SmoreConfig",
    "TRexConfig",
    "adapter_modules",
    "bridge",
    "check_target_modules",
    "current",
    "keeping_call",
    "opened",
    "routes_by_intuition",
    "use_adapter",
    "weighing",
]


def __getattr__(name: str) -> Any:
    """The classes that `methods` made: `TRexLayer`, `TRexModel`, those of the other adapters, and users' configs."""
    return getattr(methods, name)
