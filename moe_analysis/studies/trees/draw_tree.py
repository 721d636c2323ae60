"""The residual tree of one token: experts at its nodes, scores on its edges, contributions as sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...drawing.layout import arranged, width_for
from ...drawing.marks import menu_of
from ...drawing.style import BASE, FULL_WIDTH, LIGHT, NOTE, figure, note_below, text_on, use_style
from ...evidence import counted
from .measure import TokenTree

ROOT = "#D9D9D9"
LARGEST = 26.0  # points
LEAF = 46  # pixels from one leaf of the interactive figure to the next; marks are up to 39 wide
MOST_BESIDE = 4  # leaves of a tree; wider trees are drawn below one another
READING = (
    "number and color: expert; area: norm of the output's change without the node and all below it; on an edge: score"
)
MOST_NAMED = 8  # nodes of a layer; with more, there is no room for the scores on the edges


def tree_layout(tree: pd.DataFrame) -> pd.DataFrame:
    """tree: node, parent (-1 for the root), layer; the frame with x and y: leaves evenly from 0 to 1, the root on top.

    A parent is above the middle of its children; y is the layer.
    """
    children = tree[tree["parent"] >= 0].groupby("parent")["node"].agg(list)
    leaves = [node for node in in_order(children, int(tree["node"].iloc[0])) if node not in children.index]
    spots = {node: (number + 0.5) / len(leaves) for number, node in enumerate(leaves)}
    for node in sorted(children.index, reverse=True):  # a parent's number is below its children's
        spots[node] = float(np.mean([spots[child] for child in children[node]]))
    return tree.assign(x=tree["node"].map(spots), y=tree["layer"].astype(float))


def in_order(children: pd.Series, node: int) -> list[int]:
    """The nodes of a tree depth first, siblings in their order."""
    found = [node]
    for child in children.get(node, []):
        found += in_order(children, child)
    return found


def expert_color(expert: int) -> str:
    """The color of an expert's number, the root's gray for -1."""
    return ROOT if expert < 0 else (LIGHT + BASE)[expert % len(LIGHT + BASE)]


def node_radius(share: pd.Series, smallest: float = 9.0) -> np.ndarray:
    """Diameters in points whose areas grow with the contributions; a node that adds nothing is still visible."""
    known = share.fillna(0.0).to_numpy(dtype=float)  # an update of zero has no shares
    return smallest + (LARGEST - smallest) * np.sqrt(known / (known.max() or 1.0))


def plot(found: TokenTree, ax: Axes | None = None) -> Figure | Axes:
    """One panel per shown token; in the user's axes, the tree of the chosen token.

    Number and color show the expert, the area of a node its contribution to the output, the width of an edge its
    score.
    """
    if ax is not None:
        return draw_tree(ax, found.tree, found.token)
    trees = [(str(own["word"].iloc[0]), own) for _, own in found.shown.groupby("token", sort=True)]
    widest = max(int((own["layer"] == 0).sum()) for _, own in trees)
    columns = len(trees) if widest <= MOST_BESIDE else 1
    layers = int(found.shown["layer"].max())
    with use_style(large=True):
        rows = -(-len(trees) // columns)
        fig = figure(FULL_WIDTH, 1.0 + rows * (0.6 + 0.95 * layers))
        panels: Any = fig.subplots(rows, columns, squeeze=False)
        for panel, (word, tree) in zip(panels.ravel(), trees):
            draw_nodes(panel, tree, large=True)
            panel.set_title(f"‘{word}’", loc="center", fontsize=13, fontweight="bold")
        for panel in panels[:, 0]:
            for layer in range(layers):
                panel.text(-0.02, layer, f"pool {layer}", fontsize=9.5, va="center", ha="right", color=NOTE)
        fig.suptitle(f"Tokens of {found.place}", x=0.006, ha="left")
        note_below(fig, found.note(f"{first_seed(found)}. {READING[0].upper()}{READING[1:]}."))
    return fig


def first_seed(found: TokenTree) -> str:
    """Which seed's trees are drawn; the claims are over all seeds."""
    seeds = found.trees["seed"].unique()
    return f"Model of seed {seeds[0]}, one of {counted(len(seeds), 'seed')}"


def draw_tree(panel: Any, tree: pd.DataFrame, title: str) -> Axes:
    """The tree of one token, with the mean share of every pool's nodes; scores are written if there is room."""
    placed = draw_nodes(panel, tree)
    for layer in range(int(placed["layer"].max())):
        mean = placed.loc[placed["layer"] == layer, "share"].mean()
        panel.text(1.01, layer, f"pool {layer}\nmean share {mean:.2f}", fontsize=7, va="center", ha="left")
    panel.set_title(title)
    panel.text(0.0, -0.42, READING, fontsize=6.5, va="top", color="#5A5A5A")
    return panel


def draw_nodes(panel: Any, tree: pd.DataFrame, large: bool = False) -> pd.DataFrame:
    """Nodes and edges only; returns the tree with its coordinates."""
    placed = tree_layout(tree)
    by_node = placed.set_index("node")
    sizes = node_radius(placed["share"], smallest=14.0 if large else 9.0)
    named = placed["layer"].map(placed["layer"].value_counts()) <= MOST_NAMED
    for (_, node), size, scored in zip(placed.iterrows(), sizes, named, strict=True):
        if node["parent"] >= 0:
            draw_edge(panel, node, by_node.loc[node["parent"]], scored, 8.5 if large else 6.2)
        draw_node(panel, node, size, 9.5 if large else 7)
    panel.set(xlim=(0.0, 1.0), ylim=(-0.45, int(placed["layer"].max()) + 0.4))
    panel.axis("off")
    return placed


def draw_node(panel: Any, node: pd.Series, size: float, letters: float) -> None:
    color, name = expert_color(int(node["expert"])), "x′" if node["expert"] < 0 else f"{int(node['expert'])}"
    edge = {"markeredgecolor": "#3A3A3A", "markeredgewidth": 0.7}
    panel.plot(node["x"], node["y"], "o", markersize=size, color=color, zorder=3, **edge)
    panel.text(node["x"], node["y"], name, fontsize=letters, color=text_on(color), ha="center", va="center", zorder=4)


def draw_edge(panel: Any, node: pd.Series, parent: pd.Series, named: bool, letters: float) -> None:
    panel.plot(
        [node["x"], parent["x"]],
        [node["y"], parent["y"]],
        color="#9A9A9A",
        zorder=1,
        linewidth=0.5 + 3.0 * float(np.clip(abs(node["score"]), 0.0, 1.0)),
    )
    if named:
        share = 0.45
        panel.text(
            node["x"] + share * (parent["x"] - node["x"]),
            node["y"] + share * (parent["y"] - node["y"]),
            f"{node['score']:.2f}",
            fontsize=letters,
            ha="center",
            va="center",
            zorder=2,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )


def interactive(found: TokenTree) -> go.Figure:
    """One tree at a time; a menu chooses the token, hover shows a node's expert, score, key similarity, contribution."""
    shown, fig, owners = found.shown, go.Figure(), []
    words = shown.drop_duplicates("token").sort_values("token").set_index("token")["word"]
    for place, tree in shown.groupby("token", sort=True):
        traces = tree_traces(tree)
        owners += [place] * len(traces)
        fig.add_traces(traces)
    for trace, owner in zip(fig.data, owners):
        trace.visible = owner == words.index[0]
    menu = menu_of(
        "Token",
        {
            f"‘{word}’, token {place}": [{"visible": [owner == place for owner in owners]}]
            for place, word in words.items()
        },
        "restyle",
    )
    layers, leaves = int(shown["layer"].max()), (shown["layer"] == 0).sum() // len(words)
    names = [f"pool {layer}" for layer in range(layers)] + ["output"]
    fig.update_yaxes(tickvals=list(range(layers + 1)), ticktext=names, showgrid=False, zeroline=False)
    fig.update_xaxes(visible=False)
    return arranged(
        fig,
        first_seed(found),
        title={"text": f"Tokens of {found.place}"},
        height=220 + 130 * layers,
        meta=width_for(LEAF * leaves),
        updatemenus=[menu],
    )


def tree_traces(tree: pd.DataFrame) -> list[go.Scatter]:
    """Edges, and the nodes on top of them."""
    placed = tree_layout(tree)
    colors = [expert_color(int(expert)) for expert in placed["expert"]]
    edges = [
        edge_trace(node, parent, width=1 + 5 * float(np.clip(abs(node["score"]), 0, 1)))
        for node, parent in edges_of(placed)
    ]
    nodes = go.Scatter(
        x=placed["x"],
        y=placed["y"],
        mode="markers+text",
        hovertext=[hover(node) for _, node in placed.iterrows()],
        hoverinfo="text",
        text=["x′" if expert < 0 else str(expert) for expert in placed["expert"]],
        showlegend=False,
        marker={
            "size": 1.5 * node_radius(placed["share"]),
            "opacity": 1.0,
            "line": {"color": "#3A3A3A", "width": 1},
            "color": colors,
        },
        textfont={"color": [text_on(color) for color in colors]},
    )
    return [*edges, nodes]


def edges_of(placed: pd.DataFrame) -> Iterator[tuple[pd.Series, pd.Series]]:
    """Each node below the root, and its parent."""
    by_node = placed.set_index("node")
    for _, node in placed[placed["parent"] >= 0].iterrows():
        yield node, by_node.loc[node["parent"]]


def edge_trace(node: pd.Series, parent: pd.Series, **line: Any) -> go.Scatter:
    return go.Scatter(
        x=[node["x"], parent["x"]],
        y=[node["y"], parent["y"]],
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        line={"color": "#9A9A9A", **line},
    )


def hover(node: pd.Series) -> str:
    """The hover text of a node."""
    if node["expert"] < 0:
        return f"the layer's output<br>norm {node['contribution']:.4g}"
    similarity = (
        "none: this gate does not compare vectors" if np.isnan(node["similarity"]) else f"{node['similarity']:z.3f}"
    )
    return (
        f"expert {int(node['expert'])} of pool {int(node['layer'])}<br>score {node['score']:.3f} "
        f"({node['path_score']:.3f} along its path)<br>key similarity {similarity}<br>contribution norm "
        f"{node['contribution']:.4g} ({100 * node['share']:.1f} % of the output's)"
    )
