"""What an adapter costs by its formula: parameters, active parameters and multiply-accumulates per token.

`theory.count` counts the modules themselves; both must agree exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .cost_terms import IDLE, Cost, Term, term
from .smore_cost import smore_cost

COUNTED = "counted on the module"


def mixture_cost(width: int, height: int, config: Any) -> Cost:
    """`MoeLora` in all its gates, and `Sira`: E experts of rank r, k of them used."""
    experts, k, r = config.num_experts, config.active_experts, config.r
    readers = 2 if config.gate == "noisy_topk" else 1  # the noise's scale is a second router
    terms = [
        term("experts", "A", k * r * width, experts * r * width, why=IDLE),
        term("experts", "B", k * r * height, experts * r * height, why=IDLE),
        term("router", "router", experts * width),
        *[term("router", "noise", experts * width)] * (readers - 1),
    ]
    pair = r * (width + height)
    return Cost(experts * pair, readers * experts * width, k * pair, tuple(terms))


def hydralora_cost(width: int, height: int, config: Any) -> Cost:
    """`HydraLora`: one A, E heads B, of which a dense gate uses all."""
    plain = mixture_cost(width, height, config)
    experts, k, r = config.num_experts, config.active_experts, config.r
    terms = (term("experts", "A", r * width), *plain.terms[1:])
    return Cost(r * width + experts * r * height, plain.router_parameters, r * width + k * r * height, terms)


def trex_cost(width: int, height: int, config: Any) -> Cost:
    """`TRex`: I down and J up vectors, mixed through I·J routing weights; every expert is used.

    A mapper maps each sample's intuition once, not each token's. Two scalars belong to the router.
    """
    down, up, experts = config.num_down, config.num_up, config.num_experts
    mapper = experts * config.clusters if config.intuition_mapper else 0
    router = experts * width if config.router else 0
    # diagonal routing weights multiply elementwise
    mixing = down * up if config.pairing == "mix_and_match" else 0
    terms = (
        term("experts", "A", down * width),
        term("experts", "G", mixing),
        term("experts", "B", up * height),
        term("router", "router", router),
        term("router", "mapper", 0, per_call=mapper, why="once per sample"),
    )
    factors = down * width + up * height
    return Cost(factors, router + mapper + 2, factors, terms)


def momor_cost(width: int, height: int, config: Any) -> Cost:
    """`Momor`: pools of experts, each with a gate of its own."""
    ranks, used = config.by_pool("r"), config.by_pool("top_k")
    pools = list(zip(config.num_experts, used, ranks, strict=True))
    held, active = sum(s * r for s, _, r in pools), sum(k * r for _, k, r in pools)
    router = sum(config.num_experts) * width
    terms = (
        term("experts", "A", active * width, held * width, why=IDLE),
        term("experts", "B", active * height, held * height, why=IDLE),
        term("router", "gates", router),
    )
    return Cost(held * (width + height), router, active * (width + height), terms)


def lora_cost(width: int, height: int, r: int) -> Cost:
    """LoRA of rank r, which is PEFT's own."""
    pair = r * (width + height)
    return Cost(pair, 0, pair, (term("experts", "A", r * width), term("experts", "B", r * height)))


def cost(name: str, in_features: int, out_features: int, config: Any) -> Cost:
    """The cost of the registered adapter `name`: by its formula, or counted on its module where it has none.

    Raises:
        ValueError: For a name that is not registered.
    """
    from ..adapters.base import REGISTRY

    if name in (formulas := formulas_by_name()):
        return formulas[name](in_features, out_features, config)
    if name not in REGISTRY:
        raise ValueError(f"name = {name!r} has no cost formula; choose one of {', '.join(formulas)}")
    return counted_cost(name, in_features, out_features, config)


def counted_cost(name: str, width: int, height: int, config: Any) -> Cost:
    """What the module of a user's own adapter has and computes, all of it counted as needed by every token."""
    from .count import count, meta_layer

    found = count(meta_layer(name, width, height, config))
    terms = (
        term("experts", "counted", found.expert_macs, per_call=found.expert_macs_per_call, why=COUNTED),
        term("router", "counted", found.router_macs, per_call=found.router_macs_per_call, why=COUNTED),
    )
    return Cost(found.expert_parameters, found.router_parameters, found.expert_parameters, terms)


def formulas_by_name() -> dict[str, Callable[[int, int, Any], Cost]]:
    """Formula of every adapter, by its name in the registry."""
    return {
        "moelora": mixture_cost,
        "sira": mixture_cost,
        "trex": trex_cost,
        "hydralora": hydralora_cost,
        "momor": momor_cost,
        "smore": smore_cost,
    }


def differences(terms: Iterable[Term]) -> list[Term]:
    """The terms where a module computes more or less than the formula asks for, or something once per call."""
    return [found for found in terms if found.module != found.paper or found.per_call]
