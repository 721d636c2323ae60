"""All adapters beside one another: what they hold, what a token uses, and what it costs to compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, use_style

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import AdapterCosts

EXPERTS, ROUTER = "#0072B2", "#E69F00"
QUANTITIES = {
    "parameters": "parameters",
    "active_parameters": "active parameters",
    "needed": "operations needed",
    "computed": "operations computed",
}
PANELS = (
    ("parameters", "active_parameters", "(a) parameters", "held", "used by a token at most"),
    ("computed", "needed", "(b) multiply-accumulates per token", "computed by the module", "needed by the formula"),
)


def plot(found: AdapterCosts) -> Figure:
    """Parameters and operations, one bar per system."""
    return adapter_figure(found.costs)


def interactive(found: AdapterCosts) -> go.Figure:
    """Stacked bars, with buttons for what is counted."""
    return adapter_explorer(found.costs)


def adapter_figure(costs: pd.DataFrame) -> Figure:
    """A bar per system from the frame of `adapter_costs`: experts and router stacked.

    (a) parameters, with a bar inside for those of the experts that a token uses at most (and the router's);
    (b) operations that the module computes, with those that the formula needs inside.

    >>> figure = adapter_figure(costs)
    >>> [panel.get_title(loc="left") for panel in figure.axes]
    ['(a) parameters', '(b) multiply-accumulates per token']
    """
    systems = list(dict.fromkeys(costs["system"]))
    with use_style():
        fig = figure(FULL_WIDTH, 4.3)
        panels = fig.subplots(1, 2, sharey=True)
        for panel, (outer, inner, title, outer_label, inner_label) in zip(panels, PANELS):
            draw_bars(panel, costs, outer, systems, 0.76, 0.35)
            draw_bars(panel, costs, inner, systems, 0.32, 1.0)
            panel.set_title(title)
            panel.set_xlabel(f"in thousands; wide: {outer_label},\nnarrow: {inner_label}")
            panel.grid(axis="x")
            panel.set_axisbelow(True)
        panels[0].set_yticks(np.arange(len(systems)), systems)
        panels[0].invert_yaxis()
        fig.legend(handles=part_handles(), loc="outside lower center", ncols=2)
    return fig


def draw_bars(panel: Any, costs: pd.DataFrame, quantity: str, systems: list[str], height: float, alpha: float) -> None:
    left = np.zeros(len(systems))
    for part, color in (("experts", EXPERTS), ("router", ROUTER)):
        values = costs[costs["part"] == part].set_index("system").loc[systems, quantity].to_numpy() / 1e3
        panel.barh(np.arange(len(systems)), values, height, left, color=color, alpha=alpha, linewidth=0)
        left = left + values


def part_handles() -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=EXPERTS, label="experts"), Patch(color=ROUTER, label="router")]


def adapter_explorer(costs: pd.DataFrame) -> go.Figure:
    """The interactive twin: stacked bars, buttons for what is counted, hover with all counts of a part.

    >>> figure = adapter_explorer(costs)
    >>> [trace.name for trace in figure.data]
    ['experts', 'router']
    """
    import plotly.graph_objects as go

    fig, tables = go.Figure(), []
    columns = [*QUANTITIES, "per_call"]
    for part, color in (("experts", EXPERTS), ("router", ROUTER)):
        rows = costs[costs["part"] == part]
        tables.append(rows)
        fig.add_bar(
            x=rows["parameters"].to_numpy(np.float32),
            y=rows["system"],
            orientation="h",
            name=part,
            marker={"color": color},
            customdata=rows[columns].to_numpy(np.float32),
            hovertemplate=f"%{{y}}, {part}<br>parameters %{{customdata[0]:,.0f}}, active at most "
            "%{customdata[1]:,.0f}<br>operations per token: needed %{customdata[2]:,.0f}, computed "
            "%{customdata[3]:,.0f}, and %{customdata[4]:,.0f} per call<extra></extra>",
        )
    buttons = [
        {
            "label": label,
            "method": "update",
            "args": [{"x": [rows[name].to_numpy(np.float32) for rows in tables]}, {"xaxis.title.text": label}],
        }
        for name, label in QUANTITIES.items()
    ]
    fig.update_layout(
        template="plotly_white",
        barmode="stack",
        height=620,
        title={"text": "What an adapter of one layer costs"},
        xaxis={"title": {"text": "parameters"}},
        yaxis={"autorange": "reversed"},
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons}],
    )
    return arranged(fig)
