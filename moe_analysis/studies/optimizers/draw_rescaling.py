"""gR Fig. 2: training loss, test loss and test accuracy of RSGD and gRSGD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ...drawing.style import FULL_WIDTH, figure, use_style
from .draw import LABELS, draw_measure, progress_explorer
from .measure import PLAIN, RESCALED

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import Rescaling


def plot(found: Rescaling) -> Figure:
    """Three measures side by side."""
    return progress_figure(found.bands)


def interactive(found: Rescaling) -> go.Figure:
    """Every seed; a menu chooses the measure."""
    return progress_explorer(found.curves)


def progress_figure(bands: pd.DataFrame, methods: Sequence[str] = (PLAIN, RESCALED)) -> Figure:
    """Training loss, test loss and test accuracy of `curve_bands`, side by side.

    >>> from moe_analysis.studies.optimizers.curves import curve_bands
    >>> figure = progress_figure(curve_bands(progress))
    >>> [panel.get_ylabel() for panel in figure.axes]
    ['training loss (nats per token)', 'test loss (nats per token)', 'test accuracy']
    """
    with use_style():
        fig = figure(FULL_WIDTH, 2.5)
        panels = fig.subplots(1, 3)
        for panel, measure in zip(panels, LABELS):
            draw_measure(panel, bands, measure, methods)
        panels[0].legend(loc="upper right")
    return fig
