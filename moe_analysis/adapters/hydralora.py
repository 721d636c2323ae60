"""HydraLoRA: one down factor for all heads, and one up factor for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import nn

from .base import kaiming_down, register
from .moe_lora import MoeLora, MoeLoraConfig


@dataclass
class HydraLoraConfig(MoeLoraConfig):
    """`MoeLoraConfig` with HydraLoRA's defaults: num_experts is its number of heads, all of them used.

    >>> HydraLoraConfig(num_experts=3).active_experts
    3
    """

    num_experts: int = 4
    gate: str = "dense"


@register("hydralora")
class HydraLora(MoeLora):
    """delta(x) = (alpha / r) Σ_e g_e(x) B_e A x, as S'MoRE's authors compare with it (Tian et al. 2024).

    Parameters: A (1, r, in), B (E, out, r), router.weight (E, in). A shared A gives no pairs for the Riemannian
    optimizers, because their preconditioner is defined for one product B A.

    >>> layer = HydraLora(16, 24, HydraLoraConfig(num_experts=3, r=2))
    >>> tuple(layer.A.shape), tuple(layer.B.shape)
    ((1, 2, 16), (3, 24, 2))
    """

    config_class = HydraLoraConfig
    config: HydraLoraConfig

    def __init__(self, in_features: int, out_features: int, config: HydraLoraConfig) -> None:
        super().__init__(in_features, out_features, config)
        self.A = kaiming_down(1, config.r, in_features)

    def factor_pairs(
        self,
    ) -> Iterator[tuple[Float[nn.Parameter, "expert rank in"], Float[nn.Parameter, "expert out rank"]]]:
        return iter(())
