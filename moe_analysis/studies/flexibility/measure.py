"""How many different outputs can routing produce, and which systems distinguish three trees? S'MoRE Figs. 2 and 3.

Distinct outputs are counted on real modules: for all routings, and for three trees of the same experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch

from ...adapters import Momor, MomorConfig, SmoreConfig
from ...theory.flexibility import flexibility_table
from ...theory.smore_families import distinguishing_layer
from ...theory.tree_enumeration import (
    active_experts,
    distinct_rows,
    layer_outputs,
    momor_outputs,
    momor_routings,
    tree_outputs,
)
from ..asked import asked, listed
from ..result import Result

SYSTEMS = ("MoMOR", "S'MoRE*", "S'MoRE")
WALKED = 3  # the largest number of layers whose routings are all computed
POSITIONS = {"S'MoRE*": "child", "S'MoRE": "all"}  # where σ is applied
INPUT = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)  # integers keep every output exact
# Fig. 3, two pools: the children of experts 1 and 2 of the upper pool, in the paper's numbers
FIGURE3 = {"a": ((1, 3), (2, 4)), "b": ((1, 2), (3, 4)), "c": ((3, 4), (1, 2))}
FIGURE3_OUTPUTS = {"MoMOR": 1, "S'MoRE*": 2, "S'MoRE": 3}  # as the paper states


@dataclass(frozen=True, eq=False)
class Flexibility(Result):
    """Distinct outputs against the number of layers.

    Args:
        num_experts: of every pool, s.
        fanout: children of every node, f.
        table: system, layers, flexibility, log10: the paper's closed forms; for MoMOR a bound.
        points: system, layers, outputs: what computing all routings found.
    """

    item = "smore_fig2"
    title = "S'MoRE Fig. 2: distinct outputs of routing"
    question = "How many different outputs can routing produce?"
    how_to_read = (
        "Lines are the paper's closed forms in exact integers; for MoMOR the form is a bound. Marks count the "
        "different outputs of a module with the parameters of the proofs. All its routings are computed, and the "
        "outputs are compared exactly."
    )

    num_experts: int
    fanout: int
    table: pd.DataFrame
    points: pd.DataFrame

    @property
    def sizes(self) -> str:
        return f"s = {self.num_experts}, f = {self.fanout}"


@dataclass(frozen=True, eq=False)
class ThreeTrees(Result):
    """Three trees of the same experts, and their outputs in every system.

    Args:
        trees: label -> nested (expert, subtree) pairs of the root's children, experts numbered from 1.
        outputs: system -> the output of each tree, in order, as a tuple of exact numbers.
    """

    item = "smore_fig3"
    title = "S'MoRE Fig. 3: three trees of the same experts"
    question = "Which systems distinguish trees that use the same experts?"
    how_to_read = (
        "All three trees use experts 1 and 2 of the upper pool and 1 to 4 of the lower one. The name of a node is its "
        "pool and its expert. Below each tree are the outputs of the systems; equal letters and colors mean equal "
        "outputs."
    )
    how_to_explore = (
        "All three trees use experts 1 and 2 of the upper pool and 1 to 4 of the lower one. The name of a node is its "
        "pool and its expert. Point at the root of a tree, x′, for the outputs of the systems: equal letters mean "
        "equal outputs."
    )
    drawing = "draw_trees"
    exploring = ""
    saved = ("trees", "outputs")

    trees: Mapping[str, Any]
    outputs: Mapping[str, Sequence[Any]]

    @property
    def distinct(self) -> dict[str, int]:
        """System -> different outputs of the three trees."""
        return {system: len(set(values)) for system, values in self.outputs.items()}


@asked()
def measure(num_experts: int = 4, fanout: int = 2, layers: int | Iterable[int] = (1, 2, 3, 4, 5)) -> Flexibility:
    """Closed forms of Fig. 2, and the outputs of all routings of up to three layers.

    Args:
        num_experts: of every pool.
        fanout: children of every node.
        layers: numbers of layers, each at least 1.

    Raises:
        ValueError: for sizes that no layer can have, or with too many routings to compute.

    Example:
        >>> measure(3, 2, (1, 2)).points["outputs"].tolist()
        [3, 3, 3, 18, 27, 12]
    """
    layers = listed(layers)
    return Flexibility(
        num_experts=num_experts,
        fanout=fanout,
        table=flexibility_table(num_experts, fanout, layers, systems=list(SYSTEMS)),
        points=enumerated_outputs(num_experts, fanout, [count for count in layers if count <= WALKED]),
    )


@asked()
def measure_trees() -> ThreeTrees:
    """The trees of Fig. 3 and their outputs in every system.

    Example:
        >>> found = measure_trees()
        >>> found.trees["a"], found.distinct
        (((1, ((1, ()), (3, ()))), (2, ((2, ()), (4, ())))), {'MoMOR': 1, "S'MoRE*": 2, "S'MoRE": 3})
    """
    trees = {
        label: tuple((parent, tuple((leaf, ()) for leaf in leaves)) for parent, leaves in enumerate(children, 1))
        for label, children in FIGURE3.items()
    }
    lower = torch.tensor(list(FIGURE3.values())) - 1  # (3, 2, 2)
    upper = torch.tensor([[[0, 1]]] * len(FIGURE3))  # (3, 1, 2)
    config = sizes(4, 2, 2, "all")
    found: dict[str, Any] = {
        "MoMOR": momor_outputs(integer_momor(config), INPUT, active_experts(config, [lower, upper]))
    }
    for system, position in POSITIONS.items():
        layer = distinguishing_layer(sizes(4, 2, 2, position))
        found[system] = tree_outputs(layer, INPUT, [lower, upper]).numpy()
    return ThreeTrees(trees, {system: [tuple(row) for row in rows.tolist()] for system, rows in found.items()})


def enumerated_outputs(num_experts: int, fanout: int, layers: Iterable[int] = (1, 2, 3)) -> pd.DataFrame:
    """One row per (system, layers): system, layers, outputs, the different outputs of one input over all routings.

    S'MoRE and S'MoRE* have the parameters of the proofs and are computed layer by layer (`layer_outputs`). MoMOR has
    random integers as factors, and is computed for each set of active experts that a tree can have. All outputs are
    integers, compared exactly. Raises ValueError for layers with too many routings to compute.

    >>> enumerated_outputs(3, 2, (1, 2)).pivot(index="system", columns="layers", values="outputs")
    layers   1   2
    system
    MoMOR    3  12
    S'MoRE   3  27
    S'MoRE*  3  18
    """
    rows = []
    for count in layers:
        for system, position in POSITIONS.items():
            layer = distinguishing_layer(sizes(num_experts, fanout, count, position))
            rows.append((system, count, len(layer_outputs(layer, INPUT)[-1])))
        config = sizes(num_experts, fanout, count, "all")
        outputs = momor_outputs(integer_momor(config), INPUT, momor_routings(config))
        rows.append(("MoMOR", count, len(distinct_rows(outputs))))
    return pd.DataFrame(rows, columns=["system", "layers", "outputs"])


def sizes(num_experts: int, fanout: int, layers: int, position: str) -> SmoreConfig:
    return SmoreConfig(
        num_experts=[num_experts] * layers, fanout=[fanout] * layers, r=max(1, fanout), activation_position=position
    )


def integer_momor(config: SmoreConfig) -> Momor:
    """A float64 MoMOR with the pools of a S'MoRE and random integers as factors."""
    generator = torch.Generator().manual_seed(0)
    pools = MomorConfig(r=1, num_experts=config.num_experts, top_k=config.fanout, alpha=None)  # type: ignore[arg-type]
    momor = Momor(len(INPUT), 8, pools).double()
    for factor in (*momor.A, *momor.B):
        factor.data = torch.randint(-1000, 1000, factor.shape, generator=generator, dtype=torch.float64)
    return momor
