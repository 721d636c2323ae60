"""The control of gate rescaling: training losses of both rules with one active expert per token."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...drawing.layout import arranged
from ...drawing.marks import points_of
from ...drawing.style import HALF_WIDTH, figure, method_color, note_below, use_style
from .measure import OneExpert

DASHES = {"solid": "-", "dash": (0, (4, 3))}  # plotly's names, matplotlib's patterns
LABEL = "training loss (nats per token)"


def curves(found: OneExpert) -> list[tuple[str, str, str, pd.DataFrame]]:
    """(label, color, dash, training rows) of both runs; the second is dashed, so that the first is visible."""
    trained = found.losses[found.losses["split"] == "train"]
    return [
        (str(label), method_color(str(label).partition(",")[0]), dash, rows)
        for dash, (label, rows) in zip(DASHES, trained.groupby("method", sort=False))
    ]


def plot(found: OneExpert, ax: Any = None) -> Figure | Axes:
    """Both losses over training, in `ax` if it is given."""
    with use_style():
        fig = figure(HALF_WIDTH, 2.4) if ax is None else None
        panel: Any = ax if fig is None else fig.subplots()
        for label, color, dash, rows in curves(found):
            wide = 2.6 if dash == "solid" else 1.2
            panel.plot(rows["step"], rows["loss"], color=color, linestyle=DASHES[dash], linewidth=wide, label=label)
        panel.set_xlabel("training step")
        panel.set_ylabel(LABEL)
        panel.set_title(f"one expert per token: largest difference {found.gap:g}", fontsize=8)
        panel.grid(axis="y")
        panel.legend(loc="upper right")
        if fig is not None:
            note_below(fig, found.note("One line per run."))
    return panel if fig is None else fig


def interactive(found: OneExpert) -> go.Figure:
    """Both losses; hover shows the step."""
    fig = go.Figure()
    for label, color, dash, rows in curves(found):
        fig.add_scatter(
            **points_of(rows, "step", "loss"),
            mode="lines",
            name=label,
            line={"color": color, "dash": dash, "width": 4 if dash == "solid" else 2},
            hovertemplate=f"{label}<br>step %{{x}}: %{{y:.4f}}<extra></extra>",
        )
    return arranged(
        fig,
        height=520,
        title={"text": f"One expert per token: largest difference of the losses {found.gap:g}"},
        xaxis_title="training step",
        yaxis_title=LABEL,
    )
