"""gR Fig. 2: training loss, test loss and test accuracy of RSGD and gRSGD."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from ...drawing.style import BANDS, FULL_WIDTH, figure, method_color, note_below, use_style
from .curves import rate_labels
from .draw import LABELS, draw_measure, progress_explorer
from .measure import PLAIN, RESCALED, Rescaling

METHODS = (PLAIN, RESCALED)


def plot(found: Rescaling) -> Figure:
    """Training loss, test loss and test accuracy, side by side."""
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 3.3)
        panels = fig.subplots(1, 3)
        ends = measured_once(found.bands)
        for panel, measure in zip(panels, LABELS):
            if measure in ends:
                draw_end(panel, found.bands[found.bands["measure"] == measure], measure)
            else:
                draw_measure(panel, found.bands, measure, METHODS, rate_labels(found.outcomes))
        handles, labels = panels[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=11, labelcolor="linecolor")
        note_below(fig, found.note(f"{BANDS}{' Bars show the same after training.' * bool(ends)}"))
    return fig


def interactive(found: Rescaling) -> go.Figure:
    """Every seed; a menu chooses the measure."""
    return progress_explorer(found.curves, rate_labels(found.outcomes))


def measured_once(bands: pd.DataFrame) -> list[str]:
    """The measures that are known only at the end of training, and are drawn as bars."""
    return [measure for measure in LABELS if bands.loc[bands["measure"] == measure, "step"].nunique() == 1]


def draw_end(panel: Any, rows: pd.DataFrame, measure: str) -> None:
    """One measure that is known only at the end: one dot per method, and a bar from the lowest seed to the highest."""
    for place, row in enumerate(rows.set_index("method").loc[list(METHODS)].itertuples()):
        color = method_color(str(row.Index))
        panel.plot([place] * 2, [row.low, row.high], color=color, linewidth=2)
        panel.plot(place, row.mean, "o", color=color, markersize=7)
    panel.set_xticks(range(len(METHODS)), METHODS)
    panel.set_xlim(-0.6, len(METHODS) - 0.4)
    panel.set_xlabel(f"after {int(rows['step'].iloc[0])} steps")
    panel.set_ylabel(LABELS[measure])
    panel.grid(axis="y")
