"""T-REX Theorem 4.2, in our reading, drawn: errors at equal budgets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import bars_of, float32
from ...drawing.style import FULL_WIDTH, MARKERS, SYMBOLS, figure, method_color, note_below, use_style
from .draw_span import COUNT_LABELS
from .measure import Approximation

FINE_TICKS, COARSE_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def plot(found: Approximation) -> Figure:
    """The paper figure: errors by family of targets.

    One panel per family, one row of dots per system, one marker per way of counting parameters; bars reach from the
    lowest to the highest seed; a ring marks the best of each count.
    """
    summary = found.summary
    families, counts = summary["family"].unique(), list(summary["count"].unique())
    with use_style():
        fig = figure(FULL_WIDTH, 2.9)
        panels = np.atleast_1d(fig.subplots(1, len(families), sharey=True))
        for letter, panel, family in zip("abcdef", panels, families):
            draw_errors(panel, summary[summary["family"] == family], counts)
            panel.set_title(f"({letter}) {family} targets")
        fig.legend(handles=count_handles(counts), loc="outside upper left", ncols=len(counts) + 1)
        note_below(fig, found.note("Dots are means over seeds, bars reach from the lowest seed to the highest."))
    return fig


def draw_errors(panel: Any, table: pd.DataFrame, counts: list[str]) -> None:
    methods = list(table["method"].unique())
    for index, count in enumerate(counts):
        rows = table[table["count"] == count].set_index("method").loc[methods]
        places = np.arange(len(methods))[::-1] - (index - (len(counts) - 1) / 2) * 0.22
        for place, (method, row) in zip(places, rows.iterrows()):
            color = method_color(str(method))
            panel.plot([row["low"], row["high"]], [place, place], color=color, linewidth=1)
            panel.scatter(row["mean"], place, marker=MARKERS[index], s=24, color=color, zorder=3, linewidths=0)
            if row["best"]:
                panel.scatter(row["mean"], place, s=80, facecolor="none", edgecolor="black", linewidths=0.9, zorder=4)
    panel.set_yticks(np.arange(len(methods))[::-1], methods)
    panel.set(xscale="log", xlabel="relative error")
    panel.grid(axis="x")
    least = table["low"].min()
    ticks = [tick for tick in (FINE_TICKS if least > 0.4 else COARSE_TICKS) if tick > 0.9 * least]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlim(0.85 * least, 1.1)


def count_handles(counts: list[str]) -> list[Any]:
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[index], color="0.3", label=COUNT_LABELS[count])
        for index, count in enumerate(counts)
    ]
    ring = Line2D([], [], linestyle="", marker="o", markersize=8, markerfacecolor="none", color="black")
    ring.set_label("best with this budget")
    return [*handles, ring]


def interactive(found: Approximation) -> go.Figure:
    """One column per family, one symbol per way of counting; hover shows size, mean and range."""
    summary = found.summary
    families, counts = summary["family"].unique(), summary["count"].unique()
    titles = [f"{family} targets" for family in families]
    fig = make_subplots(1, len(families), shared_yaxes=True, subplot_titles=titles)
    for column, family in enumerate(families, start=1):
        for index, count in enumerate(counts):
            rows = summary[(summary["family"] == family) & (summary["count"] == count)]
            fig.add_scatter(
                x=float32(rows["mean"]),
                y=rows["method"],
                mode="markers",
                name=COUNT_LABELS[count],
                legendgroup=count,
                showlegend=column == 1,
                text=rows["size"],
                customdata=float32(rows[["low", "high"]]),
                row=1,
                col=column,
                marker={"symbol": SYMBOLS[index], "size": 11, "color": [method_color(name) for name in rows["method"]]},
                error_x={"type": "data", "color": "#5A5A5A", **bars_of(rows)},
                hovertemplate=f"%{{y}} of size %{{text}}<br>{COUNT_LABELS[count]}<br>relative error %{{x:.4f}}"
                "<br>seeds %{customdata[0]:.4f} to %{customdata[1]:.4f}<extra></extra>",
            )
        fig.update_xaxes(type="log", title_text="relative error", row=1, col=column)
    fig.update_yaxes(autorange="reversed")
    return arranged(fig, height=520, title={"text": "Approximation at equal budgets"})
