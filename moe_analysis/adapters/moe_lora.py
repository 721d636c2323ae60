"""LoRA-MoE: a softmax-routed mixture of rank-r experts (also MixLoRA, with gate="switch")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from . import gates as gating
from .base import Adapter, AdapterConfig, Routing, RoutingContext, kaiming_down, register
from .fused import beside_frozen, down_products
from .rescale import down_factors, up_factors, up_mixture

DEFAULT_BALANCE = {"softmax": 0.0, "switch": 1e-2, "noisy_topk": 1e-2, "dense": 0.0}


@dataclass
class MoeLoraConfig(AdapterConfig):
    """Mixture of LoRA experts.

    num_experts, top_k: experts of one layer and how many a token uses; top_k=None uses all.
    gate: "softmax", "switch", "noisy_topk" or "dense" (see `adapters.gates`).
    normalize_gates: whether the kept weights sum to 1; None takes the gate's own rule.
    temperature: the router's logits are divided by it before the gate: below 1 sharper gates, above 1 more even ones.
    balance_coef: weight of the balance loss; None takes the gate's default (1e-2 for switch and noisy_topk, else 0).

    >>> MoeLoraConfig(num_experts=8, top_k=2, gate="switch", r=4).balance_weight
    0.01
    >>> MoeLoraConfig(num_experts=4, top_k=6).check()
    Traceback (most recent call last):
        ...
    ValueError: top_k = 6 must be between 1 and num_experts = 4
    """

    rescales_gates: ClassVar[bool] = True

    num_experts: int = 8
    top_k: int | None = None
    gate: str = "softmax"
    normalize_gates: bool | None = None
    temperature: float = 1.0
    balance_coef: float | None = None

    @property
    def active_experts(self) -> int:
        return self.num_experts if self.top_k is None else self.top_k

    @property
    def balance_weight(self) -> float:
        if self.balance_coef is None:
            single = self.gate == "noisy_topk" and self.active_experts == self.num_experts
            return 0.0 if single else DEFAULT_BALANCE.get(self.gate, 0.0)
        return self.balance_coef

    @property
    def normalizes(self) -> bool:
        """switch keeps the raw probability of a single expert: divided by itself it would have no gradient."""
        if self.normalize_gates is None:
            return self.gate != "switch" or self.active_experts > 1
        return self.normalize_gates

    def check(self) -> None:
        super().check()
        gating.check_gate(self.gate, self.num_experts, self.active_experts, self.balance_weight)
        if self.temperature <= 0.0:
            raise ValueError(f"temperature = {self.temperature} must be positive")
        if self.gate == "noisy_topk" and self.normalize_gates is False:
            raise ValueError(
                "normalize_gates = False has no meaning for gate = 'noisy_topk', whose softmax is over the kept experts "
                "alone; leave it out, or set it to None"
            )


@register("moelora")
class MoeLora(Adapter):
    """delta(x) = (alpha / r) Σ_e g_e(x) B_e A_e x with g = gate(router x).

    Parameters: A (E, r, in), B (E, out, r), router.weight (E, in), and noise.weight (E, in) for noisy_topk.
    Source: A Stronger Mixture of Low-Rank Experts, section 2; T-REX's baseline "MoLoRA" has alpha = r and k = E.

    >>> layer = MoeLora(16, 24, MoeLoraConfig(num_experts=4, top_k=2, r=2))
    >>> delta, routing = layer(torch.randn(3, 5, 16))
    >>> tuple(delta.shape), tuple(routing.gates.shape)
    ((3, 5, 24), (3, 5, 4))
    >>> bool((routing.gates > 0).sum(-1).eq(2).all())  # each token uses two experts
    True
    """

    config_class = MoeLoraConfig
    config: MoeLoraConfig

    def __init__(self, in_features: int, out_features: int, config: MoeLoraConfig) -> None:
        super().__init__(in_features, out_features, config)
        experts = config.num_experts
        self.A = kaiming_down(experts, config.r, in_features)
        self.B = nn.Parameter(torch.zeros(experts, out_features, config.r))
        self.router = nn.Linear(in_features, experts, bias=False)
        if config.gate == "noisy_topk":
            self.noise = nn.Linear(in_features, experts, bias=False)
            nn.init.zeros_(self.noise.weight)

    def route(self, x: Float[Tensor, "*tokens in"], token_mask: Shaped[Tensor, "..."] | None = None) -> Routing:
        """The gates and the balance loss."""
        return self._gate(self.router(x), self.noise(x) if self.config.gate == "noisy_topk" else None, token_mask)

    def _gate(
        self,
        logits: Float[Tensor, "*tokens expert"],
        raw_scale: Float[Tensor, "*tokens expert"] | None,
        token_mask: Shaped[Tensor, "..."] | None,
    ) -> Routing:
        config = self.config
        if config.temperature != 1.0:
            logits = logits / config.temperature
        if raw_scale is not None:
            return self._noisy(logits, raw_scale, token_mask)
        if config.normalizes:
            gates = gating.top_k_softmax(logits, config.active_experts)
        else:
            gates = gating.keep_top_k(logits.softmax(-1), config.active_experts, normalize=False)
        if not config.balance_weight:
            return Routing(gates)
        return Routing(gates, config.balance_weight * gating.switch_loss(logits.softmax(-1), gates, token_mask))

    def _noisy(
        self,
        clean: Float[Tensor, "*tokens expert"],
        raw_scale: Float[Tensor, "*tokens expert"],
        token_mask: Shaped[Tensor, "..."] | None,
    ) -> Routing:
        k, weight = self.config.active_experts, self.config.balance_weight
        noisy, scale = gating.noisy_logits(clean, raw_scale, self.training)
        kept = noisy.topk(k, dim=-1)
        weights = kept.values.softmax(-1)  # (..., k)
        gates = torch.zeros_like(noisy).scatter(-1, kept.indices, weights)
        if not weight:
            return Routing(gates)
        load = gating.smooth_load(clean, noisy, scale, k) if self.training else (gates > 0).to(gates.dtype)
        chosen, load = (values.reshape(-1, values.shape[-1]) for values in (gates, load))  # (N, E)
        return Routing(gates, weight * gating.noisy_loss(chosen, load, token_mask))

    @beside_frozen
    def forward(
        self, x: Float[Tensor, "*tokens in"], context: RoutingContext | None = None, base: nn.Linear | None = None
    ) -> tuple[Float[Tensor, "*tokens out"], Routing]:
        mask = context.token_mask if context else None
        heads = [self.router, self.noise] if self.config.gate == "noisy_topk" else [self.router]
        own = getattr(self.route, "__func__", None) is not MoeLora.route  # of a subclass
        hidden, made, onto = down_products(x, [down_factors(self.A)], [] if own else heads, self.dropout, base)
        if own:
            routing = self.route(x.to(hidden.dtype), mask)
        else:
            routing = self._gate(made[0], made[1] if len(made) > 1 else None, mask)  # of (N, E) each
        hidden = hidden.unflatten(1, (self.config.r, len(self.A))).expand(-1, -1, self.config.num_experts)  # (N, r, E)
        up = up_factors(self.B) * self.scaling  # (r·E, out)
        weights = routing.gates.reshape(hidden.shape[0], self.config.num_experts).to(hidden.dtype)  # (N, E)
        delta = up_mixture(hidden, weights, up, self.config.gate_backward_power, onto)
        routing.gates = routing.gates.reshape(*x.shape[:-1], self.config.num_experts)
        return delta.reshape(*x.shape[:-1], self.out_features), routing

    @property
    def scaling(self) -> float:
        return self.config.alpha / self.config.r

    def factor_pairs(
        self,
    ) -> Iterator[tuple[Float[nn.Parameter, "expert rank in"], Float[nn.Parameter, "expert out rank"]]]:
        yield self.A, self.B

    def router_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.router.parameters()
        if self.config.gate == "noisy_topk":
            yield from self.noise.parameters()
