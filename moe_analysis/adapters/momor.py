"""MoMOR: a mixture of multi-order residues, S'MoRE's pools without its trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from . import gates as gating
from .base import Adapter, AdapterConfig, Routing, RoutingContext, kaiming_down, register
from .fused import beside_frozen, down_products
from .rescale import up_mixture

GATES = ("switch", "softmax", "dense")


@dataclass
class MomorConfig(AdapterConfig):
    """MoMOR. Lists have one entry per pool; a single value for top_k, r, alpha or gate applies to every pool.

    num_experts (s), top_k, r: pool sizes, experts that a token uses of each, ranks. gate: "switch", "softmax" (both
    keep top_k) or "dense" (top_k = s); num_experts=[s, n] with gate=["switch", "dense"] is a mixture with n shared
    experts. alpha: a pool is scaled by alpha / r; None leaves it as it is. balance_coef: of the switch pools.

    >>> config = MomorConfig(num_experts=[4, 2], top_k=[2, 2], gate=["switch", "dense"], r=4)
    >>> config.by_pool("r")
    [4, 4]
    """

    rescales_gates: ClassVar[bool] = True

    r: list[int] | int = 8  # type: ignore[assignment]
    alpha: list[float | None] | float | None = None  # type: ignore[assignment]
    num_experts: list[int] = field(default_factory=lambda: [4, 4])
    top_k: list[int] | int = field(default_factory=lambda: [2, 2])
    gate: list[str] | str = "switch"
    balance_coef: float = 1e-2

    def by_pool(self, name: str) -> list:
        value = getattr(self, name)
        return list(value) if isinstance(value, list) else [value] * len(self.num_experts)

    @property
    def scales(self) -> list[float]:
        return [
            1.0 if alpha is None else alpha / r
            for alpha, r in zip(self.by_pool("alpha"), self.by_pool("r"), strict=True)
        ]

    def check(self) -> None:
        self.check_types()
        if not self.num_experts:
            raise ValueError("num_experts = [] must be a list with one size per pool")
        for name in ("top_k", "r", "alpha", "gate"):
            if len(value := self.by_pool(name)) != len(self.num_experts):
                raise ValueError(
                    f"{name} = {value} has {len(value)} entries but num_experts has {len(self.num_experts)}"
                )
        if min(self.by_pool("r")) < 1:
            raise ValueError(f"r = {self.r} must be at least 1")
        self.check_shared()
        for s, k, gate in zip(self.num_experts, self.by_pool("top_k"), self.by_pool("gate"), strict=True):
            if gate not in GATES:
                raise ValueError(f"gate = {gate!r} is unknown; choose one of {', '.join(GATES)} for each pool")
            gating.check_gate(gate, s, k, self.balance_coef if gate == "switch" else 0.0)


@register("momor")
class Momor(Adapter):
    """delta(x) = Σ_l Σ_i g^i_l(x) B^i_l A^i_l x, every pool with its own gate (S'MoRE's order-wise mixture).

    Parameters by pool l: A[l] (s, r, in), B[l] (s, out, r), gates[l].weight (s, in).

    >>> layer = Momor(16, 24, MomorConfig(num_experts=[4, 3], top_k=[2, 1], r=2))
    >>> delta, routing = layer(torch.randn(5, 16))
    >>> tuple(delta.shape), tuple(routing.gates.shape)
    ((5, 24), (5, 7))
    """

    config_class = MomorConfig
    config: MomorConfig

    def __init__(self, in_features: int, out_features: int, config: MomorConfig) -> None:
        super().__init__(in_features, out_features, config)
        sizes = list(zip(config.num_experts, config.by_pool("r"), strict=True))
        self.A = nn.ParameterList(kaiming_down(s, r, in_features) for s, r in sizes)
        self.B = nn.ParameterList(torch.zeros(s, out_features, r) for s, r in sizes)
        self.gates = nn.ModuleList(nn.Linear(in_features, s, bias=False) for s, _ in sizes)

    def _choose(
        self, pool: int, logits: Float[Tensor, "token expert"], token_mask: Shaped[Tensor, "..."] | None
    ) -> tuple[Float[Tensor, "token expert"], Float[Tensor, ""] | None]:
        """The gates of a pool and its balance loss."""
        gate, k = self.config.by_pool("gate")[pool], self.config.by_pool("top_k")[pool]
        probabilities = logits.softmax(-1)
        gates = gating.keep_top_k(probabilities, k, normalize=gate != "switch" or k > 1)
        if gate != "switch" or not self.config.balance_coef:
            return gates, None
        return gates, self.config.balance_coef * gating.switch_loss(probabilities, gates, token_mask)

    @beside_frozen
    def forward(
        self, x: Float[Tensor, "*tokens in"], context: RoutingContext | None = None, base: nn.Linear | None = None
    ) -> tuple[Float[Tensor, "*tokens out"], Routing]:
        mask = context.token_mask if context else None
        hidden, logits, onto = down_products(x, list(self.A), list(self.gates), self.dropout, base)
        chosen = [self._choose(pool, part, mask) for pool, part in enumerate(logits)]
        gates = torch.cat([gate for gate, _ in chosen], dim=1)  # (N, Σ s)
        # every rank of an expert carries its gate, so that pools of different ranks share one product
        spread = [gate.repeat_interleave(A.shape[1], dim=1) for (gate, _), A in zip(chosen, self.A, strict=True)]
        up = torch.cat(
            [B.transpose(1, 2).flatten(0, 1) * scale for B, scale in zip(self.B, self.config.scales, strict=True)]
        )  # (Σ s·r, out)
        ranks = torch.cat(spread, dim=1).to(hidden.dtype)  # (N, Σ s·r)
        delta = up_mixture(hidden.unsqueeze(1), ranks, up, self.config.gate_backward_power, onto)
        losses = [loss for _, loss in chosen if loss is not None]
        routing = Routing(gates.reshape(*x.shape[:-1], self.num_gates), torch.stack(losses).sum() if losses else None)
        return delta.reshape(*x.shape[:-1], self.out_features), routing

    def factor_pairs(
        self,
    ) -> Iterator[tuple[Float[nn.Parameter, "expert rank in"], Float[nn.Parameter, "expert out rank"]]]:
        yield from zip(self.A, self.B, strict=True)

    def router_parameters(self) -> Iterator[nn.Parameter]:
        return self.gates.parameters()

    @property
    def num_gates(self) -> int:
        return sum(self.config.num_experts)
