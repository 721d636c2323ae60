"""S'MoRE's Table 7, drawn: time of a training step with each adapter over MixLoRA's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, use_style
from .draw import interval_of, method_marks
from .step_ratios import HIGH, LOW, MEAN

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .measure import StepTimes

BAND, PAPER = "#F3E3C3", "#8F6200"
SPREAD = 0.66  # of a method's line, shared by its sizes


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
    """Ratios of `step_times` with 95 % intervals, one line per method, beside the paper's range for S'MoRE.

    times, expected: one table of `step_times` and of `operation_ratios`, or several with a column size that tells them
    apart. Rings stand where the operations that the modules compute would put the ratio.

    >>> figure = time_figure(times)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['LoRA', 'MixLoRA', "S'MoRE"]
    """
    with use_style():
        fig = figure(FULL_WIDTH, 1.4 + (0.2 + 0.11 * sizes_of(times)) * times["method"].nunique())
        panel: Any = fig.subplots()
        draw_times(panel, times, expected, reference)
        fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def draw_times(panel: Any, times: pd.DataFrame, expected: pd.DataFrame | None, reference: str = "MixLoRA") -> None:
    """All but the legend; arguments as for `time_figure`."""
    marks = method_marks(times["method"])
    panel.axvspan(LOW, HIGH, color=BAND, linewidth=0, zorder=0, label=f"S'MoRE in the paper, {LOW} to {HIGH}")
    panel.axvline(MEAN, color=PAPER, linewidth=0.9, zorder=1, label=f"its mean, {MEAN}")
    panel.axvline(1, color="0.3", linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    for line, (method, mark) in enumerate(marks.items()):
        rows = placed(times, method, line)
        panel.errorbar(
            rows["ratio"],
            rows["y"],
            xerr=interval_of(rows, "ratio", "ratio_low", "ratio_high"),
            color=mark.color,
            marker=mark.marker,
            linestyle="none",
            capsize=2,
            elinewidth=0.8,
            zorder=3,
        )
        if expected is not None:
            rings = placed(expected, method, line)
            panel.plot(
                rings["computed_ratio"],
                rings["y"],
                "o",
                markerfacecolor="none",
                color="0.35",
                markersize=6,
                markeredgewidth=0.8,
                zorder=2,
                label="" if line else "expected from operations",
            )
    panel.set_yticks(range(len(marks)), list(marks))
    panel.set_ylim(len(marks) - 0.5, -0.5)
    panel.set_xlabel(f"time of a training step over {reference}'s{order_of(times)}")
    panel.grid(axis="x")
    panel.set_axisbelow(True)


def placed(frame: pd.DataFrame, method: str, line: int) -> pd.DataFrame:
    """The method's rows with a column y: its sizes one below another around its line."""
    sizes = list(dict.fromkeys(frame["size"])) if "size" in frame else ["one"]
    rows = frame[frame["method"] == method]
    number = rows["size"].map(sizes.index) if "size" in rows else pd.Series(0, index=rows.index)
    return rows.assign(y=line + SPREAD * ((number + 0.5) / len(sizes) - 0.5))


def sizes_of(times: pd.DataFrame) -> int:
    return times["size"].nunique() if "size" in times else 1


def order_of(times: pd.DataFrame) -> str:
    """What the axis says of the sizes on a method's line; nothing of a single size."""
    if sizes_of(times) == 1:
        return ""
    return f"\neach system from top to bottom: {'; '.join(map(str, dict.fromkeys(times['size'])))}"


def time_explorer(times: pd.DataFrame, expected: pd.DataFrame | None = None, reference: str = "MixLoRA") -> go.Figure:
    """The interactive twin of Table 7: hover tells milliseconds, quartiles, parameters and rounds.

    >>> figure = time_explorer(times)
    >>> sorted({trace.type for trace in figure.data})
    ['scatter']
    """
    import plotly.graph_objects as go

    fig = go.Figure()
    fig.add_vrect(LOW, HIGH, fillcolor=BAND, line_width=0, layer="below", annotation_text="S'MoRE in the paper")
    fig.add_vline(1, line={"dash": "dash", "color": "#3A3A3A", "width": 1})
    columns = ["seconds", "seconds_low", "seconds_high", "trainable", "rounds", "ratio_low", "ratio_high"]
    for method, mark in method_marks(times["method"]).items():
        rows = times[times["method"] == method]
        down, up = interval_of(rows, "ratio", "ratio_low", "ratio_high").astype(np.float32)
        numbers = rows[columns].assign(**{name: 1e3 * rows[name] for name in columns[:3]})
        fig.add_scatter(
            x=rows["ratio"].to_numpy(np.float32),
            y=rows["method"],
            mode="markers",
            name=method,
            marker={"color": mark.color, "symbol": mark.symbol, "size": 10},
            error_x={"array": up, "arrayminus": down, "symmetric": False, "thickness": 1},
            customdata=numbers.to_numpy(np.float32),
            text=rows.get("size", pd.Series("", index=rows.index)).astype(str),
            hovertemplate=f"{method} %{{text}}<br>%{{x:.3f}} times [%{{customdata[5]:.3f}}, %{{customdata[6]:.3f}}]<br>"
            "%{customdata[0]:.2f} ms, quartiles %{customdata[1]:.2f} to %{customdata[2]:.2f}, %{customdata[4]:.0f} "
            "rounds<br>%{customdata[3]:,.0f} trainable parameters<extra></extra>",
        )
    if expected is not None:
        fig.add_scatter(
            x=expected["computed_ratio"].to_numpy(np.float32),
            y=expected["method"],
            mode="markers",
            name="expected from operations",
            marker={"symbol": "circle-open", "size": 14, "color": "#5A5A5A"},
            customdata=expected[["needed_ratio"]].to_numpy(np.float32),
            hovertemplate="operations computed %{x:.3f} times, needed %{customdata[0]:.3f} times<extra></extra>",
        )
    fig.update_xaxes(title_text=f"time of a training step over {reference}'s")
    fig.update_yaxes(autorange="reversed")
    fig.update_layout(template="plotly_white", height=520, title={"text": "Time of a training step"})
    return arranged(fig)
