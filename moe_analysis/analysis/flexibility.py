"""What S'MoRE Figs. 2 and 3 show, counted on real modules: distinct outputs of all routings, and of three trees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import torch

from ..adapters import Momor, MomorConfig, SmoreConfig
from ..theory.smore_families import distinguishing_layer
from ..theory.tree_enumeration import (
    active_experts,
    distinct_rows,
    layer_outputs,
    momor_outputs,
    momor_routings,
    tree_outputs,
)

POSITIONS = {"S'MoRE*": "child", "S'MoRE": "all"}  # where σ stands
INPUT = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)  # integers keep every output exact
# Fig. 3, two pools: the children of experts 1 and 2 of the upper pool, as the paper numbers them
FIGURE3 = {"a": ((1, 3), (2, 4)), "b": ((1, 2), (3, 4)), "c": ((3, 4), (1, 2))}
FIGURE3_OUTPUTS = {"MoMOR": 1, "S'MoRE*": 2, "S'MoRE": 3}  # as the paper states


def enumerated_outputs(num_experts: int, fanout: int, layers: Iterable[int] = (1, 2, 3)) -> pd.DataFrame:
    """One row a (system, layers): system, layers, outputs, the different outputs of one input over all routings.

    S'MoRE and S'MoRE* have the parameters of the proofs and are followed layer by layer (`layer_outputs`); MoMOR has
    random integers as factors, and each set of active experts that a tree can give. All outputs are integers, compared
    exactly. Raises ValueError for layers with too many routings to walk.

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


def integer_momor(config: SmoreConfig, seed: int = 0, out_features: int = 8) -> Momor:
    """A float64 MoMOR with the pools of a S'MoRE and random integers as factors."""
    generator = torch.Generator().manual_seed(seed)
    momor = Momor(
        len(INPUT), out_features, MomorConfig(r=1, num_experts=config.num_experts, top_k=config.fanout, alpha=None)
    ).double()  # type: ignore[arg-type]
    for factor in (*momor.A, *momor.B):
        factor.data = torch.randint(-1000, 1000, factor.shape, generator=generator, dtype=torch.float64)
    return momor


def figure3_trees() -> dict[str, Any]:
    """Label -> nested (expert, subtree) pairs of the root's children, experts numbered from 1 as in the paper.

    >>> figure3_trees()["a"]
    ((1, ((1, ()), (3, ()))), (2, ((2, ()), (4, ()))))
    """
    return {
        label: tuple((parent, tuple((leaf, ()) for leaf in leaves)) for parent, leaves in enumerate(children, 1))
        for label, children in FIGURE3.items()
    }


def figure3_outputs() -> dict[str, list[tuple[float, ...]]]:
    """System -> the output of each tree of Fig. 3, in their order, as a tuple of exact numbers.

    >>> {system: len(set(outputs)) for system, outputs in figure3_outputs().items()}
    {'MoMOR': 1, "S'MoRE*": 2, "S'MoRE": 3}
    """
    lower = torch.tensor(list(FIGURE3.values())) - 1  # (3, 2, 2)
    upper = torch.tensor([[[0, 1]]] * len(FIGURE3))  # (3, 1, 2)
    config = sizes(4, 2, 2, "all")
    active = active_experts(config, [lower, upper])
    found: dict[str, Any] = {"MoMOR": momor_outputs(integer_momor(config), INPUT, active)}
    for system, position in POSITIONS.items():
        layer = distinguishing_layer(sizes(4, 2, 2, position))
        found[system] = tree_outputs(layer, INPUT, [lower, upper]).numpy()
    return {system: [tuple(row) for row in rows.tolist()] for system, rows in found.items()}
