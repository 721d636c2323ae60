"""The systems as pure torch modules, one file each; importing a file here puts its adapter in the registry."""

from . import hydralora, moe_lora, momor, pytrees, sira, smore, trex  # noqa: F401  one import line an adapter
from .base import REGISTRY, Adapter, AdapterConfig, Routing, RoutingContext, kaiming_down, register
from .hydralora import HydraLora, HydraLoraConfig
from .moe_lora import MoeLora, MoeLoraConfig
from .momor import Momor, MomorConfig
from .own import load_named
from .sira import Sira, SiraConfig
from .smore import Smore
from .smore_config import SmoreConfig
from .trex import TRex, TRexConfig

__all__ = [
    "REGISTRY",
    "Adapter",
    "AdapterConfig",
    "HydraLora",
    "HydraLoraConfig",
    "MoeLora",
    "MoeLoraConfig",
    "Momor",
    "MomorConfig",
    "Routing",
    "RoutingContext",
    "Sira",
    "SiraConfig",
    "Smore",
    "SmoreConfig",
    "TRex",
    "TRexConfig",
    "kaiming_down",
    "register",
]

load_named()  # last, because what it imports imports from here
