"""What S'MoRE costs by its formulas: terms, the authors' statistics, and the overheads of Tables 1 and 6.

Symbols of the paper: pool l has s_l experts of rank r_l, F_l nodes per token stand in it (F_L = 1), d_l is the width of
what leaves layer l − 1. A token uses at most min(F_l, s_l) different experts of pool l.
"""

from __future__ import annotations

from typing import Any

from .cost_terms import IDLE, Cost, Term, term

TABLE = "a key's share is read by a product with the ancestors' one-hot ids from a table, made once per call"
BLOCKS = "a node's hidden values stand in its expert's block of a row for all experts"


def used_experts(config: Any) -> list[int]:
    """min(F_l, s_l) of each pool: experts of it that a token can use at most; one number for a shared pool."""
    nodes = config.nodes[:-1]
    if config.shared_pool:
        return [min(sum(nodes), config.num_experts[0])]
    return [min(F, s) for F, s in zip(nodes, config.num_experts, strict=True)]


def pools(config: Any) -> list[tuple[int, int, int, int]]:
    """(used, s_l, r_l, d_{l+1}) of each pool that has parameters."""
    used = used_experts(config)
    return list(zip(used, config.num_experts, config.ranks, config.widths[1:], strict=False))


def known_widths(config: Any, down: int) -> list[int]:
    """Width of what a top-down gate reads: the projected token and the keys of a node's ancestors."""
    if config.gate_arch == "linear":
        return [down * 2 ** (config.layers - 1 - layer) for layer in range(config.layers)]
    return [down + sum(config.key_dims[layer + 1 :]) for layer in range(config.layers)]


def smore_cost(width: int, height: int, config: Any) -> Cost:
    """`Smore` in all its forms, own pools or shared, either router."""
    bias, d = int(config.expert_bias), config.widths
    shared = sum(d[layer + 1] * (d[layer] + bias) for layer in range(1, config.layers)) + height * (d[-1] + bias)
    if config.activation == "prelu":  # one slope per layer that has an activation
        shared += config.layers - (config.activation_position != "all")
    sizes = [(r * (width + out + bias) + out * bias, used, s) for used, s, r, out in pools(config)]
    router = bottom_up_parameters if config.router == "bottom_up" else top_down_parameters
    return Cost(
        sum(s * size for size, _, s in sizes) + shared,
        router(width, config),
        sum(used * size for size, used, _ in sizes) + shared,
        (*expert_terms(width, height, config), *router_terms(width, config)),
    )


def expert_terms(width: int, height: int, config: Any) -> list[Term]:
    """A, B, W of every layer and W_proj (S'MoRE, Eq. 3 and its statistics)."""
    terms, used = [], used_experts(config)
    for layer, (s, r) in enumerate(zip(config.num_experts, config.ranks, strict=True)):
        again = config.shared_pool and layer > 0  # the pool's experts were computed in the layer below
        n = 0 if again else used[layer]
        if not again:
            terms.append(term("experts", f"A {layer}", n * r * width, s * r * width, why=IDLE))
        terms += layer_terms(layer, n, s, r, config)
    return [*terms, term("experts", "W_proj", height * config.widths[-1])]


def layer_terms(layer: int, n: int, s: int, r: int, config: Any) -> list[Term]:
    """B and W of one layer, of whose pool a token uses n of s experts."""
    below, out = config.widths[layer], config.widths[layer + 1]
    children, parents = config.nodes[layer], config.nodes[layer + 1]
    again = ", for every layer anew" if config.shared_pool else ""
    if config.activation_position == "all":
        W = term("experts", f"W {layer}", children * below * out)  # nothing in the lowest layer, whose d_l is 0
        if layer == 0:
            return [term("experts", "B 0", n * r * out, s * r * out, why=IDLE), W]
        return [
            term("experts", f"B {layer}", n * r * out, children * s * r * out, why=BLOCKS),
            W,
            term("experts", f"B_bias {layer}", 0, children * s * out, why="biases as a product over the pool"),
        ]
    terms = [
        term(
            "experts",
            f"B {layer}",
            n * r * out,
            parents * s * r * out,
            why=f"a parent mixes the pool, then one product a parent{again}",
        )
    ]
    if config.expert_bias:
        terms.append(term("experts", f"B_bias {layer}", 0, parents * s * out, why="scores as a product over the pool"))
    if layer:
        terms.append(
            term(
                "experts",
                f"W {layer}",
                children * below * out,
                parents * below * out,
                why="children are added before W, which is linear",
            )
        )
    return terms


def router_terms(width: int, config: Any) -> list[Term]:
    """x_down and the gates, each of which runs once per parent: F_{l+1} times per token."""
    down = config.down_dim or width
    gate_terms = bottom_up_terms if config.router == "bottom_up" else top_down_terms
    return [term("router", "x_down", width * down), *gate_terms(down, config)]


def top_down_terms(down: int, config: Any) -> list[Term]:
    terms = []
    for layer, known in enumerate(known_widths(config, down)):
        s, m, parents = config.num_experts[layer], config.key_dims[layer], config.nodes[layer + 1]
        first = s if config.gate_arch == "linear" else m  # what the linear map of (x_down, keys) makes
        # what reads the tables, by the one-hot ids of all ancestors
        reads = sum(F * experts for F, experts in zip(config.nodes[layer + 1 : -1], config.num_experts[layer + 1 :]))
        # the keys above are known - down numbers wide in total, each pool's once per expert
        above = list(
            zip(
                config.num_experts,
                known_widths(config, down) if config.gate_arch == "linear" else config.key_dims,
                strict=True,
            )
        )[layer + 1 :]
        table = sum(experts * size for experts, size in above)
        name = "keys" if config.gate_arch == "linear" else "mlp"
        terms.append(
            term("router", f"{name} {layer}", parents * known * first, (down + reads) * first, table * first, TABLE)
        )
        if config.gate_arch == "mlp":
            terms += [
                term("router", f"mlp out {layer}", parents * m * m),
                term("router", f"keys {layer}", parents * s * m),
            ]
        if config.gate == "noisy_topk":
            terms.append(term("router", f"noise {layer}", parents * known * s, (down + reads) * s, table * s, TABLE))
    return terms


def bottom_up_terms(down: int, config: Any) -> list[Term]:
    s, F, m = config.num_experts, config.nodes, config.key_dims
    terms = [term("router", "keys 0", F[1] * s[0] * down)]
    for layer in range(1, config.layers):
        nodes = F[layer]
        read = nodes * s[layer] * (config.widths[layer] + m[layer]) * m[layer]
        terms.append(
            term(
                "router",
                f"mlp {layer}",
                read,
                nodes * config.widths[layer] * m[layer],
                nodes * s[layer] * m[layer] ** 2,
                "an output is read once for all candidates; " + TABLE,
            )
        )
        terms.append(term("router", f"mlp out {layer}", nodes * s[layer] * m[layer]))
    return terms


def top_down_parameters(width: int, config: Any) -> int:
    down = config.down_dim or width
    total = down * (width + 1)
    for s, m, known in zip(config.num_experts, config.key_dims, known_widths(config, down), strict=True):
        total += s * known if config.gate_arch == "linear" else m * (known + 1) + m * (m + 1) + s * m
        total += s * known if config.gate == "noisy_topk" else 0
    slopes = config.router_activation == "prelu" and config.gate_arch == "mlp"
    return total + slopes * config.layers  # one slope per gate


def bottom_up_parameters(width: int, config: Any) -> int:
    down, F, s, m = config.down_dim or width, config.nodes, config.num_experts, config.key_dims
    upper = sum(
        F[layer] * s[layer] * m[layer] + (config.widths[layer] + m[layer] + 2) * m[layer]
        for layer in range(1, config.layers)
    )
    slopes = (config.layers - 1) * (config.router_activation == "prelu")
    return down * (width + 1) + F[1] * s[0] * down + upper + slopes


def authors_gate_macs(width: int, config: Any) -> int:
    """The authors' `gate_flops`: every gate once, though it runs once per parent; the noise's map not at all."""
    down = config.down_dim or width
    gates = zip(config.num_experts, config.key_dims, known_widths(config, down), strict=True)
    return width * down + sum(known * m + m * m + s * m for s, m, known in gates)


def true_gate_macs(width: int, config: Any, noise: bool = False) -> int:
    """The router's operations per token with every gate run once per parent; noise: with the map that training needs."""
    return sum(found.paper for found in router_terms(width, config) if noise or not found.name.startswith("noise"))


def parameter_overhead(config: Any) -> int:
    """Δ = Σ_{l=1}^{L} d_l², the parameters of all B and W without biases (S'MoRE, section on cost, Table 1)."""
    return sum(d * d for d in config.widths)


def compute_overhead(config: Any, distinct: bool = False) -> int:
    """Δ' = Σ_l F_l d_{l+1} (d_l + r_l) operations per token (Table 6); distinct: B once for each of min(F_l, s_l)."""
    F, d = config.nodes, config.widths
    times = [min(F[layer], s) if distinct else F[layer] for layer, s in enumerate(config.num_experts)]
    return sum(d[layer + 1] * (F[layer] * d[layer] + times[layer] * r) for layer, r in enumerate(config.ranks))
