"""Accuracy by the steps of training, a panel for each endpoint."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import bars_of, interval_of
from ...drawing.style import FULL_WIDTH, figure, method_marks, note_below, use_style
from .draw import UNTRAINED
from .endpoints import ENDPOINTS
from .steps import SystemSteps

BESIDE = 0.07  # of the distance of the trainings, from the mark of one system to that of the next
MARKS = "Bars: 95 % intervals over seeds. Dotted line: the model before training."


def plot(found: SystemSteps) -> Figure:
    """Systems side by side at each number of steps."""
    parts = list(dict.fromkeys(found.means["part"]))
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 3.6)
        panels = fig.subplots(1, len(parts), squeeze=False)[0]
        for panel, part in zip(panels, parts):
            rows = found.means[found.means["part"] == part]
            for shift, (method, mark) in zip(shifts_of(found), marks_of(found).items()):
                own = rows[rows["method"] == method]
                panel.errorbar(
                    places_of(own, found) + shift,
                    own["mean"],
                    interval_of(own, "mean"),
                    color=mark.color,
                    marker=mark.marker,
                    label=method,
                )
            panel.axhline(rows["base"].iloc[0], color=UNTRAINED, linewidth=1.4, linestyle=":", zorder=1)
            panel.set_xticks(range(len(found.steps)), [f"{steps:,}" for steps in found.steps])
            panel.set_xlim(-0.4, len(found.steps) - 0.6)
            panel.set_title(ENDPOINTS[part])
            panel.set_xlabel("steps")
            panel.grid(axis="y")
        panels[0].set_ylabel("accuracy")
        fig.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(marks_of(found)))
        note_below(fig, found.note(MARKS))
    return fig


def marks_of(found: SystemSteps) -> dict[str, Any]:
    return method_marks(found.means["method"])


def shifts_of(found: SystemSteps) -> list[float]:
    """Of the systems, around the place of a training."""
    count = found.means["method"].nunique()
    return [BESIDE * (place - (count - 1) / 2) for place in range(count)]


def places_of(rows: pd.DataFrame, found: SystemSteps) -> pd.Series:
    """0 for the short training, 1 for the long one."""
    return rows["steps"].map(found.steps.index)


def interactive(found: SystemSteps) -> go.Figure:
    """The same panels, with the numbers under the pointer; the legend chooses systems."""
    parts = list(dict.fromkeys(found.means["part"]))
    fig = make_subplots(1, len(parts), subplot_titles=[ENDPOINTS[part] for part in parts])
    for column, part in enumerate(parts, 1):
        rows = found.means[found.means["part"] == part]
        for shift, (method, mark) in zip(shifts_of(found), marks_of(found).items()):
            own = rows[rows["method"] == method]
            fig.add_scatter(
                x=places_of(own, found) + shift,
                y=own["mean"],
                error_y={**bars_of(own, "mean"), "thickness": 1.2},
                customdata=own[["low", "high", "seeds", "tasks", "steps"]],
                mode="lines+markers",
                name=method,
                legendgroup=method,
                showlegend=column == 1,
                marker={"symbol": mark.symbol, "size": 9},
                line={"color": mark.color},
                hovertemplate=f"{method}, %{{customdata[4]:,}} steps<br>accuracy %{{y:.3f}}, 95 % %{{customdata[0]:.3f}} "
                "to %{customdata[1]:.3f}<br>%{customdata[2]} seeds, %{customdata[3]} tasks<extra></extra>",
                row=1,
                col=column,
            )
        fig.add_hline(rows["base"].iloc[0], line={"color": UNTRAINED, "dash": "dot"}, row=1, col=column)
    fig.update_xaxes(
        title_text="steps",
        range=[-0.4, len(found.steps) - 0.6],
        tickvals=list(range(len(found.steps))),
        ticktext=[f"{steps:,}" for steps in found.steps],
    )
    fig.update_yaxes(title_text="accuracy", col=1)
    return arranged(fig, MARKS, height=480, title={"text": "S'MoRE with wider routing and with more steps"})
