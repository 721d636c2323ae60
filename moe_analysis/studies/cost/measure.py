"""What S'MoRE costs: its tree (Fig. 1), its router (Fig. 5), its layers (Tables 1 and 6), and all adapters compared.

Nothing is trained: costs are exact, by formula and counted on modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from ...adapters import Smore, SmoreConfig
from ...theory import verify
from ..asked import asked, refused
from ..result import Result
from ..trees.residual_tree import residual_tree
from .counting import (
    WIDTH,
    adapter_costs,
    cost_differences,
    named_structures,
    overhead_table,
    protocol_structures,
    router_shares,
)

POOLS = [4, 4]  # of Fig. 1, the lowest first
SHOWN = ("smore_cost_gates_run_once_a_parent", "smore_cost_active_experts")  # of a token's tree


@dataclass(frozen=True, eq=False)
class ExampleTree(Result):
    """One token's tree in a random layer of two pools.

    Args:
        tree: as `residual_tree` returns it.
        num_experts: sizes of the pools, the lowest first.
        verified: the statements that the drawing shows, checked on other layers, as `theory.verify` returns it.
    """

    item = "smore_fig1"
    title = "S'MoRE Fig. 1: propagation and routing"
    question = "How do residuals travel up a token's tree, and how does the router choose the tree?"
    how_to_read = (
        "Residuals travel up, from the leaves to the output; the tree is chosen from the root down. Numbers at edges are "
        "scores. A row of keys in (b) is one run of a gate: the lower gate runs once for each parent. Experts are "
        "numbered from 1 in the drawing and from 0 in the table."
    )
    how_to_explore = (
        "“pools: experts in use”: the experts of each pool; experts that the tree does not use are pale. “the tree”: "
        "residuals travel up, from the leaves to the output; the tree is chosen from the root down. Thicker edges have "
        "larger scores; point at a node for the numbers. Experts are numbered from 1 in the drawing and from 0 in the "
        "table."
    )
    drawing = "draw_tree"

    tree: pd.DataFrame
    num_experts: Sequence[int]
    verified: pd.DataFrame

    @property
    def numbers(self) -> Any:
        return self.tree


@dataclass(frozen=True, eq=False)
class RouterShares(Result):
    """The router's operations against the experts'.

    Args:
        named: of the structures of Tables 1 and 6, as `router_shares` returns it.
        protocol: of the whole grid of the paper's protocol.
    """

    item = "smore_fig5"
    title = "S'MoRE Fig. 5: the router against the experts"
    question = "How much does the router compute, compared with the experts?"
    how_to_read = (
        "The feed-forward projections of LLaMA 3.2-1B with noisy top-k gates. The authors' statistics count every "
        "gate once, although it runs once for each parent; both counts are shown. We do not know which structures the "
        "paper's figure shows, so we show those of Tables 1 and 6 and the whole grid of the protocol. Dashes mark "
        "26 %."
    )
    drawing = "draw_routers"

    named: pd.DataFrame
    protocol: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Overheads(Result):
    """Tables 1 and 6.

    Args:
        table: as `overhead_table` returns it.
    """

    item = "smore_tables"
    title = "S'MoRE Tables 1 and 6: the overhead of the layers"
    question = "What do S'MoRE's layers add to the parameters and operations of the down factors and the projection?"
    how_to_read = (
        "In percent of 2 d d_L, the parameters of the down factors and W_proj. Rings are the paper's printed values, "
        "lines are its formulas, and crosses are counts on the module, which adds biases."
    )
    drawing = "draw_tables"

    table: pd.DataFrame

    @property
    def numbers(self) -> Any:
        return self.table


@dataclass(frozen=True, eq=False)
class AdapterCosts(Result):
    """Every adapter: its parameters, those that a token uses, and its operations.

    Args:
        costs: as `adapter_costs` returns it.
        differences: where modules compute more or less than the formulas, as `cost_differences` returns it.
        verified: the checks of the cost formulas, as `theory.verify` returns it.
    """

    item = "smore_cost_adapters"
    title = "What every adapter of one layer costs"
    question = "How many parameters does an adapter have, and what does it compute for one token?"
    how_to_read = (
        "Operations are multiply-accumulates of matrix products per token. Narrow bars are what the formula needs: it "
        "computes only the experts that a token uses. Wide bars are counted on the module, which computes every expert "
        "in dense products."
    )
    how_to_explore = (
        "One bar per system, with its experts and its router. The menu chooses parameters or operations, which are "
        "multiply-accumulates of matrix products per token: those needed by the formula, which computes only the "
        "experts that a token uses, or those of the module, which computes every expert in dense products."
    )
    drawing = "draw_adapters"

    costs: pd.DataFrame
    differences: pd.DataFrame
    verified: pd.DataFrame


@asked(seed=0)
def measure_tree(seed: int = 2) -> ExampleTree:
    """The tree of Fig. 1: that of one random token in a random layer of two pools of 4 with fanout 2.

    Args:
        seed: of the layer and the token.

    Example:
        >>> found = measure_tree()
        >>> found.verdicts
        '2 claims: 2 holds'
        >>> found.tree[["node", "parent", "layer", "expert", "score"]].round(2)
           node  parent  layer  expert  score
        0     0      -1      2      -1   1.00
        1     1       0      1       0   0.68
        2     2       0      1       2   0.32
        3     3       1      0       2   0.50
        4     4       1      0       0   0.50
        5     5       2      0       0   0.66
        6     6       2      0       1   0.34
    """
    generator = torch.Generator().manual_seed(seed)
    layer = Smore(16, 16, SmoreConfig(num_experts=POOLS, fanout=[2, 2], r=2, key_dim=8, down_dim=8)).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return ExampleTree(
        tree=residual_tree(layer, torch.randn(16, generator=generator, dtype=torch.float64)),
        num_experts=POOLS,
        verified=verify(SHOWN),
        sample="one token in one layer with random weights",
    )


@asked()
def measure_routers(
    named: Any | Sequence[Any] | None = None, protocol: Any | Sequence[Any] | None = None
) -> RouterShares:
    """Fig. 5.

    Args:
        named: one or several `SmoreConfig`s that represent those of the figure; None is those of Tables 1 and 6.
        protocol: the grid; None is the paper's protocol.

    Raises:
        ValueError: for anything except S'MoRE's configurations.

    Example:
        >>> found = measure_routers(named_structures()[:1], protocol_structures(1)[:2])
        >>> found.named["structure"].nunique(), found.protocol["structure"].nunique()
        (1, 2)
    """
    for name, given in {"named": named, "protocol": protocol}.items():
        for one in given or ():
            if not (hasattr(one, "num_experts") and hasattr(one, "fanout")):
                raise refused(name, one, "SmoreConfig", f"pass configurations, such as {name}=[ma.SmoreConfig(...)]")
    return RouterShares(
        named=router_shares(named_structures() if named is None else named),
        protocol=router_shares(protocol_structures() if protocol is None else protocol),
    )


@asked()
def measure_tables() -> Overheads:
    """Tables 1 and 6, for the paper's layer of 4096 features on both sides.

    Example:
        >>> measure_tables().verdicts
        '2 claims: 2 holds'
    """
    return Overheads(table=overhead_table())


@asked()
def measure_adapters(in_features: int = WIDTH, out_features: int = WIDTH) -> AdapterCosts:
    """The cost of every adapter of one layer.

    Args:
        in_features, out_features: of the layer.

    Example:
        >>> measure_adapters(64, 64).costs["system"].nunique()
        15
    """
    return AdapterCosts(
        costs=adapter_costs(in_features, out_features),
        sample=f"exact, without training: one layer from {in_features} to {out_features} features",
        differences=cost_differences(in_features, out_features),
        verified=verify(("smore_cost_formula_is_module", "smore_cost_parameters")),
    )
