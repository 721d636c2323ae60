"""S'MoRE's statements on cost, and every adapter's formula, checked against counts on the modules."""

from __future__ import annotations

from typing import Any

from .claim import Claim, agreement, claim_check

COST = "S'MoRE, cost"


def adapter_cases() -> list[tuple[str, Any]]:
    """(registered name, configuration) of every adapter, with sizes that are all different."""
    from ..adapters import MoeLoraConfig, SiraConfig, SmoreConfig, TRexConfig
    from ..adapters.hydralora import HydraLoraConfig
    from ..adapters.momor import MomorConfig

    tree: dict[str, Any] = {"num_experts": [3, 5, 4], "fanout": [2, 3, 2], "key_dim": [6, 7, 9], "down_dim": 11}
    own: dict[str, Any] = {**tree, "r": [2, 3, 5]}
    same: dict[str, Any] = {**tree, "num_experts": [5, 5, 5], "r": 4, "shared_pool": True}
    return [
        *[
            ("moelora", MoeLoraConfig(r=3, num_experts=6, top_k=2, gate=gate))
            for gate in ("softmax", "switch", "noisy_topk")
        ],
        ("moelora", MoeLoraConfig(r=3, num_experts=6, gate="dense")),
        ("sira", SiraConfig()),
        ("hydralora", HydraLoraConfig(r=3)),
        *[("trex", TRexConfig(num_down=5, num_up=5, pairing=pairing)) for pairing in ("diagonal", "mix_and_match")],
        ("trex", TRexConfig(num_down=3, num_up=4, intuition_mapper=True)),
        ("momor", MomorConfig(r=[8, 2], num_experts=[4, 3], top_k=[2, 3], gate=["switch", "dense"])),
        *[
            ("smore", SmoreConfig(**sizes, activation_position=position))
            for sizes in (own, same)
            for position in ("all", "child", "child_scored")
        ],
        ("smore", SmoreConfig(**own, gate="noisy_topk")),
        ("smore", SmoreConfig(**own, gate_arch="linear")),
        ("smore", SmoreConfig(**{**own, "fanout": [3, 5, 4]}, gate="dense")),
        ("smore", SmoreConfig(**own, router="bottom_up", expert_bias=False, activation="prelu")),
    ]


@claim_check
def smore_cost_formula_is_module(seed: int = 0) -> Claim:
    """Every adapter's parameters and operations by formula are those of its module, router and experts apart."""
    from .cost import cost
    from .count import count, meta_layer

    gaps, cases = [], adapter_cases()
    for name, config in cases:
        formula, counted = cost(name, 40, 56, config), count(meta_layer(name, 40, 56, config))
        pairs = [
            (formula.expert_parameters, counted.expert_parameters),
            (formula.router_parameters, counted.router_parameters),
            (formula.macs("experts", "module"), counted.expert_macs),
            (formula.macs("router", "module"), counted.router_macs),
            (formula.macs("experts", "per_call"), counted.expert_macs_per_call),
            (formula.macs("router", "per_call"), counted.router_macs_per_call),
        ]
        gaps.append(max(abs(mine - theirs) for mine, theirs in pairs))
    return Claim(
        "smore_cost_formula_is_module",
        f"beyond {COST}",
        "parameters and operations counted on the modules equal the formulas, in all forms of all adapters",
        gaps,
        [0] * len(cases),
        float(max(gaps)),
        max(gaps) == 0,
    )


@claim_check
def smore_cost_parameters(seed: int = 0) -> Claim:
    """A, B, W and W_proj of a square layer hold 2 d d_L + Δ numbers, Δ = Σ d_l², whatever pools and ranks."""
    from ..adapters import SmoreConfig
    from .count import meta_layer
    from .smore_cost import parameter_overhead

    width, counted, expected = 24, [], []
    for s, r in (([4, 4], 8), ([4, 4, 4], 16), ([3, 5, 4], [2, 3, 5]), ([6], 2), ([2, 3, 4, 5], [1, 4, 2, 3])):
        config = SmoreConfig(num_experts=s, fanout=[2] * len(s), r=r, expert_bias=False)  # type: ignore[arg-type]
        layer = meta_layer("smore", width, width, config)
        counted.append(sum(part.numel() for part in (*layer.A, *layer.B, *layer.W[1:], layer.W_proj)))
        expected.append(2 * width * config.widths[-1] + parameter_overhead(config))
    return agreement(
        "smore_cost_parameters",
        COST,
        "the experts' parameters are 2 d d_L + Δ with Δ = Σ d_l² (own pools, no biases)",
        counted,
        expected,
    )


@claim_check
def smore_cost_gates_run_once_a_parent(seed: int = 0) -> Claim:
    """Gate l runs for F_{l+1} nodes of a token, which the authors' statistics count as one."""
    import torch

    from ..adapters import Smore, SmoreConfig
    from .count import parents_by_gate

    config = SmoreConfig(num_experts=[4, 5, 4, 6], fanout=[2, 3, 2, 2], r=2)
    generator = torch.Generator().manual_seed(seed)
    runs = parents_by_gate(Smore(12, 12, config), torch.randn(1, 12, generator=generator))
    return agreement(
        "smore_cost_gates_run_once_a_parent",
        COST,
        "gate l runs once per parent, F_{l+1} = Π_{j>l} f_j times per token (gates 0 … L−1)",
        runs,
        config.nodes[1:],
    )


@claim_check
def smore_cost_active_experts(seed: int = 0) -> Claim:
    """A token uses at most min(F_l, s_l) different experts of pool l, and at least f_l; of 2000 some reach the most."""
    import torch

    from ..adapters import Smore, SmoreConfig
    from .count import experts_used
    from .smore_cost import used_experts

    config = SmoreConfig(num_experts=[4, 4, 4], fanout=[2, 2, 2], r=2)
    generator = torch.Generator().manual_seed(seed)
    layer = Smore(16, 16, config)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    _, routing = layer(torch.randn(2000, 16, generator=generator))
    used, bound = experts_used(routing), used_experts(config)
    most, least = ([int(value(pool)) for pool in used] for value in (torch.max, torch.min))
    return agreement(
        "smore_cost_active_experts",
        COST,
        "a token uses at most min(F_l, s_l) different experts of pool l (pools 0 … L−1)",
        most,
        bound,
        all(low >= f for low, f in zip(least, config.fanout)),
    )
