"""gR Fig. 2: training loss, test loss and test accuracy of RSGD and gRSGD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ...drawing.style import BANDS, FULL_WIDTH, counted_seeds, figure, note_below, use_style
from .curves import rate_labels
from .draw import LABELS, draw_measure, progress_explorer
from .measure import PLAIN, RESCALED

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import Rescaling


def plot(found: Rescaling) -> Figure:
    """Three measures side by side."""
    return progress_figure(found.bands, names=rate_labels(found.outcomes))


def interactive(found: Rescaling) -> go.Figure:
    """Every seed; a menu chooses the measure."""
    return progress_explorer(found.curves, rate_labels(found.outcomes))


def progress_figure(
    bands: pd.DataFrame, methods: Sequence[str] = (PLAIN, RESCALED), names: Mapping[str, str] | None = None
) -> Figure:
    """Training loss, test loss and test accuracy of `curve_bands`, side by side.

    names: method -> what it is called on the picture, such as `rate_labels` gives.

    >>> from moe_analysis.studies.optimizers.curves import curve_bands
    >>> figure = progress_figure(curve_bands(progress))
    >>> [panel.get_ylabel() for panel in figure.axes]
    ['training loss (nats per token)', 'test loss (nats per token)', 'test accuracy']
    """
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 3.3)
        panels = fig.subplots(1, 3)
        for panel, measure in zip(panels, LABELS):
            draw_measure(panel, bands, measure, methods, names or {})
        handles, labels = panels[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=11, labelcolor="linecolor")
        note_below(fig, f"{counted_seeds(int(bands['seeds'].max()))}, {int(bands['step'].max())} steps. {BANDS}")
    return fig
