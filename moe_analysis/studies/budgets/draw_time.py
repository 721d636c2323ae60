"""S'MoRE's Table 7, drawn: time of a training step with each adapter, relative to MixLoRA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...drawing.layout import arranged
from ...drawing.marks import bars_of, interval_of, points_of
from ...drawing.style import FULL_WIDTH, figure, method_marks, note_below, use_style
from .measure import StepTimes
from .step_ratios import HIGH, LOW, MEAN, REFERENCE

BAND, PAPER = "#F3E3C3", "#8F6200"
# rounds are repeated instead of seeds
READING = "Systems take turns, at equal parameters; bars are 95 % intervals of the median over rounds."


def plot(found: StepTimes, ax: Axes | None = None) -> Figure | Axes:
    """Ratios with 95 % intervals, one row per size, and the paper's range for S'MoRE.

    The reference is the line at 1. A ring is the ratio of the operations that the modules compute.
    """
    if ax is not None:
        draw_times(ax, found)
        ax.legend(fontsize=6)
        return ax
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 1.6 + (0.12 + 0.3 * len(others_of(found.times))) * len(sizes_of(found.times)))
        panel: Any = fig.subplots()
        draw_times(panel, found)
        fig.legend(*panel.get_legend_handles_labels(), loc="outside upper left", ncols=3, columnspacing=1.2)
        note_below(fig, found.note(READING))
    return fig


def draw_times(panel: Any, found: StepTimes) -> None:
    """Everything except the legend."""
    marks, sizes, others = method_marks(found.times["method"]), sizes_of(found.times), others_of(found.times)
    panel.axvspan(LOW, HIGH, color=BAND, linewidth=0, zorder=0, label=f"the paper's S'MoRE, {LOW} to {HIGH}")
    panel.axvline(MEAN, color=PAPER, linewidth=1.4, zorder=1, label=f"its mean, {MEAN}")
    panel.axvline(1, color="0.3", linewidth=1.4, linestyle=(0, (4, 2)), zorder=1, label=REFERENCE)
    for method in others:
        rows = placed(found.times, method, sizes, others)
        panel.errorbar(
            rows["ratio"],
            rows["y"],
            xerr=interval_of(rows, "ratio", "ratio_low", "ratio_high"),
            color=marks[method].color,
            marker=marks[method].marker,
            markersize=8,
            linestyle="none",
            zorder=3,
            label=method,
        )
        for row in rows.itertuples():
            panel.annotate(
                f"{row.ratio:.2f}", (row.ratio, row.y), (0, 7), textcoords="offset points", ha="center", fontsize=9.5
            )
        rings = placed(found.expected, method, sizes, others)
        panel.plot(
            rings["computed_ratio"],
            rings["y"],
            "o",
            markerfacecolor="none",
            color="0.35",
            markersize=9,
            markeredgewidth=1.2,
            zorder=2,
            label="expected from operations" if method == others[0] else "",
        )
    panel.set_yticks(range(len(sizes)), sizes)
    panel.tick_params(axis="y", length=0)
    panel.margins(x=0.08)
    panel.set(ylim=(len(sizes) - 0.4, -0.6), xlabel=f"time of a training step / {REFERENCE}'s")
    panel.grid(axis="x")
    panel.set_axisbelow(True)


def sizes_of(times: pd.DataFrame) -> list[str]:
    """The rows of the figure, in the order of the table."""
    return list(times["size"].unique())


def others_of(times: pd.DataFrame) -> list[str]:
    """The methods that have marks; the reference is a line, unless it is the only method."""
    methods = list(times["method"].unique())
    return [name for name in methods if name != REFERENCE] or methods


def placed(frame: pd.DataFrame, method: str, sizes: Sequence[str], others: Sequence[str]) -> pd.DataFrame:
    """The method's rows with a column y: the row of their size, with methods below each other in it."""
    rows = frame[frame["method"] == method]
    line = rows["size"].map(sizes.index).astype(float)
    return rows.assign(y=line + 0.7 * ((others.index(method) + 0.5) / len(others) - 0.5))


def interactive(found: StepTimes) -> go.Figure:
    """The same; hover shows milliseconds, quartiles, parameters and rounds."""
    times, sizes, others = found.times, sizes_of(found.times), others_of(found.times)
    fig = go.Figure()
    # translucent: its text has to be seen on a dark page too
    fig.add_vrect(
        LOW, HIGH, fillcolor=PAPER, opacity=0.2, line_width=0, layer="below", annotation_text="S'MoRE in the paper"
    )
    fig.add_vline(1, line={"dash": "dash", "color": "#3A3A3A", "width": 1}, annotation_text=REFERENCE)
    fig.layout.annotations[1].update(y=0, yanchor="bottom")  # the names are beside each other only where there is room
    columns = ["seconds", "seconds_low", "seconds_high", "trainable", "rounds", "ratio_low", "ratio_high"]
    marks = method_marks(times["method"])
    for method in others:
        rows = placed(times, method, sizes, others)
        milliseconds = rows.assign(**{name: 1e3 * rows[name] for name in columns[:3]})
        fig.add_scatter(
            **points_of(milliseconds, "ratio", "y", columns),
            mode="markers",
            name=method,
            marker={"color": marks[method].color, "symbol": marks[method].symbol, "size": 11},
            error_x={**bars_of(rows, "ratio", "ratio_low", "ratio_high"), "thickness": 2},
            text=rows["size"],
            hovertemplate=f"{method} %{{text}}<br>%{{x:.3f}} times [%{{customdata[5]:.3f}}, %{{customdata[6]:.3f}}]<br>"
            "%{customdata[0]:.2f} ms, quartiles %{customdata[1]:.2f} to %{customdata[2]:.2f}, %{customdata[4]:.0f} "
            "rounds<br>%{customdata[3]:,.0f} trainable parameters<extra></extra>",
        )
    rings = pd.concat([placed(found.expected, method, sizes, others) for method in others])
    fig.add_scatter(
        **points_of(rings, "computed_ratio", "y", ["needed_ratio"]),
        mode="markers",
        name="expected from operations",
        marker={"symbol": "circle-open", "size": 14, "color": "#5A5A5A"},
        text=rings["method"],
        hovertemplate="%{text}: operations computed %{x:.3f} times, needed %{customdata[0]:.3f} times<extra></extra>",
    )
    fig.update_xaxes(title_text=f"time of a training step / {REFERENCE}'s")
    fig.update_yaxes(tickvals=list(range(len(sizes))), ticktext=sizes, range=[len(sizes) - 0.4, -0.6], zeroline=False)
    return arranged(fig, found.note(READING), height=300 + 60 * len(sizes), title={"text": "Time of a training step"})
