"""S'MoRE Fig. 3: three trees of the same experts, and which of their outputs each system distinguishes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, note_below, use_style
from ...evidence import counted
from ..trees.draw_tree import edge_trace, edges_of, expert_color, tree_layout
from .measure import ThreeTrees

CLASSES = ("#F7CF7A", "#A9DCF5", "#E8BBD3")  # one for each distinct output


def plot(found: ThreeTrees) -> Figure:
    """The trees side by side, and below them each system's output; equal outputs have the same color."""
    outputs = found.outputs
    with use_style():
        fig = figure(FULL_WIDTH, 2.5 + 0.3 * len(outputs))
        panels: Any = fig.subplots(2, len(found.trees), height_ratios=[2.2, 0.32 * len(outputs) + 0.1], squeeze=False)
        for number, (label, tree) in enumerate(found.trees.items()):
            draw_tree(panels[0, number], nested_frame(tree))
            panels[0, number].set_title(f"({label})", loc="center")
            draw_outputs(panels[1, number], {system: distinct(values)[number] for system, values in outputs.items()})
        for row, (system, values) in enumerate(outputs.items()):
            panels[1, -1].text(1.08, -row, counted(len(set(values)), "output"), va="center", fontsize=7.5)
            panels[1, 0].text(-0.04, -row, system, ha="right", va="center", fontsize=7.5)
        note_below(fig, found.note("Equal letters and colors mean equal outputs."))
    return fig


def distinct(values: Sequence[Any]) -> list[int]:
    """Labels -> 0, 1, … in order of first appearance: ["u", "v", "u"] -> [0, 1, 0]."""
    seen = list(dict.fromkeys(values))
    return [seen.index(value) for value in values]


def nested_frame(tree: Sequence[Any]) -> pd.DataFrame:
    """Nested (expert, subtree) pairs of the root's children -> node, parent, layer (leaves 0), expert (-1: the root).

    Nodes are numbered layer by layer from the root.
    """
    rows = [{"node": 0, "parent": -1, "depth": 0, "expert": -1}]
    waiting = [(0, tree)]
    while waiting:
        parent, children = waiting.pop(0)
        for expert, below in children:
            rows.append({"node": len(rows), "parent": parent, "depth": rows[parent]["depth"] + 1, "expert": expert})
            waiting.append((len(rows) - 1, below))
    frame = pd.DataFrame(rows)
    return frame.assign(layer=frame["depth"].max() - frame["depth"]).drop(columns="depth")


def draw_tree(panel: Any, tree: pd.DataFrame) -> None:
    """Nodes named "layer,expert", as in the paper."""
    placed = tree_layout(tree)
    for node, parent in edges_of(placed):
        panel.plot([node["x"], parent["x"]], [node["y"], parent["y"]], color="#9A9A9A", linewidth=1.2, zorder=1)
    for _, node in placed.iterrows():
        name = "$x'$" if node["expert"] < 0 else f"{int(node['layer'])},{int(node['expert'])}"
        color = expert_color(int(node["expert"]) - (node["expert"] >= 0))
        edge = {"markeredgecolor": "#3A3A3A", "markeredgewidth": 0.7}
        panel.plot(node["x"], node["y"], "o", markersize=19, color=color, zorder=2, **edge)
        panel.text(node["x"], node["y"], name, ha="center", va="center", fontsize=7.5, zorder=3)
    panel.set(xlim=(0, 1), ylim=(-0.35, placed["y"].max() + 0.35))
    panel.axis("off")


def draw_outputs(panel: Any, classes: Mapping[str, int]) -> None:
    """One bar per system; color and letter show the tree's output."""
    for row, number in enumerate(classes.values()):
        color = CLASSES[number % len(CLASSES)]
        panel.barh(-row, 1.0, height=0.78, color=color, edgecolor="#3A3A3A", linewidth=0.6, clip_on=False)
        panel.text(0.5, -row, f"output {'ABCDEFGH'[number % 8]}", ha="center", va="center", fontsize=7.5)
    panel.set(xlim=(0, 1), ylim=(-len(classes) + 0.5, 0.5))
    panel.axis("off")


def interactive(found: ThreeTrees) -> go.Figure:
    """The same; hover over a node for its expert, over a root for the output of each system."""
    fig = make_subplots(rows=1, cols=len(found.trees), subplot_titles=[f"({label})" for label in found.trees])
    for number, tree in enumerate(found.trees.values()):
        placed = tree_layout(nested_frame(tree))
        for node, parent in edges_of(placed):
            fig.add_trace(edge_trace(node, parent), row=1, col=number + 1)
        given = "<br>".join(
            f"{system}: output {'ABCDEFGH'[distinct(values)[number] % 8]}" for system, values in found.outputs.items()
        )
        experts = list(zip(placed["expert"], placed["layer"], strict=True))
        names = ["x′" if e < 0 else f"{layer},{e}" for e, layer in experts]
        hover = [given if e < 0 else f"expert {e} of pool {layer}" for e, layer in experts]
        colors = [expert_color(e - (e >= 0)) for e in placed["expert"]]
        fig.add_scatter(
            x=placed["x"],
            y=placed["y"],
            mode="markers+text",
            text=names,
            hovertext=hover,
            hoverinfo="text",
            showlegend=False,
            row=1,
            col=number + 1,
            marker={"size": 34, "color": colors, "line": {"color": "#3A3A3A", "width": 1}},
        )
    fig.update_xaxes(visible=False, range=[0, 1])
    fig.update_yaxes(visible=False)
    return arranged(fig, height=360, title={"text": "Three trees of the same experts"})
