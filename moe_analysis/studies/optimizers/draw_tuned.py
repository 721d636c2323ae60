"""gR Fig. 3 from a campaign's table: held-out loss by learning rate, and below it training at the chosen rates."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.style import BANDS, FULL_WIDTH, figure, note_below, use_style
from .curves import rate_labels
from .draw import (
    OUTCOMES,
    RATE,
    draw_measure,
    draw_rates,
    name_ends,
    progress_explorer,
    rate_bands,
    rates_explorer,
    ring_best,
)
from .tuned import TunedOptimizers

MEASURE = "loss"
TICKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10)  # nats per token


def plot(found: TunedOptimizers) -> Figure:
    """One column per form: losses by rate above, and the curves of the final runs below, if there are some."""
    forms, trained = found.forms, set(found.finals["method"])
    rows = 1 + bool(trained)
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 0.9 + 3.0 * rows)
        panels = fig.subplots(rows, len(forms), squeeze=False)
        for column, (form, methods) in enumerate(forms.items()):
            draw_grid(panels[0][column], found, methods)
            panels[0][column].set_title(f"forms of {form}: held-out loss by rate", fontsize=10, pad=34)
            if not trained:
                continue
            below, own = panels[1][column], [method for method in methods if method in trained]
            if not own:  # the campaign has not come to them
                below.set_axis_off()
                continue
            draw_measure(below, found.bands, "train loss", own, rate_labels(found.rates), under=3.2)
            logarithmic(below)
            below.set_title(f"forms of {form}: training at the chosen rate", fontsize=10)
            name_ends(below)
        for panel in panels[:, 1:].flat:
            panel.set_ylabel("")
        note_below(fig, found.note(reading_of(found)))
    return fig


def draw_grid(panel: Any, found: TunedOptimizers, methods: list[str]) -> None:
    """The whole grid of each method, with a ring at the chosen rate."""
    for index, method in enumerate(methods):
        draw_rates(panel, rate_bands(found.outcomes, method, MEASURE), method, index)
        ring_best(panel, found.outcomes, found.rates, method, MEASURE)
    panel.set_xscale("log")
    logarithmic(panel)
    panel.set_xlabel(RATE)
    panel.set_ylabel(OUTCOMES[MEASURE])
    panel.grid(axis="y")
    # between the title and the axes, because lines with similar ends leave no room next to them
    place = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0.2}
    panel.legend(ncols=2, fontsize=8.5, handlelength=2.2, handletextpad=0.4, columnspacing=0.8, **place)


def logarithmic(panel: Any) -> None:
    """A logarithmic axis for losses, because the best runs are close together and diverging ones far above them."""
    panel.set_yscale("log")
    panel.minorticks_off()
    low, high = panel.get_ylim()
    panel.set_yticks([tick for tick in TICKS if low <= tick <= high], minor=False)
    panel.yaxis.set_major_formatter("{x:g}")


def reading_of(found: TunedOptimizers) -> str:
    """What the marks mean, and which chosen rates are at an end of their grid."""
    ring = "the chosen rate" if len(found.finals) else "the best of the rates tried so far"
    told = [f"A ring is {ring}; × means diverged. {BANDS}"]
    ends = found.chosen[found.chosen["end"] != ""]
    if len(ends):
        listed = ", ".join(f"{method} ({end})" for method, end in zip(ends["method"], ends["end"]))
        told.append(f"At an end of the grid, so that a rate beyond it may be better: {listed}.")
    else:
        told.append("No chosen rate is at an end of its grid.")
    return " ".join(told)


def interactive(found: TunedOptimizers) -> go.Figure:
    """Both rows side by side: every run by its rate, every seed over training; the legend chooses the methods."""
    titles = ["held-out loss by learning rate", "training at the chosen rates"]
    fig = make_subplots(1, 1 + (len(found.finals) > 0), subplot_titles=titles[: 1 + (len(found.finals) > 0)])
    for trace in rates_explorer(found.outcomes, found.rates).data[2 * len(found.rates) :]:  # those of the held-out loss
        fig.add_trace(trace.update(visible=True), row=1, col=1)
    fig.update_xaxes(type="log", title_text=RATE, row=1, col=1)
    fig.update_yaxes(title_text=OUTCOMES[MEASURE], row=1, col=1)
    if len(found.finals):
        curves = found.curves[found.curves["measure"] == "train loss"]
        for trace in progress_explorer(curves).data:
            fig.add_trace(trace.update(showlegend=False, visible=True), row=1, col=2)
        fig.update_xaxes(title_text="training step", row=1, col=2)
        fig.update_yaxes(title_text="training loss (nats per token)", row=1, col=2)
    return arranged(fig, reading_of(found), height=520, title={"text": "Optimizers, each at its own best rate"})
