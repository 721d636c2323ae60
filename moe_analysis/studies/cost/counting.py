"""What adapters cost, in tables: all of them compared, S'MoRE's Tables 1 and 6, and its router (Fig. 5).

Operations are multiply-accumulates of matrix products per token, as in `theory.cost`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ...adapters import MoeLoraConfig, SiraConfig, SmoreConfig, TRexConfig
from ...adapters.hydralora import HydraLoraConfig
from ...adapters.momor import MomorConfig
from ...theory.cost import cost, differences, lora_cost
from ...theory.cost_terms import Cost
from ...theory.count import Counted, count, count_lora, meta_layer
from ...theory.smore_cost import authors_gate_macs, compute_overhead, parameter_overhead, smore_cost, true_gate_macs

WIDTH = 4096  # of Tables 1 and 6
PRINTED = {  # percent of 2 d d_L, by rank and number of layers
    "Table 1": {8: {2: 1.0, 3: 1.8, 4: 2.9}, 16: {2: 2.0, 3: 3.6, 4: 5.9}},
    "Table 6": {8: {2: 1.2, 3: 3.3, 4: 7.5}, 16: {2: 2.3, 3: 6.6, 4: 15.0}},
}
HIDDEN, INNER = 2048, 8192  # the feed-forward network of Fig. 5
PROJECTIONS = {"gate": (HIDDEN, INNER), "up": (HIDDEN, INNER), "down": (INNER, HIDDEN)}
COUNTS = ("authors", "per parent", "per parent, noise", "module")  # ways of counting the router's operations
LORA_RANK = 64
MOST = 0.26  # of the experts' operations, Fig. 5


def systems() -> dict[str, tuple[str, Any]]:
    """Label -> (registered name, configuration): every adapter with a total rank of 64; T-REX with its authors' sizes."""
    pools: dict[str, Any] = {"num_experts": [4, 4], "fanout": [2, 2], "r": 8}
    return {
        "LoRA-MoE": ("moelora", MoeLoraConfig(r=8, num_experts=8, top_k=2)),
        "MixLoRA": ("moelora", MoeLoraConfig(r=8, num_experts=8, top_k=2, gate="switch")),
        "LoRA-MoE, noisy top-k": ("moelora", MoeLoraConfig(r=8, num_experts=8, top_k=2, gate="noisy_topk")),
        "LoRA-MoE, dense": ("moelora", MoeLoraConfig(r=8, num_experts=8, gate="dense")),
        "SiRA": ("sira", SiraConfig(r=8)),
        "HydraLoRA": ("hydralora", HydraLoraConfig(r=8, num_experts=8)),
        "T-REX": ("trex", TRexConfig()),
        "MoMOR": ("momor", MomorConfig(r=8)),
        "S'MoRE": ("smore", SmoreConfig(**pools)),
        "S'MoRE, noisy top-k": ("smore", SmoreConfig(**pools, gate="noisy_topk")),
        "S'MoRE, dense": ("smore", SmoreConfig(**{**pools, "fanout": [4, 4]}, gate="dense")),
        "S'MoRE*": ("smore", SmoreConfig(**pools, activation_position="child_scored")),
        "S'MoRE#": ("smore", SmoreConfig(**pools, shared_pool=True)),
        "S'MoRE, bottom-up": ("smore", SmoreConfig(**pools, router="bottom_up")),
    }


def priced(in_features: int, out_features: int) -> dict[str, tuple[Cost, Counted]]:
    """Every system's cost by formula and counted on its module."""
    layer = in_features, out_features
    found = {"LoRA": (lora_cost(*layer, LORA_RANK), count_lora(*layer, LORA_RANK))}
    for label, (name, config) in systems().items():
        found[label] = (cost(name, *layer, config), count(meta_layer(name, *layer, config)))
    return found


def adapter_costs(in_features: int = WIDTH, out_features: int = WIDTH) -> pd.DataFrame:
    """One row per system and part ("experts", "router"): counts on the modules, compared with the formulas.

    Columns system, part, parameters, active_parameters, needed (operations of the formula), computed (counted on the
    module), per_call (counted, once per forward pass of one sample), ratio (computed / needed), and the two gaps between
    count and formula, parameter_gap and operation_gap, which should be 0.

    >>> costs = adapter_costs(64, 64)
    >>> costs[["parameter_gap", "operation_gap"]].abs().max().to_dict()
    {'parameter_gap': 0, 'operation_gap': 0}
    """
    rows = []
    for system, (formula, counted) in priced(in_features, out_features).items():
        held = {  # by formula, used by one token at most, counted
            "experts": (formula.expert_parameters, formula.active_parameters, counted.expert_parameters),
            "router": (formula.router_parameters, formula.router_parameters, counted.router_parameters),
        }
        operations = {
            "experts": (counted.expert_macs, counted.expert_macs_per_call),
            "router": (counted.router_macs, counted.router_macs_per_call),
        }
        for part, (predicted, active, parameters) in held.items():
            needed, (computed, per_call) = formula.macs(part), operations[part]
            gap = abs(computed - formula.macs(part, "module")) + abs(per_call - formula.macs(part, "per_call"))
            rows.append(
                {
                    "system": system,
                    "part": part,
                    "parameters": parameters,
                    "active_parameters": active,
                    "needed": needed,
                    "computed": computed,
                    "per_call": per_call,
                    "ratio": computed / needed if needed else float("nan"),
                    "parameter_gap": abs(parameters - predicted),
                    "operation_gap": gap,
                }
            )
    return pd.DataFrame(rows)


def cost_differences(in_features: int = WIDTH, out_features: int = WIDTH) -> pd.DataFrame:
    """Where a module computes more or less than its formula, and why: one row per matrix product.

    Columns system, part, term, needed, computed, extra (computed − needed), per_call, why.

    >>> table = cost_differences(64, 64)
    >>> bool((table["computed"] - table["needed"] == table["extra"]).all())
    True
    """
    rows = [
        (system, one.part, one.name, one.paper, one.module, one.module - one.paper, one.per_call, one.why)
        for system, (name, config) in systems().items()
        for one in differences(cost(name, in_features, out_features, config).terms)
    ]
    return pd.DataFrame(rows, columns=["system", "part", "term", "needed", "computed", "extra", "per_call", "why"])


def overhead_table(width: int = WIDTH) -> pd.DataFrame:
    """Tables 1 and 6 for s = 4, f = 2: one row per table, rank r and number of layers; percent of 2 d d_L.

    Columns table, r, layers, d_L, printed, formula (the paper's), deviation (formula − printed, percentage points),
    module: the same share on the real module: for Table 1 of all its parameters except the router's, including biases;
    for Table 6 of what it computes between the down factors and W_proj. distinct: Table 6 with each expert's B computed
    once per token; for Table 1 the formula. used: Table 6 relative to what a token's experts and W_proj compute.

    >>> table = overhead_table(width=512).query("table == 'Table 1'")
    >>> table[["r", "layers", "d_L", "formula", "module"]].head(3).round(2)
       r  layers  d_L  formula  module
    0  8       2   64     7.81    9.38
    1  8       3   96    14.58   16.15
    2  8       4  128    23.44   25.12
    """
    rows = []
    for table, by_rank in PRINTED.items():
        for r, by_layers in by_rank.items():
            for layers, printed in by_layers.items():
                config = SmoreConfig(num_experts=[4] * layers, fanout=[2] * layers, r=r)
                whole = 2 * width * config.widths[-1]
                shares = [100 * part / whole for part in overheads(table, width, config)]
                routed = smore_cost(width, width, config)
                ends = sum(
                    found.paper for found in routed.terms if found.name.startswith("A ") or found.name == "W_proj"
                )
                used = 100 * compute_overhead(config, distinct=True) / ends if table == "Table 6" else float("nan")
                rows.append(
                    (table, r, layers, config.widths[-1], printed, shares[0], shares[0] - printed, *shares[1:], used)
                )
    return pd.DataFrame(
        rows, columns=["table", "r", "layers", "d_L", "printed", "formula", "deviation", "distinct", "module", "used"]
    )


def overheads(table: str, width: int, config: Any) -> tuple[int, int, int]:
    """(the paper's formula, with distinct experts, counted on the module) of one cell."""
    counted = count(meta_layer("smore", width, width, config))
    if table == "Table 1":
        overhead = parameter_overhead(config)
        return overhead, overhead, counted.expert_parameters - 2 * width * config.widths[-1]
    between = counted.expert_macs - 2 * width * config.widths[-1]  # without the down factors of all experts and W_proj
    return compute_overhead(config), compute_overhead(config, distinct=True), between


def named_structures() -> list[Any]:
    """The structures of Tables 1 and 6, with the gate of Fig. 5: s = 4, f = 2, r = 8 and 16, two to four layers.

    >>> [(config.num_experts, config.r) for config in named_structures()][:2]
    [([4, 4], 8), ([4, 4, 4], 8)]
    """
    return [
        SmoreConfig(num_experts=[4] * layers, fanout=[2] * layers, r=r, gate="noisy_topk")
        for r in (8, 16)
        for layers in (2, 3, 4)
    ]


def protocol_structures(most: int = 6) -> list[Any]:
    """The paper's protocol: pools (2, 2) with f = (1, 1) and (4, 4) with f = (2, 2), ranks (2^k, 2^k … 2^{k+2}).

    >>> [config.r for config in protocol_structures(1) if config.num_experts == [4, 4]]
    [[1, 1], [1, 2], [1, 4], [2, 2], [2, 4], [2, 8]]
    """
    return [
        SmoreConfig(num_experts=[s, s], fanout=[f, f], r=[2**k, 2 ** (k + more)], gate="noisy_topk")
        for s, f in ((2, 1), (4, 2))
        for k in range(most + 1)
        for more in range(3)
    ]


def router_shares(structures: Sequence[Any]) -> pd.DataFrame:
    """Fig. 5: the router's operations relative to the experts', one row per structure, projection and way of counting.

    Columns structure, s, f, layers, r (of the lowest layer), total_rank, projection ("gate", "up", "down" or "all", all
    three together), counts, router, experts, share. counts: "authors" (each gate once), "per parent" (as often as it
    runs), "per parent, noise" (with noisy top-k's second map), and "module", the operations of our modules for router
    and experts; the other ways divide by what the routed experts need.

    >>> shares = router_shares(named_structures()[:1])
    >>> shares.query("projection == 'all'")[["counts", "share"]].round(3)
                   counts  share
    12            authors  0.229
    13         per parent  0.234
    14  per parent, noise  0.235
    15             module  0.206
    """
    rows = []
    for config in structures:
        s, f = "-".join(map(str, config.num_experts)), "-".join(map(str, config.fanout))
        ranks = "-".join(map(str, config.ranks))
        key = (f"s {s}, f {f}, r {ranks}", s, f, config.layers, config.ranks[0], sum(config.ranks))
        for projection, (width, height) in PROJECTIONS.items():
            found = smore_cost(width, height, config)
            needed, routers = found.macs("experts"), router_counts(width, config)
            rows += [(*key, projection, name, router, needed) for name, router in routers.items()]
            rows.append((*key, projection, "module", found.macs("router", "module"), found.macs("experts", "module")))
    names = ["structure", "s", "f", "layers", "r", "total_rank", "projection", "counts"]
    frame = pd.DataFrame(rows, columns=[*names, "router", "experts"])
    group = [name for name in names if name != "projection"]
    whole = frame.groupby(group, sort=False)[["router", "experts"]].sum().reset_index().assign(projection="all")
    frame = pd.concat([frame, whole[[*names, "router", "experts"]]], ignore_index=True)
    return frame.assign(share=frame["router"] / frame["experts"])


def whole(frame: pd.DataFrame, counts: str) -> pd.DataFrame:
    """The rows of one way of counting, for the three projections together."""
    return frame[(frame["counts"] == counts) & (frame["projection"] == "all")]


def router_counts(width: int, config: Any) -> dict[str, int]:
    """The router's operations per token, counted in the three ways that need no module."""
    counted = (authors_gate_macs(width, config), true_gate_macs(width, config), true_gate_macs(width, config, True))
    return dict(zip(COUNTS, counted))
