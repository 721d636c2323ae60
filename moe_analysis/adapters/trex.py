"""T-REX: rank-1 experts mixed and matched, routed by a learned router and by the meaning of the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .base import Adapter, AdapterConfig, Routing, RoutingContext, as_tensor, kaiming_down, per_row, register
from .fused import beside_frozen, down_products, up_product

PAIRINGS = ("mix_and_match", "diagonal")


@dataclass
class TRexConfig(AdapterConfig):
    """T-REX (`r` and `alpha` have no meaning here: every expert has rank 1 and the update is not scaled).

    num_down (I), num_up (J): vectors a_i and b_j; "mix_and_match" makes I·J experts of them, "diagonal" I = J.
    intuition, router: the semantic prior and the learned router; either can be turned off, but not both.
    intuition_mapper: a trainable linear map from num_clusters scores to the experts.
    num_clusters: width of the intuition; None means 32 with a mapper and the number of experts without one.
    router_coef (32), intuition_coef (4), temperature (100): the constants of the authors' code.

    >>> TRexConfig(num_down=4, num_up=8).num_experts
    32
    >>> TRexConfig(num_down=4, num_up=3, num_clusters=32).check()
    Traceback (most recent call last):
        ...
    ValueError: num_down*num_up = 12 but intuition has 32 clusters; pass intuition_mapper=True or cluster ...
    """

    num_down: int = 4
    num_up: int = 8
    pairing: str = "mix_and_match"
    intuition: bool = True
    router: bool = True
    intuition_mapper: bool = False
    num_clusters: int | None = None
    router_coef: float = 32.0
    intuition_coef: float = 4.0
    temperature: float = 100.0

    @property
    def num_experts(self) -> int:
        return self.num_down if self.pairing == "diagonal" else self.num_down * self.num_up

    @property
    def clusters(self) -> int:
        """Width of the intuition that the layer expects."""
        return self.num_clusters or (32 if self.intuition_mapper else self.num_experts)

    @property
    def experts_formula(self) -> str:
        return "num_down" if self.pairing == "diagonal" else "num_down*num_up"

    def check(self) -> None:
        super().check()
        if self.pairing not in PAIRINGS:
            raise ValueError(f"pairing = {self.pairing!r} is unknown; choose one of {', '.join(PAIRINGS)}")
        if min(self.num_down, self.num_up) < 1:
            raise ValueError(f"num_down = {self.num_down} and num_up = {self.num_up} must both be at least 1")
        if self.num_clusters is not None and self.num_clusters < 1:
            raise ValueError(f"num_clusters = {self.num_clusters} must be at least 1; None takes the default")
        if self.pairing == "diagonal" and self.num_down != self.num_up:
            raise ValueError(
                f"diagonal pairing needs num_down = num_up, not num_down = {self.num_down} and num_up = {self.num_up}"
            )
        if not (self.router or self.intuition):
            raise ValueError("router and intuition are both False, so nothing would route; set one of them to True")
        if self.intuition_mapper and not self.intuition:
            raise ValueError("intuition_mapper=True needs intuition=True: there is nothing to map")
        if self.intuition and not self.intuition_mapper and self.clusters != self.num_experts:
            raise ValueError(self.width_error(self.clusters))

    def width_error(self, width: int) -> str:
        if self.intuition_mapper:
            expected = f"the intuition mapper expects {self.clusters} clusters"
            return f"{expected} but intuition has {width}; set num_clusters={width}"
        return (
            f"{self.experts_formula} = {self.num_experts} but intuition has {width} clusters; "
            f"pass intuition_mapper=True or cluster with k={self.num_experts}"
        )


@register("trex")
class TRex(Adapter):
    """delta(x) = s · B G(x)ᵀ A x with G = ω · router_coef · softmax(router x) + (1 − ω) · intuition_coef · P.

    P is the (mapped) intuition of the sample, ω = sigmoid(temperature · omega_logit), s = sigmoid(temperature ·
    output_logit); "diagonal" keeps G diagonal. Parameters: A (I, in), B (out, J), router.weight (I·J, in) i-major,
    the scalars omega_logit and output_logit, mapper.weight (I·J, clusters).
    Source: T-REX, section 3, with the constants of the authors' code (`rank1`, `rank1_flex`); their mapper is
    frozen by mistake, ours is trained. Their symbols: A and B are exchanged and transposed, ΔW = A G Bᵀ.

    >>> layer = TRex(16, 24, TRexConfig(num_down=2, num_up=3))
    >>> context = RoutingContext(intuition=torch.rand(4, 6))  # four samples, a cosine for each of the six experts
    >>> delta, routing = layer(torch.randn(4, 5, 16), context)
    >>> tuple(delta.shape), tuple(routing.gates.shape)
    ((4, 5, 24), (4, 5, 2, 3))
    """

    config_class = TRexConfig
    config: TRexConfig

    def __init__(self, in_features: int, out_features: int, config: TRexConfig) -> None:
        super().__init__(in_features, out_features, config)
        self.A = kaiming_down(config.num_down, in_features)
        self.B = nn.Parameter(torch.zeros(out_features, config.num_up))
        self.omega_logit = nn.Parameter(torch.zeros(()))
        self.output_logit = nn.Parameter(torch.zeros(()))
        if config.router:
            self.router = nn.Linear(in_features, config.num_experts, bias=False)
            nn.init.zeros_(self.router.weight)
        if config.intuition_mapper:
            self.mapper = nn.Linear(config.clusters, config.num_experts, bias=False)

    @property
    def omega(self) -> Float[Tensor, ""]:
        """Share of the learned router in the routing, in (0, 1)."""
        return torch.sigmoid(self.config.temperature * self.omega_logit)

    def prior(
        self, x: Float[Tensor, "*tokens in"], context: RoutingContext | None
    ) -> Float[Tensor, "... expert"] | None:
        """The semantic prior P, (rows, 1, …, experts) against x (rows, …, in); None counts as zero.

        Without any context the prior is zero (the paper's ablation); a context without an intuition is an error.
        """
        config = self.config
        if not config.intuition or context is None:
            return None
        if context.intuition is None:
            raise ValueError(
                "this T-REX layer routes by intuition, but intuition = None; pass intuition=(batch, "
                "clusters) to the model or build it with TRexConfig(intuition=False)"
            )
        scores = as_tensor("intuition", context.intuition)
        if not isinstance(scores, Tensor):
            raise ValueError(f"intuition is a {type(scores).__name__}; pass a tensor or an array (batch, clusters)")
        if scores.dim() != 2:
            raise ValueError(
                f"intuition has the shape {tuple(scores.shape)}; pass (batch, clusters), a row for each sample"
            )
        if scores.shape[1] != config.clusters:
            raise ValueError(config.width_error(scores.shape[1]))
        scores = scores.to(device=x.device, dtype=self.A.dtype)
        if config.intuition_mapper:
            scores = self.mapper(scores)  # (batch, experts)
        rows = per_row(scores, x.shape)
        if x.dim() == 1:
            return rows[0]  # one vector: (experts,)
        return rows.reshape(x.shape[0], *[1] * (x.dim() - 2), config.num_experts)

    def route(self, x: Float[Tensor, "*tokens in"], context: RoutingContext | None = None) -> Routing:
        """G (..., I, J), or (..., I) for diagonal pairing."""
        return self._weigh(x, self.router(x) if self.config.router else None, context)

    def _weigh(
        self,
        x: Float[Tensor, "*tokens in"],
        logits: Float[Tensor, "*tokens expert"] | None,
        context: RoutingContext | None,
    ) -> Routing:
        config, omega = self.config, self.omega
        if logits is None:
            weights = x.new_zeros((*x.shape[:-1], config.num_experts), dtype=self.A.dtype)
        else:
            weights = logits.softmax(-1) * (omega * config.router_coef)
        prior = self.prior(x, context)
        if prior is not None:
            weights = weights + prior * ((1 - omega) * config.intuition_coef)
        if config.pairing == "mix_and_match":
            weights = weights.unflatten(-1, (config.num_down, config.num_up))  # (..., I, J)
        return Routing(weights)

    @beside_frozen
    def forward(
        self, x: Float[Tensor, "*tokens in"], context: RoutingContext | None = None, base: nn.Linear | None = None
    ) -> tuple[Float[Tensor, "*tokens out"], Routing]:
        own = getattr(self.route, "__func__", None) is not TRex.route  # of a subclass
        heads = [self.router] if self.config.router and not own else []
        hidden, made, onto = down_products(x, [self.A], heads, self.dropout, base)
        logits = made[0].reshape(*x.shape[:-1], self.config.num_experts) if made else None
        routing = self.route(x.to(self.A.dtype), context) if own else self._weigh(x, logits, context)
        gates = routing.gates.reshape(hidden.shape[0], *routing.gates.shape[x.dim() - 1 :]).to(hidden.dtype)
        if self.config.pairing == "diagonal":
            mixed = hidden * gates  # (N, J)
        else:
            mixed = (hidden.unsqueeze(-2) @ gates).squeeze(-2)  # (N, J)
        scale = torch.sigmoid(self.config.temperature * self.output_logit)
        delta = up_product(mixed * scale, self.B.T, onto)
        return delta.reshape(*x.shape[:-1], self.out_features), routing

    def router_parameters(self) -> Iterator[nn.Parameter]:
        """Router, mapper and the two scalars: at temperature 100 a step of 1e-2 moves a sigmoid's input by 1."""
        yield self.omega_logit
        yield self.output_logit
        for name in ("router", "mapper"):
            yield from getattr(self, name).parameters() if hasattr(self, name) else ()
