"""The anatomy of experts over training: conditioning, similarity, and a token's entropy with the balance of load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import menu_of, points_of
from ...drawing.style import BANDS, DASHES, FULL_WIDTH, figure, method_color, note_below, use_style
from ..records import layer_title
from .measure import ExpertAnatomy

MOST_LAYERS = 4  # columns of the paper figure


class Row(NamedTuple):
    """One row of panels: its axis, and its measures in the order of DASHES with their label."""

    title: str
    measures: dict[str, str]
    logarithmic: bool = False


ROWS = (
    Row(
        "condition number",
        {"gram_condition_b": "BᵀB", "damped_condition_b": "BᵀB + δI", "gram_condition_a": "AAᵀ"},
        logarithmic=True,
    ),
    Row(
        "mean cosine of experts",
        {"map_similarity": "maps BA", "output_similarity": "outputs BAx", "update_similarity": "updates Δ(BA)"},
    ),
    Row("normalized entropy", {"load_balance": "load over experts", "token_entropy": "a token's gates"}),
)


def plot(found: ExpertAnatomy) -> Figure:
    """The paper figure: one column per layer (the first, the last and at most two between them), one row per family of
    measures.

    A color is a method, a dash a measure; lines are means over seeds, shades reach from the lowest seed to the highest.
    Lines begin where a measure is defined; an infinite value leaves a gap.
    """
    bands, methods = found.bands, list(found.bands["method"].unique())
    layers = spread(list(bands["layer"].unique()))
    with use_style():
        fig = figure(FULL_WIDTH, 5.6)
        panels: Any = fig.subplots(len(ROWS), len(layers), sharex=True, sharey="row", squeeze=False)
        for row, line in zip(ROWS, panels):
            for layer, panel in zip(layers, line):
                draw_panel(panel, bands[bands["layer"] == layer], row, methods)
            line[0].set_ylabel(row.title)
            if row.logarithmic:
                tidy_logarithm(line[0])
            name_dashes(line[-1], row)
        for layer, panel, last in zip(layers, panels[0], panels[-1]):
            panel.set_title(layer_title(layer))
            last.set_xlabel("training step")
        name_methods(fig, methods)
        note_below(fig, found.note(BANDS))
    return fig


def spread(layers: list[str]) -> list[str]:
    """At most MOST_LAYERS of them, evenly spaced, including the first and the last."""
    places = np.linspace(0, len(layers) - 1, min(MOST_LAYERS, len(layers))).round().astype(int)
    return [layers[place] for place in places]


def draw_panel(panel: Any, bands: pd.DataFrame, row: Row, methods: Sequence[str]) -> None:
    for method in methods:
        for measure, dash in zip(row.measures, DASHES):
            band = of(bands, method, measure)
            if band.empty:
                continue
            color = method_color(method)
            panel.fill_between(band["step"], band["low"], band["high"], color=color, alpha=0.12, linewidth=0)
            panel.plot(band["step"], band["mean"], color=color, linestyle=DASHES[dash], linewidth=1.1, label=method)
    if row.logarithmic:
        panel.set_yscale("log")
    panel.grid(axis="y")


def of(bands: pd.DataFrame, method: str, measure: str) -> pd.DataFrame:
    """The band of one method and measure in order of step, infinities as NaN."""
    chosen = bands[(bands["method"] == method) & (bands["measure"] == measure)].sort_values("step")
    return chosen.replace([np.inf, -np.inf], np.nan)


def tidy_logarithm(panel: Any) -> None:
    """Ticks at 1, 2, 5 of every decade if there are few decades, as plain numbers."""
    low, high = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value < 1e4 else f"{value:.0e}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def name_dashes(panel: Any, row: Row) -> None:
    """What each dash of a row means, to the right of its last panel."""
    handles = [
        Line2D([], [], color="0.25", linestyle=DASHES[dash], linewidth=1.1, label=label)
        for label, dash in zip(row.measures.values(), DASHES)
    ]
    panel.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.4, borderaxespad=0.3)


def name_methods(fig: Figure, methods: Sequence[str]) -> None:
    handles = [Line2D([], [], color=method_color(method), linewidth=2.0, label=method) for method in methods]
    fig.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.4, columnspacing=1.4)


def interactive(found: ExpertAnatomy) -> go.Figure:
    """The same measures, one module at a time, chosen from a menu.

    The legend hides a method or shows it alone; hover shows step, mean and extremes.
    """
    fig = make_subplots(rows=len(ROWS), cols=1, shared_xaxes=True, vertical_spacing=0.05)
    bands = found.by_module
    modules, methods = bands["module"].unique(), list(bands["method"].unique())
    owners = []
    for module in modules:
        rows = bands[bands["module"] == module]
        for number, row in enumerate(ROWS, start=1):
            for trace in explorer_traces(rows, row, methods, leading=number == 1, visible=module == modules[0]):
                fig.add_trace(trace, row=number, col=1)
                owners.append(module)
    menu = menu_of(
        "Layer", {module: [{"visible": [owner == module for owner in owners]}] for module in modules}, "restyle"
    )
    for number, row in enumerate(ROWS, start=1):
        fig.update_yaxes(title_text=row.title, type="log" if row.logarithmic else "linear", row=number, col=1)
        fig.add_annotation(
            text=dash_key(row),
            xref="x domain",
            yref=f"y{number if number > 1 else ''} domain",
            x=1.0,
            y=1.0,
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            font={"size": 11},
        )
    fig.update_xaxes(title_text="training step", row=len(ROWS), col=1)
    title, legend = {"text": "Experts during training"}, {"title": {"text": "method"}}
    return arranged(fig, title=title, height=820, legend=legend, updatemenus=[menu])


def dash_key(row: Row) -> str:
    """ "— BᵀB   - - BᵀB + δI": the meaning of a row's dashes in one line of text."""
    strokes = ("━━", "╍╍", "┈┈")
    return "    ".join(f"{stroke} {label}" for stroke, label in zip(strokes, row.measures.values()))


def explorer_traces(
    bands: pd.DataFrame, row: Row, methods: Sequence[str], leading: bool, visible: bool
) -> list[go.Scatter]:
    """One line per method and measure of a row; only the first line of a method is in the legend."""
    traces = []
    for method in methods:
        for number, ((measure, label), dash) in enumerate(zip(row.measures.items(), DASHES)):
            band = of(bands, method, measure)
            traces.append(
                go.Scatter(
                    **points_of(band, "step", "mean", ["low", "high"]),
                    mode="lines",
                    name=method,
                    legendgroup=method,
                    showlegend=leading and number == 0,
                    visible=visible,
                    line={"color": method_color(method), "dash": dash, "width": 2},
                    hovertemplate=(
                        f"{method}, {label}<br>step %{{x:.0f}}<br>mean %{{y:.4g}}"
                        "<br>seeds %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>"
                    ),
                )
            )
    return traces
