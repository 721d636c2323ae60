"""S'MoRE Fig. 1: how residuals travel up a token's tree, and how the router builds the tree from the top down.

Both drawings come from one frame of `residual_tree`: the tree that a real layer chose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...cards.in_words import percent
from ...drawing.diagram import arrow, box
from ...drawing.layout import arranged
from ...drawing.style import BASE, FULL_WIDTH, figure, note_below, text_on, use_style
from ..trees.draw_tree import tree_layout
from .measure import ExampleTree

LEVEL, SPACE = 3.0, 1.5  # height between two layers, width between two leaves
POOL_EDGE = -1.6  # right end of the pools, which are left of the tree
NOT_CHOSEN = "#F2F2F2"


def plot(found: ExampleTree) -> Figure:
    """(a) propagation from the leaves up and (b) routing from the root down, for one token.

    A color is an expert of a pool, a gray box is one that the token does not use. (a) numbers at the edges are scores;
    (b) a row of keys is one run of a gate, so that a layer's gate appears once per parent.

    Raises:
        ValueError: if the numbers of layers and of pools differ.
    """
    num_experts, layers = found.num_experts, int(found.tree["layer"].max())
    if layers != len(num_experts):
        raise ValueError(
            f"num_experts = {list(num_experts)} has {len(num_experts)} pools but the tree has {layers} "
            "layers; pass one size per layer"
        )
    nodes = layout(found.tree)
    with use_style():
        fig = figure(FULL_WIDTH, 1.6 + 1.25 * layers)
        left, right = fig.subplots(1, 2, width_ratios=[1.25, 1])
        draw_propagation(left, nodes, num_experts)
        draw_routing(right, nodes, num_experts)
        left.set_title("(a) propagation, from the leaves up")
        right.set_title("(b) routing, from the root down")
        note_below(fig, found.note("Numbers are scores of the routing; the token does not use the gray experts."))
    return fig


def layout(tree: pd.DataFrame) -> list[Any]:
    """The rows of `residual_tree` as tuples with x and y: leaves evenly spaced, parents above the middle of children."""
    placed = tree_layout(tree.sort_values("expert", kind="stable")).sort_values("node")
    across = (placed["x"] * (placed["layer"] == 0).sum() - 0.5) * SPACE
    return list(placed.assign(x=across, y=placed["layer"] * LEVEL).itertuples(index=False))


def children(nodes: list[Any], parent: Any) -> list[Any]:
    """The children of a node, in the order of their experts, since a set of experts has no other order."""
    return sorted((node for node in nodes if node.parent == parent.node), key=lambda node: node.expert)


def of_layer(nodes: list[Any], layer: int) -> list[Any]:
    return [node for node in nodes if node.layer == layer]


def expert_color(expert: int) -> str:
    return BASE[expert % len(BASE)]


def draw_propagation(panel: Any, nodes: list[Any], num_experts: Sequence[int]) -> None:
    layers = len(num_experts)
    for layer, s in enumerate(num_experts):
        draw_pool(panel, nodes, layer, s)
    for row in nodes[1:]:
        parent = nodes[row.parent]
        arrow(panel, (row.x, row.y + 0.42), (parent.x, parent.y - 0.42))
        panel.text(
            0.62 * row.x + 0.38 * parent.x,
            0.62 * row.y + 0.38 * parent.y,
            f"{row.score:.2f}",
            fontsize=6.5,
            ha="center",
            va="center",
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
        box(panel, row.x, row.y, 1.15, 0.84, f"$R_{row.layer}^{row.expert + 1}$", expert_color(row.expert), light=True)
    root = nodes[0]
    box(panel, root.x, root.y, 1.15, 0.84, f"$x_{layers}$", "white")
    arrow(panel, (root.x, root.y + 0.42), (root.x, root.y + 1.05))
    box(panel, root.x, root.y + 1.45, 1.9, 0.8, "$W_{proj}$", "white")
    arrow(panel, (root.x, root.y + 1.85), (root.x, root.y + 2.4))
    panel.text(root.x, root.y + 2.65, "$x'$", ha="center", va="center", fontsize=10)
    panel.text(
        POOL_EDGE - 0.2, root.y + 0.9, node_rules(layers), ha="right", va="center", fontsize=6.8, linespacing=1.7
    )
    finish(panel, nodes, POOL_EDGE - 0.55 - 1.1 * max(num_experts))


def node_rules(layers: int) -> str:
    """What a node passes up, in the lowest layer and above."""
    rule = "$R_0^n$ gives $\\sigma(B_0^n A_0^n x)$"
    return rule + ("\n$R_l^n$ gives $\\sigma(B_l^n A_l^n x + W_l x_l^n)$" if layers > 1 else "")


def draw_pool(panel: Any, nodes: list[Any], layer: int, s: int) -> None:
    used = {node.expert for node in of_layer(nodes, layer)}
    height = layer * LEVEL
    for expert in range(s):
        color = expert_color(expert) if expert in used else NOT_CHOSEN
        place = POOL_EDGE - 1.1 * (s - expert) + 0.35
        box(panel, place, height, 0.95, 0.84, f"$R_{layer}^{expert + 1}$", color, light=expert in used)
    panel.text(POOL_EDGE - 1.1 * s - 0.1, height + 0.66, f"pool {layer}: {len(used)} of {s} experts used", fontsize=6.5)
    arrow(
        panel, (POOL_EDGE - 0.05, height), (min(node.x for node in of_layer(nodes, layer)) - 0.6, height), dashed=True
    )
    center = POOL_EDGE - 1.1 * (s + 1) / 2 + 0.35
    arrow(panel, (center, height - 1.0), (center, height - 0.44))
    panel.text(center, height - 1.2, "$x$", ha="center", va="center", fontsize=9)


def draw_routing(panel: Any, nodes: list[Any], num_experts: Sequence[int]) -> None:
    layers = len(num_experts)
    whole = max(node.x for node in nodes) + SPACE
    widths = [whole / len(of_layer(nodes, layer + 1)) for layer in range(layers)]
    places: dict[int, tuple[float, float]] = {}  # the bottom of each chosen key, where its children's query starts
    root, top = nodes[0], layers * LEVEL
    box(panel, root.x, top, 2.0, 0.84, "$x_{down}$", "white")
    arrow(panel, (root.x, top + 1.3), (root.x, top + 0.42))
    panel.text(root.x, top + 1.55, "$x$", ha="center", va="center", fontsize=9)
    places[0] = (root.x, top - 0.42)
    for layer in reversed(range(layers)):
        s, height = num_experts[layer], layer * LEVEL
        for parent in of_layer(nodes, layer + 1):
            chosen = {node.expert: node for node in children(nodes, parent)}
            step = min(1.05, widths[layer] / (s + 0.6))
            label = query_label(layer, layers, widths[layer])
            box(panel, parent.x, height + 1.15, step * s + 0.1, 0.66, label, "white")
            arrow(panel, places[parent.node], (parent.x, height + 1.5))
            for expert in range(s):
                place = parent.x + (expert - (s - 1) / 2) * step
                node = chosen.get(expert)
                color = NOT_CHOSEN if node is None else expert_color(expert)
                box(panel, place, height, step * 0.9, 0.84, f"$k_{layer}^{expert + 1}$", color, light=node is not None)
                arrow(panel, (place, height + 0.82), (place, height + 0.44), head=False, dashed=node is None)
                if node is not None:
                    panel.text(place, height - 0.64, f"{node.score:.2f}", ha="center", va="center", fontsize=6.2)
                    places[node.node] = (place, height - 0.85)
    finish(panel, nodes, -1.1)


def query_label(layer: int, layers: int, width: float) -> str:
    """What the gate reads: the token, and the keys of the ancestors."""
    above = ", ".join(f"$k_{j}$" for j in reversed(range(layer + 1, layers)))
    text = f"MLP$_{layer}$($x_{{down}}$" + (f", {above})" if above else ")")
    return text if width > 2.4 else f"MLP$_{layer}$"


def finish(panel: Any, nodes: list[Any], left: float) -> None:
    panel.set(xlim=(left, max(node.x for node in nodes) + 1.1), ylim=(-1.5, nodes[0].y + 3.0))
    panel.axis("off")


def interactive(found: ExampleTree) -> go.Figure:
    """The tree with its pools; hover shows expert, scores, key similarity and contribution."""
    nodes, num_experts = layout(found.tree), found.num_experts
    fig = make_subplots(rows=1, cols=2, column_widths=[0.4, 0.6], subplot_titles=["pools: experts in use", "the tree"])
    for layer, s in enumerate(num_experts):
        stands = [node.expert for node in of_layer(nodes, layer)]
        times = [stands.count(expert) for expert in range(s)]
        colors = [expert_color(expert) if times[expert] else NOT_CHOSEN for expert in range(s)]
        told = [
            f"expert {expert + 1} of pool {layer}<br>used at {times[expert]} of the token's {len(stands)} nodes"
            for expert in range(s)
        ]
        names = [f"{expert + 1}" for expert in range(s)]
        draw_marks(fig, 1, f"pool {layer}", list(range(s)), [layer] * s, names, told, colors, symbol="square")
    for row in nodes[1:]:
        parent = nodes[row.parent]
        fig.add_scatter(
            x=[row.x, parent.x],
            y=[row.layer, parent.layer],
            mode="lines",
            hoverinfo="skip",
            line={"color": "#B0B0B0", "width": 1 + 7 * row.score},
            showlegend=False,
            row=1,
            col=2,
        )
    colors = ["#FFFFFF" if node.parent < 0 else expert_color(node.expert) for node in nodes]
    names = ["root" if node.parent < 0 else f"{node.expert + 1}" for node in nodes]
    places = [node.x for node in nodes], [node.layer for node in nodes]
    draw_marks(fig, 2, "tree", *places, names, [hover(node) for node in nodes], colors)
    layers = len(num_experts)
    rows = [*(f"pool {layer}" for layer in range(layers)), "output"]
    fig.update_xaxes(visible=False)
    fig.update_yaxes(
        tickvals=list(range(layers + 1)), ticktext=rows, range=[-0.5, layers + 0.5], showgrid=False, zeroline=False
    )
    title = {"text": "A token's tree: the thicker an edge, the larger its score"}
    return arranged(fig, height=520, title=title)


def draw_marks(
    fig: go.Figure,
    column: int,
    name: str,
    across: list[float],
    up: list[int],
    texts: list[str],
    told: list[str],
    colors: list[str],
    symbol: str = "circle",
) -> None:
    """Named marks of one panel with their hover texts."""
    fig.add_scatter(
        x=across,
        y=up,
        name=name,
        mode="markers+text",
        showlegend=False,
        text=texts,
        hovertext=told,
        hoverinfo="text",
        textfont={"color": [text_on(color) for color in colors], "size": 13},
        marker={"symbol": symbol, "size": 36, "line": {"color": "#3A3A3A", "width": 1}, "color": colors},
        row=1,
        col=column,
    )


def hover(row: Any) -> str:
    """The hover text of one node of the tree."""
    if row.parent < 0:
        return f"root: the layer's output, of norm {row.contribution:.3g}"
    return (
        f"layer {row.layer}, node {row.position}: expert {row.expert + 1}<br>score {row.score:.3f}, along "
        f"its path {row.path_score:.3f}<br>cosine of query and key {row.similarity:z.3f}<br>contribution "
        f"{row.contribution:.3g}, {percent(row.share)} of the output's norm"
    )
