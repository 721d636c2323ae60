"""Curves of optimisers against each other: gR Fig. 2 (two methods, three measures) and Fig. 3 (four by four)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..drawing.layout import arranged
from ..drawing.style import FULL_WIDTH, figure, method_color, method_dash, use_style

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

LABELS = {
    "train loss": "training loss (nats a token)",
    "eval loss": "test loss (nats a token)",
    "eval accuracy": "test accuracy",
}


def draw_measure(panel: Any, bands: pd.DataFrame, measure: str, methods: Sequence[str]) -> None:
    """One measure over training: the seeds' mean, shaded between the lowest and the highest seed."""
    chosen = bands[bands["measure"] == measure]
    for method in methods:
        band, color = chosen[chosen["method"] == method], method_color(method)
        few = len(band) < 12
        panel.fill_between(band["step"], band["low"], band["high"], color=color, alpha=0.18, linewidth=0)
        panel.plot(band["step"], band["mean"], color=color, label=method, marker="o" if few else None, markersize=3)
    panel.set_xlabel("training step")
    panel.set_ylabel(LABELS[measure])
    panel.grid(axis="y")


def progress_figure(bands: pd.DataFrame, methods: Sequence[str] = ("RSGD", "gRSGD")) -> Figure:
    """Fig. 2: training loss, test loss and test accuracy of `curve_bands`, side by side.

    >>> from moe_analysis.analysis.optimizers import curve_bands
    >>> figure = progress_figure(curve_bands(progress))
    >>> [panel.get_ylabel() for panel in figure.axes]
    ['training loss (nats a token)', 'test loss (nats a token)', 'test accuracy']
    """
    with use_style():
        fig = figure(FULL_WIDTH, 2.5)
        panels = fig.subplots(1, 3)
        for panel, measure in zip(panels, LABELS):
            draw_measure(panel, bands, measure, methods)
        panels[0].legend(loc="upper right")
    return fig


def forms_figure(bands: pd.DataFrame, forms: dict[str, Sequence[str]]) -> Figure:
    """Fig. 3: a panel a form of the optimiser, its methods' training losses; forms: title -> methods.

    >>> from moe_analysis.analysis.optimizers import curve_bands
    >>> figure = forms_figure(curve_bands(progress), {"preconditioned": ["RSGD", "gRSGD"], "rescaled": ["gRSGD"]})
    >>> len(figure.axes)
    2
    """
    with use_style():
        fig = figure(FULL_WIDTH, 2.7)
        for panel, (title, methods) in zip(fig.subplots(1, len(forms), squeeze=False)[0], forms.items()):
            draw_measure(panel, bands, "train loss", methods)
            panel.set_title(title)
            panel.legend(loc="lower left")  # losses fall from left to right
    return fig


def progress_explorer(curves: pd.DataFrame) -> go.Figure:
    """The interactive twin: every seed of every method; a menu chooses the measure, the legend the methods.

    >>> figure = progress_explorer(progress)
    >>> len(figure.layout.updatemenus[0].buttons)  # a measure each
    3
    """
    import plotly.graph_objects as go

    measures = [measure for measure in LABELS if measure in set(curves["measure"])]
    fig = go.Figure()
    shown: list[str] = []
    for (measure, method, seed), line in curves.groupby(["measure", "method", "seed"], sort=False):
        first = seed == curves.loc[curves["method"] == method, "seed"].iloc[0]
        fig.add_scatter(
            x=line["step"],
            y=line["value"].astype("float32"),
            mode="lines+markers" if len(line) < 12 else "lines",
            name=str(method),
            legendgroup=str(method),
            showlegend=bool(first),
            visible=measure == measures[0],
            line={"color": method_color(str(method)), "dash": method_dash(str(method)), "width": 1.5},
            hovertemplate=f"{method}, seed {seed}<br>step %{{x}}: %{{y:.3f}}<extra></extra>",
        )
        shown.append(str(measure))
    buttons = [
        {
            "label": measure,
            "method": "update",
            "args": [{"visible": [name == measure for name in shown]}, {"yaxis.title.text": LABELS[measure]}],
        }
        for measure in measures
    ]
    fig.update_layout(
        template="plotly_white",
        height=520,
        title={"text": "Optimisers against each other"},
        xaxis_title="training step",
        yaxis_title=LABELS[measures[0]],
        updatemenus=[{"buttons": buttons}] if len(measures) > 1 else [],
    )
    return arranged(fig)
