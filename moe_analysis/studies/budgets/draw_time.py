"""S'MoRE's Table 7, drawn: time of a training step with each adapter over MixLoRA's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, note_below, use_style
from .draw import interval_of, method_marks
from .step_ratios import HIGH, LOW, MEAN

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .measure import StepTimes

BAND, PAPER = "#F3E3C3", "#8F6200"


def plot(found: StepTimes, ax: Axes | None = None) -> Figure | Axes:
    """Ratios with their intervals, beside what the operations let expect."""
    if ax is None:
        return time_figure(found.times, found.expected)
    draw_times(ax, found.times, found.expected)
    ax.legend(fontsize=6)
    return ax


def interactive(found: StepTimes) -> go.Figure:
    """The same with milliseconds under the pointer."""
    return time_explorer(found.times, found.expected)


def time_figure(times: pd.DataFrame, expected: pd.DataFrame | None = None, reference: str = "MixLoRA") -> Figure:
    """Ratios of `step_times` with 95 % intervals, one row per size, beside the paper's range for S'MoRE.

    times, expected: one table of `step_times` and of `operation_ratios`, or several with a column size that tells them
    apart. The reference is the line at 1. Rings stand where the operations that the modules compute would put the ratio.

    >>> figure = time_figure(times)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['one size']
    """
    with use_style(large=True):
        rows = len(sizes_of(times))
        fig = figure(FULL_WIDTH, 1.6 + (0.12 + 0.3 * len(others_of(times, reference))) * rows)
        panel: Any = fig.subplots()
        draw_times(panel, times, expected, reference)
        fig.legend(*panel.get_legend_handles_labels(), loc="outside upper left", ncols=3, columnspacing=1.2)
        note_below(fig, reading_of(times))
    return fig


def reading_of(times: pd.DataFrame) -> str:
    """What the bars of both drawings mean: rounds stand where other figures have seeds."""
    return f"{int(times['rounds'].max())} rounds in turns, equal parameters; bars: 95 % intervals of the median over rounds."


def draw_times(panel: Any, times: pd.DataFrame, expected: pd.DataFrame | None, reference: str = "MixLoRA") -> None:
    """All but the legend; arguments as for `time_figure`."""
    marks, sizes, others = method_marks(times["method"]), sizes_of(times), others_of(times, reference)
    panel.axvspan(LOW, HIGH, color=BAND, linewidth=0, zorder=0, label=f"the paper's S'MoRE, {LOW} to {HIGH}")
    panel.axvline(MEAN, color=PAPER, linewidth=1.4, zorder=1, label=f"its mean, {MEAN}")
    panel.axvline(1, color="0.3", linewidth=1.4, linestyle=(0, (4, 2)), zorder=1, label=reference)
    for method in others:
        rows = placed(times, method, sizes, others)
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
        if expected is not None:
            rings = placed(expected, method, sizes, others)
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
    panel.set_ylim(len(sizes) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    panel.margins(x=0.08)
    panel.set_xlabel(f"time of a training step over {reference}'s")
    panel.grid(axis="x")
    panel.set_axisbelow(True)


def sizes_of(times: pd.DataFrame) -> list[str]:
    """The rows of the figure, in the order of the table."""
    return list(dict.fromkeys(times["size"].astype(str))) if "size" in times else ["one size"]


def others_of(times: pd.DataFrame, reference: str) -> list[str]:
    """The methods that have marks; the reference is a line, unless there is nothing else."""
    methods = list(dict.fromkeys(times["method"]))
    return [name for name in methods if name != reference] or methods


def placed(frame: pd.DataFrame, method: str, sizes: Sequence[str], others: Sequence[str]) -> pd.DataFrame:
    """The method's rows with a column y: the row of their size, methods one below another in it."""
    rows = frame[frame["method"] == method]
    line = (
        rows["size"].astype(str).map(sizes.index).astype(float) if "size" in rows else pd.Series(0.0, index=rows.index)
    )
    return rows.assign(y=line + 0.7 * ((others.index(method) + 0.5) / len(others) - 0.5))


def time_explorer(times: pd.DataFrame, expected: pd.DataFrame | None = None, reference: str = "MixLoRA") -> go.Figure:
    """The interactive twin of Table 7: hover tells milliseconds, quartiles, parameters and rounds.

    >>> figure = time_explorer(times)
    >>> sorted({trace.type for trace in figure.data})
    ['scatter']
    """
    import plotly.graph_objects as go

    sizes, others = sizes_of(times), others_of(times, reference)
    fig = go.Figure()
    fig.add_vrect(LOW, HIGH, fillcolor=BAND, line_width=0, layer="below", annotation_text="S'MoRE in the paper")
    fig.add_vline(1, line={"dash": "dash", "color": "#3A3A3A", "width": 1}, annotation_text=reference)
    columns = ["seconds", "seconds_low", "seconds_high", "trainable", "rounds", "ratio_low", "ratio_high"]
    marks = method_marks(times["method"])
    for method in others:
        rows = placed(times, method, sizes, others)
        down, up = interval_of(rows, "ratio", "ratio_low", "ratio_high").astype(np.float32)
        numbers = rows[columns].assign(**{name: 1e3 * rows[name] for name in columns[:3]})
        fig.add_scatter(
            x=rows["ratio"].to_numpy(np.float32),
            y=rows["y"].to_numpy(np.float32),
            mode="markers",
            name=method,
            marker={"color": marks[method].color, "symbol": marks[method].symbol, "size": 11},
            error_x={"array": up, "arrayminus": down, "symmetric": False, "thickness": 2},
            customdata=numbers.to_numpy(np.float32),
            text=rows.get("size", pd.Series("", index=rows.index)).astype(str),
            hovertemplate=f"{method} %{{text}}<br>%{{x:.3f}} times [%{{customdata[5]:.3f}}, %{{customdata[6]:.3f}}]<br>"
            "%{customdata[0]:.2f} ms, quartiles %{customdata[1]:.2f} to %{customdata[2]:.2f}, %{customdata[4]:.0f} "
            "rounds<br>%{customdata[3]:,.0f} trainable parameters<extra></extra>",
        )
    if expected is not None:
        rings = pd.concat([placed(expected, method, sizes, others) for method in others])
        fig.add_scatter(
            x=rings["computed_ratio"].to_numpy(np.float32),
            y=rings["y"].to_numpy(np.float32),
            mode="markers",
            name="expected from operations",
            marker={"symbol": "circle-open", "size": 14, "color": "#5A5A5A"},
            text=rings["method"],
            customdata=rings[["needed_ratio"]].to_numpy(np.float32),
            hovertemplate="%{text}: operations computed %{x:.3f} times, needed %{customdata[0]:.3f} times<extra></extra>",
        )
    fig.update_xaxes(title_text=f"time of a training step over {reference}'s")
    fig.update_yaxes(tickvals=list(range(len(sizes))), ticktext=sizes, range=[len(sizes) - 0.4, -0.6], zeroline=False)
    fig.update_layout(template="plotly_white", height=300 + 60 * len(sizes), title={"text": "Time of a training step"})
    return arranged(fig, reading_of(times))
