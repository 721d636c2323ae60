"""SiRA as T-REX's authors compare with it: the top 6 of 8 routing weights kept, not renormalized."""

from __future__ import annotations

from dataclasses import dataclass

from .base import register
from .moe_lora import MoeLora, MoeLoraConfig


@dataclass
class SiraConfig(MoeLoraConfig):
    """`MoeLoraConfig` with SiRA's defaults. The SiRA paper's capacity limit and expert dropout are not part of
    the baseline that T-REX measures, nor of this one.

    >>> SiraConfig().top_k, SiraConfig().normalizes
    (6, False)
    """

    top_k: int | None = 6
    normalize_gates: bool | None = False


@register("sira")
class Sira(MoeLora):
    """delta(x) = (alpha / r) Σ_{e in top k} softmax(router x)_e B_e A_e x, the kept weights as they are.

    Parameters as `MoeLora`. Source: T-REX, the baseline SiRA (alpha = r there).

    >>> _, routing = Sira(16, 16, SiraConfig())(torch.randn(5, 16))
    >>> bool((routing.gates.sum(-1) < 1).all())  # what is kept of a softmax
    True
    """

    config_class = SiraConfig
