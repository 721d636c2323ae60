"""T-REX Fig. 1: LoRA, LoRA-MoE and T-REX side by side, and an interactive figure of their spans and parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from ...drawing.diagram import EXPERT_COLORS, SIGNAL, arrow, box, circle, trapezoid
from ...drawing.layout import arranged
from ...drawing.marks import float32, menu_of, points_of
from ...drawing.style import FULL_WIDTH, figure, method_color, note_below, use_style
from .measure import Systems

TOLD = ["I", "J", "experts", "span", "factor_parameters", "parameters"]
FROZEN, PRIOR = "#D9D9D9", "#CC79A7"
BOTTOM, FOOT, TOP = 1.4, 3.1, 9.3  # heights of the input line, of the bottom of the down factors, and of the sum


def plot(found: Systems) -> Figure:
    """The paper figure: (a) LoRA, (b) LoRA-MoE, (c) T-REX, each with its parameters.

    Each panel draws the number of experts or vectors in its row of `found.parameters`.
    """
    rows = found.parameters.set_index("system")
    with use_style():
        fig = figure(FULL_WIDTH, 3.7)
        panels = fig.subplots(1, 3, width_ratios=[0.72, 1, 1.08])
        for letter, panel, (system, (width, draw)) in zip("abc", panels, PANELS.items()):
            panel.set(xlim=(0, width), ylim=(-2.2, 11))
            panel.axis("off")
            panel.set_title(f"({letter}) {system}", color=method_color(system), fontweight="bold", loc="center")
            draw_base(panel)
            draw(panel, rows.loc[system])
            panel.text(width / 2, -0.55, caption(rows.loc[system]), ha="center", va="top", fontsize=7, linespacing=1.4)
        features = f"{found.in_features} to {found.out_features} features"
        note_below(
            fig, f"Trainable parameters of a layer from {features}, counted on the modules; exact, without seeds."
        )
    return fig


def caption(row: pd.Series) -> str:
    """The parts and parameters of one system, in two lines."""
    experts = "1 update" if row["experts"] == 1 else f"{row['experts']} experts"
    vectors = f"{row['down_vectors']} down + {row['up_vectors']} up vectors"
    rest = f" + {row['other_parameters']:,} routing" if row["other_parameters"] else ""
    return f"{experts} from {vectors}\n{row['factor_parameters']:,} factors{rest} = {row['parameters']:,}"


def draw_base(panel: Any) -> None:
    """Input, frozen weight, sum and output, which all systems have."""
    panel.text(1.5, 0.35, "$x$", ha="center", va="center", fontsize=11)
    panel.text(1.5, 10.55, "$y$", ha="center", va="center", fontsize=11)
    box(panel, 1.5, 5.3, 2.1, 3.6, "$W_0$\nfrozen", FROZEN)
    arrow(panel, (1.5, 0.75), (1.5, 3.5))
    arrow(panel, (1.5, 7.1), (1.5, TOP - 0.3))
    arrow(panel, (1.5, TOP + 0.3), (1.5, 10.2))
    circle(panel, 1.5, TOP, 0.3, "+")


def draw_lora(panel: Any, row: pd.Series) -> None:
    color = method_color("LoRA")
    trapezoid(panel, 5, 3.1, 2.0, wide=3.4, narrow=1.3, color=color, text="$A$")
    trapezoid(panel, 5, 7.5, -2.0, wide=3.4, narrow=1.3, color=color, text="$B$")
    arrow(panel, (5, 5.1), (5, 5.5), head=False)
    panel.text(5.25, 5.3, f"$r={row['down_vectors']}$", fontsize=7, va="center")
    feed(panel, [5.0])
    collect(panel, [5.0], 7.5)


def draw_mixture(panel: Any, row: pd.Series) -> None:
    count = int(row["experts"])
    places = np.linspace(3.7, 8.0, count)
    width = (places[1] - places[0]) * 0.82 if count > 1 else 1.0
    for number, place in enumerate(places, start=1):
        color = EXPERT_COLORS[(number - 1) % len(EXPERT_COLORS)]
        trapezoid(panel, place, 3.1, 1.5, width, width * 0.35, color, f"$A_{number}$")
        trapezoid(panel, place, 6.3, -1.5, width, width * 0.35, color, f"$B_{number}$")
        arrow(panel, (place, 4.6), (place, 4.8), head=False)
        arrow(panel, (place, 6.3), (place, 7.1), head=False)
        circle(panel, place, 7.4, 0.3, f"$g_{number}$")
        arrow(panel, (place, 7.7), (place, 8.2), head=False)
    feed(panel, list(places))
    collect(panel, list(places), 8.2)
    box(panel, 9.6, 4.6, 1.1, 2.4, "router", "white", rotation=90)
    arrow(panel, (9.6, BOTTOM), (9.6, 3.4))
    panel.plot([places[-1], 9.6], [BOTTOM, BOTTOM], color=SIGNAL, linewidth=1)
    panel.plot([9.6, 9.6, places[-1] + 0.3], [5.8, 7.4, 7.4], color=SIGNAL, linewidth=1, linestyle=(0, (3, 2)))


def draw_trex(panel: Any, row: pd.Series) -> None:
    down, up = np.linspace(4.1, 6.4, row["down_vectors"]), np.linspace(3.4, 7.1, row["up_vectors"])
    for j, right in enumerate(up):
        for i, left in enumerate(down):
            color = EXPERT_COLORS[(i * len(up) + j) % len(EXPERT_COLORS)]
            panel.plot([left, right], [4.2, 6.7], color=color, linewidth=1.6, zorder=1)
            share = 0.4 if i % 2 == 0 else 0.7  # labels of crossing lines at different heights
            panel.text(
                left + share * (right - left),
                4.2 + share * 2.5,
                f"$G_{{{i + 1}{j + 1}}}$",
                fontsize=6.2,
                color=color,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.08", "facecolor": "white", "edgecolor": "none"},
            )
    for names, places, height in (("a", down, 3.65), ("b", up, 7.25)):
        for number, place in enumerate(places, start=1):
            box(panel, place, height, 0.95, 1.1, f"${names}_{number}$", method_color("T-REX"), light=True)
    feed(panel, list(down))
    collect(panel, list(up), 7.8)
    box(panel, 9.2, 3.3, 2.2, 0.95, "router $R$", "white")
    box(panel, 9.2, 7.6, 2.2, 1.3, "intuition\n$P$", "white", edge=PRIOR)
    box(panel, 9.2, 5.45, 2.6, 1.1, "$G=\\omega R$\n$+(1-\\omega)P$", "white")
    panel.plot([down[-1], 9.2], [BOTTOM, BOTTOM], color=SIGNAL, linewidth=1)
    arrow(panel, (9.2, BOTTOM), (9.2, 2.82))
    arrow(panel, (9.2, 3.78), (9.2, 4.9))
    arrow(panel, (9.2, 6.95), (9.2, 6.0), color=PRIOR)
    arrow(panel, (7.85, 5.45), (7.15, 5.45), dashed=True)
    panel.text(9.2, 9.15, "prompt's cosines\nto the clusters", ha="center", va="center", fontsize=6.2, color=PRIOR)
    arrow(panel, (9.2, 8.65), (9.2, 8.25), color=PRIOR)


PANELS = {"LoRA": (7.2, draw_lora), "LoRA-MoE": (10.4, draw_mixture), "T-REX": (10.8, draw_trex)}  # with widths


def feed(panel: Any, places: list[float]) -> None:
    """The input, connected to every down factor."""
    panel.plot([1.5, places[-1]], [BOTTOM, BOTTOM], color=SIGNAL, linewidth=1)
    for place in places:
        arrow(panel, (place, BOTTOM), (place, FOOT))


def collect(panel: Any, places: list[float], height: float) -> None:
    """The outputs of all up factors, connected to the sum."""
    for place in places:
        panel.plot([place, place], [height, TOP], color=SIGNAL, linewidth=1)
    arrow(panel, (places[-1], TOP), (1.8, TOP))


def interactive(found: Systems) -> go.Figure:
    """Span against parameters, one point per size.

    Hover shows I, J, experts, measured span and parameters; buttons count only the factors, or also the router.
    """
    fig = go.Figure()
    tables = dict(list(found.sizes.groupby("system", sort=False)))
    for system, table in tables.items():
        fig.add_scatter(
            **points_of(table, "factor_parameters", "span", TOLD),
            name=system,
            mode="markers" if system == "T-REX" else "lines+markers",
            marker={"size": 10, "color": method_color(system), "line": {"width": 1, "color": "white"}},
            hovertemplate=f"{system}<br>I = %{{customdata[0]}}, J = %{{customdata[1]}}<br>experts %{{customdata[2]}}"
            "<br>measured span %{customdata[3]}<br>factor parameters %{customdata[4]:,.0f}<br>with router "
            "%{customdata[5]:,.0f}<extra></extra>",
        )
    counts = {"factors only": "factor_parameters", "router included": "parameters"}
    menu = menu_of(
        "Parameters",
        {
            label: [
                {"x": [float32(table[column]) for table in tables.values()]},
                {"xaxis.title.text": f"trainable parameters, {label}"},
            ]
            for label, column in counts.items()
        },
        in_a_row=True,
    )
    return arranged(
        fig,
        title={"text": "Dimensions that a layer's updates span, against its parameters"},
        xaxis={"title": {"text": "trainable parameters, factors only"}},
        yaxis={"title": {"text": "measured span"}},
        legend={"title": {"text": "system"}},
        height=620,
        updatemenus=[menu],
    )
