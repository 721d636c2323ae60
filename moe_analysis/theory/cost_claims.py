"""S'MoRE's statements on cost, and every adapter's formula, checked against counts on the modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .claim import Claim, agreement, claim_check, largest

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from ..adapters import Smore

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


@claim_check("beyond S'MoRE, cost")
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


@claim_check("S'MoRE, cost")
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


@claim_check("S'MoRE, cost")
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


@claim_check("S'MoRE, cost")
def smore_cost_active_experts(seed: int = 0) -> Claim:
    """A token uses at most min(F_l, s_l) different experts of pool l, and at least f_l; of 4000 some reach the most."""
    import torch

    from ..adapters import Smore, SmoreConfig
    from .count import experts_used
    from .smore_cost import used_experts

    config = SmoreConfig(num_experts=[4, 4, 4], fanout=[2, 2, 2], r=2)
    generator, seen = torch.Generator().manual_seed(seed), []
    for _ in range(10):  # a single router may never give all experts of a pool to one token
        layer = Smore(16, 16, config)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            seen.append(torch.stack(experts_used(layer(torch.randn(400, 16, generator=generator))[1])))
    used = torch.cat(seen, dim=1)  # (pools, tokens)
    return agreement(
        "smore_cost_active_experts",
        COST,
        "a token uses at most min(F_l, s_l) different experts of pool l (pools 0 … L−1)",
        used.amax(1).tolist(),
        used_experts(config),
        all(low >= f for low, f in zip(used.amin(1).tolist(), config.fanout)),
    )


def walked(
    layer: Smore, x: Float[Tensor, "1 in"], tree: list[Int[Tensor, "1 _parent _child"]]
) -> tuple[Float[Tensor, "1 out"], int]:
    """(update, multiply-accumulates) of one token through a tree with scores of 1, by Eq. 3 as it stands.

    An expert's products are computed once, W once for every node, as torch's counter sees them. The layer has no biases.
    """
    from .count import flop_counter

    known: dict[tuple[int, int], Tensor] = {}

    def above(level: int, parent: int) -> Any:
        """What a parent of layer `level` makes of its children."""
        total: Any = 0.0
        for place, expert in enumerate(tree[level][0, parent].tolist()):
            if (level, expert) not in known:
                known[level, expert] = x @ layer.A[level][expert].T @ layer.B[level][expert].T
            inner = known[level, expert]
            if level:
                inner = inner + above(level - 1, parent * layer.config.fanout[level] + place) @ layer.W[level].T
            total = total + layer.activations[level](inner)
        return total

    with flop_counter() as counter:
        update = above(layer.config.layers - 1, 0) @ layer.W_proj.T
    return update, counter.get_total_flops() // 2


@claim_check("S'MoRE, cost")
def smore_cost_operations(seed: int = 0) -> Claim:
    """A token needs at most 2 d d_L + Δ' operations: the products of Eq. 3, counted on trees of the module."""
    import torch

    from ..adapters import Smore, SmoreConfig
    from .smore import inputs
    from .smore_cost import compute_overhead, smore_cost
    from .smore_families import randomized
    from .smore_relatives import planned_update, relative_gap
    from .tree_enumeration import binary_choice

    width, counted, expected, bounds, gaps = 24, [], [], [], []
    x = inputs(seed, 1, width)
    for s, f, r in (
        ([4, 2], [2, 2], 3),
        ([4, 4], [2, 2], 2),
        ([4, 4, 4], [2, 2, 2], 2),
        ([5, 3, 4], [2, 3, 2], [2, 1, 3]),
    ):
        config = SmoreConfig(num_experts=s, fanout=f, r=r, expert_bias=False)  # type: ignore[arg-type]
        layer = randomized(Smore(width, width, config), seed)
        # experts in turn: siblings differ, and a pool's nodes have as many different experts as there can be
        tree = [(torch.arange(nodes) % pool).view(1, -1, children) for nodes, pool, children in zip(config.nodes, s, f)]
        with torch.no_grad():
            update, operations = walked(layer, x, tree)
        choices = [binary_choice(ids, pool, x.dtype) for ids, pool in zip(tree, s)]
        gaps.append(relative_gap(update, planned_update(layer, x, choices)))
        counted.append(operations)
        expected.append(smore_cost(width, width, config).macs("experts"))
        bounds.append(2 * width * config.widths[-1] + compute_overhead(config))
    return agreement(
        "smore_cost_operations",
        COST,
        "the experts need at most 2 d d_L + Δ' operations per token, Δ' = Σ F_l d_{l+1} (d_l + r_l), which is reached "
        "where F_l = s_l, and A and B of N' = min(F_l, s_l) experts only (products of Eq. 3 counted, the first structure "
        f"with F_l = s_l; the formula; at most {', '.join(map(str, bounds))})",
        counted,
        expected,
        largest(*gaps) < 1e-12 and counted[0] == bounds[0] and all(one <= most for one, most in zip(counted, bounds)),
    )
