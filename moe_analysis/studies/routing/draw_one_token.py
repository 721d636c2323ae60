"""All gates of one token, if they have a structure: T-REX's matrix of pairs, and the tree of S'MoRE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap

from ...drawing.style import BASE, NOTE, ink_on
from ..records import layer_title
from ..trees.draw_tree import draw_nodes
from .measure_tokens import NodesOf, RoutedBy, RoutedTokens

MOST_CELLS = 80  # of a matrix; in larger ones the gates are not written as numbers


def has_form(found: RoutedTokens) -> bool:
    """Whether the gates of a token are more than a list: a matrix of pairs, or a tree."""
    router = found.routers[found.middle]
    return bool(found.trees.get(router.module)) or router.matrix is not None


def draw_gates(panel: Any, found: RoutedTokens, name: str) -> None:
    """The gates of `found.example` in one router, with the router in the title."""
    router, token = found.routers[name], found.example
    nodes = found.trees.get(router.module)
    if nodes:
        draw_nodes(panel, tree_frame(nodes, token), large=True)
        for pool in range(len(nodes)):
            panel.text(0.0, pool, f"pool {pool}", fontsize=6.6, va="center", color=NOTE)
        what = f"the tree of ‘{found.tokens.loc[token, 'piece']}’"
    else:
        draw_matrix(panel, router, token)
        what = f"the gates of ‘{found.tokens.loc[token, 'piece']}’"
    place = router.place.partition(" pool ")[0] if nodes else router.place
    panel.set_title(f"{found.label}: {what}\n{layer_title(router.layer)}, {place}", fontsize=8)


def draw_matrix(panel: Any, router: RoutedBy, token: int) -> None:
    """(I, J) gates: one row per down vector, one column per up vector; darker is larger."""
    assert router.matrix is not None
    gates = router.gates[token].reshape(router.matrix)
    largest = float(np.abs(gates).max()) or 1.0
    shades = LinearSegmentedColormap.from_list("gates", ["#FFFFFF", BASE[0]])
    image = panel.imshow(np.abs(gates), cmap=shades, vmin=0.0, vmax=largest, aspect="auto")
    if gates.size <= MOST_CELLS:
        for (i, j), gate in np.ndenumerate(gates):
            ink = ink_on(image, abs(gate))
            panel.text(j, i, f"{gate:.2g}", fontsize=6, ha="center", va="center", color=ink)
    panel.set_xticks(range(gates.shape[1]))
    panel.set_yticks(range(gates.shape[0]))
    panel.set(xlabel="up vector j", ylabel="down vector i")
    panel.tick_params(length=0)


def tree_frame(nodes: list[NodesOf], token: int) -> pd.DataFrame:
    """node, parent, layer, expert, score, share (unknown) of a token's tree, the root first."""
    rows = [(0, -1, len(nodes), -1, float("nan"))]
    above = [0]
    for layer in range(len(nodes) - 1, -1, -1):
        ids, scores = nodes[layer].ids[token], nodes[layer].scores[token]
        below = []
        for parent, number in zip(above, range(len(above)), strict=True):
            for expert, score in zip(ids[number], scores[number], strict=True):
                below.append(len(rows))
                rows.append((len(rows), parent, layer, int(expert), float(score)))
        above = below
    return pd.DataFrame(rows, columns=["node", "parent", "layer", "expert", "score"]).assign(share=float("nan"))
