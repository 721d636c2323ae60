"""All adapters compared: their parameters, the part that a token uses, and the operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ...drawing.layout import arranged
from ...drawing.marks import float32, menu_of
from ...drawing.style import FULL_WIDTH, figure, note_below, use_style
from .measure import AdapterCosts

PART_COLORS = {"experts": "#0072B2", "router": "#E69F00"}
QUANTITIES = {
    "parameters": "parameters",
    "active_parameters": "active parameters",
    "needed": "operations needed",
    "computed": "operations computed",
}
PANELS = (
    ("parameters", "active_parameters", "(a) parameters", "all", "used by one token at most"),
    ("computed", "needed", "(b) multiply-accumulates per token", "computed by the module", "needed by the formula"),
)


def plot(found: AdapterCosts) -> Figure:
    """One bar per system, experts and router stacked.

    (a) parameters, with an inner bar for the most that one token uses (experts and router);
    (b) operations that the module computes, with an inner bar for those that the formula needs.
    """
    systems = list(found.costs["system"].unique())
    with use_style():
        fig = figure(FULL_WIDTH, 4.3)
        panels = fig.subplots(1, 2, sharey=True)
        for panel, (outer, inner, title, outer_label, inner_label) in zip(panels, PANELS):
            draw_bars(panel, found.costs, outer, systems, 0.76, 0.35)
            draw_bars(panel, found.costs, inner, systems, 0.32, 1.0)
            panel.set(title=title, xlabel=f"in thousands; wide: {outer_label},\nnarrow: {inner_label}")
            panel.grid(axis="x")
            panel.set_axisbelow(True)
        panels[0].set_yticks(np.arange(len(systems)), systems)
        panels[0].invert_yaxis()
        handles = [Patch(color=color, label=part) for part, color in PART_COLORS.items()]
        fig.legend(handles=handles, loc="outside upper left", ncols=2)
        note_below(fig, found.note("Wide bars are counted on the module, narrow ones are computed by the formula."))
    return fig


def draw_bars(panel: Any, costs: pd.DataFrame, quantity: str, systems: list[str], height: float, alpha: float) -> None:
    left = np.zeros(len(systems))
    for part, color in PART_COLORS.items():
        values = costs[costs["part"] == part].set_index("system").loc[systems, quantity].to_numpy() / 1e3
        panel.barh(np.arange(len(systems)), values, height, left, color=color, alpha=alpha, linewidth=0)
        left = left + values


def interactive(found: AdapterCosts) -> go.Figure:
    """Stacked bars; buttons choose what is counted, hover shows all counts of a part."""
    fig = go.Figure()
    tables = [found.costs[found.costs["part"] == part] for part in PART_COLORS]
    for (part, color), rows in zip(PART_COLORS.items(), tables):
        fig.add_bar(
            x=float32(rows["parameters"]),
            y=rows["system"],
            orientation="h",
            name=part,
            marker={"color": color},
            customdata=float32(rows[[*QUANTITIES, "per_call"]]),
            hovertemplate=f"%{{y}}, {part}<br>parameters %{{customdata[0]:,.0f}}<br>active at most %{{customdata[1]:,.0f}}"
            "<br>operations per token:<br>needed %{customdata[2]:,.0f}, computed %{customdata[3]:,.0f}"
            "<br>and %{customdata[4]:,.0f} per call<extra></extra>",
        )
    changes = {
        label: [{"x": [float32(rows[name]) for rows in tables]}, {"xaxis.title.text": label}]
        for name, label in QUANTITIES.items()
    }
    return arranged(
        fig,
        barmode="stack",
        height=620,
        title={"text": "What an adapter of one layer costs"},
        xaxis={"title": {"text": "parameters"}},
        yaxis={"autorange": "reversed"},
        updatemenus=[menu_of("Quantity", changes, in_a_row=True)],
    )
