"""The systems as pure torch modules, one file each; importing a file here puts its adapter in the registry."""

from . import moe_lora, sira, trex  # noqa: F401  one import line an adapter
from .base import REGISTRY, Adapter, AdapterConfig, Routing, RoutingContext
from .moe_lora import MoeLora, MoeLoraConfig
from .sira import Sira, SiraConfig
from .trex import TRex, TRexConfig

__all__ = [
    "REGISTRY", "Adapter", "AdapterConfig", "MoeLora", "MoeLoraConfig", "Routing", "RoutingContext", "Sira",
    "SiraConfig", "TRex", "TRexConfig",
]
