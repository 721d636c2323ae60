"""S'MoRE's Fig. 4, drawn: accuracy against parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import bars_of, interval_of, menu_of, points_of
from ...drawing.style import (
    FULL_WIDTH,
    NOTE,
    Mark,
    figure,
    method_marks,
    note_below,
    use_style,
)
from ...evidence import counted
from ..systems.endpoints import ENDPOINTS
from .measure import BudgetCurves
from .points import SIZES, pareto_front
from .step_ratios import METHOD

SIZE_LABELS = {
    "trainable": "trainable parameters",
    "active": "active parameters, most per token",
    "operations": "operations per token, multiply-accumulates",
}
MEASURE_LABELS = {"accuracy": "accuracy", "loss": "loss (nats per answer token)"}
FRONT = "#3A3A3A"
BARS = "Bars: 95 % intervals over seeds; gaps at equal budget, paired by seed"
APART = 1.09  # the factor between two methods' marks at one budget


def plot(found: BudgetCurves) -> Figure:
    """Accuracy, one row of panels per part: means and 95 % intervals over seeds against trainable parameters; on the right, gaps.

    Gaps are S'MoRE minus every other method at equal budget; gray steps are the Pareto front.
    """
    points, gaps = found.points, found.gaps[found.gaps["measure"] == "accuracy"]
    chosen = [selected(points, part, "accuracy") for part in found.parts]
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 1.0 + 2.6 * len(chosen))
        grid: Any = fig.subplots(len(chosen), 2, sharex="col", squeeze=False)
        letters = iter("abcdefgh")
        for (first, second), part, rows in zip(grid, found.parts, chosen):
            draw_curves(first, rows)
            if part in found.untrained:
                first.axhline(found.untrained[part], color=NOTE, linewidth=1.4, linestyle=":", zorder=1)
            draw_gaps(second, gaps[gaps["part"] == part], method_marks(rows["method"]))
            first.set_ylabel(MEASURE_LABELS["accuracy"])
            for panel, title in ((first, ENDPOINTS.get(part, part)), (second, f"{METHOD} minus each other system")):
                panel.set_title(f"({next(letters)}) {title}")
        for panel in grid[:-1].ravel():
            panel.set_xlabel("")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper left", ncols=len(labels), handlelength=1.4, columnspacing=1.0)
        dotted = " Dotted line: the model before training." if set(found.untrained) & set(found.parts) else ""
        note_below(fig, found.note(f"{BARS}. Above the dashed line, {METHOD} is better.{dotted}"))
    return fig


def selected(frame: pd.DataFrame, part: str, measure: str) -> pd.DataFrame:
    """The rows of one part and measure; raises ValueError if there are none."""
    rows = frame[(frame["part"] == part) & (frame["measure"] == measure)]
    if rows.empty:
        raise ValueError(
            f"no row of part = {part!r} and measure = {measure!r}; the parts are "
            f"{', '.join(map(repr, dict.fromkeys(frame['part'])))}, the measures "
            f"{', '.join(map(repr, dict.fromkeys(frame['measure'])))}"
        )
    return rows


def draw_gaps(panel: Any, gaps: pd.DataFrame, marks: dict[str, Mark]) -> None:
    """Differences by budget, one mark per other method, side by side around each budget."""
    others = [name for name in marks if name in set(gaps["against"])]
    for number, other in enumerate(others):
        rows, mark = gaps[gaps["against"] == other].sort_values("budget"), marks[other]
        panel.errorbar(
            rows["budget"].astype(float) * APART ** (number - (len(others) - 1) / 2),
            rows["difference"],
            interval_of(rows, "difference"),
            color=mark.color,
            marker=mark.marker,
            linestyle="none",
            elinewidth=2.0,
            label=other,
            zorder=3,
        )
    panel.axhline(0, color="0.3", linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
    panel.set_xscale("log")
    if len(gaps):
        readable_log_ticks(panel, gaps["budget"].astype(float), wide=1.4)
    else:
        panel.text(0.5, 0.6, "no equal budget", transform=panel.transAxes, ha="center", color=NOTE)
    panel.set_xlabel("budget (trainable parameters)")
    panel.grid(axis="y")


def draw_curves(panel: Any, rows: pd.DataFrame) -> None:
    front = rows[pareto_front(rows)].sort_values("trainable")
    stairs = {"drawstyle": "steps-post", "solid_capstyle": "round", "linewidth": 6, "alpha": 0.18}
    panel.plot(front["trainable"], front["mean"], color=FRONT, zorder=1, label="Pareto front", **stairs)
    for method, mark in method_marks(rows["method"]).items():
        curve = rows[rows["method"] == method].sort_values("trainable")
        panel.errorbar(
            curve["trainable"],
            curve["mean"],
            interval_of(curve),
            color=mark.color,
            marker=mark.marker,
            elinewidth=1.0,
            label=method,
            zorder=3,
        )
    panel.set_xscale("log")
    readable_log_ticks(panel, rows["trainable"])
    panel.set_xlabel(SIZE_LABELS["trainable"])
    panel.grid(axis="y")


def readable_log_ticks(panel: Any, sizes: pd.Series, wide: float = 1.25) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, written as 20k or 1M, for panels with one or two decades.

    wide: the factor by which the axis extends beyond the sizes.
    """
    low, high = float(sizes.min()) / wide, float(sizes.max()) * wide
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    ticks = [step * decade for decade in decades for step in steps if low <= step * decade <= high]
    panel.set_xlim(low, high)
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))


def thousands(value: float) -> str:
    """20000 -> "20k", 1500000 -> "1.5M"."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def interactive(found: BudgetCurves) -> go.Figure:
    """Curves on the left, gaps on the right; menus for part and measure, and for the size; hover shows all numbers."""
    points, gaps = found.points, found.gaps
    views = list(dict.fromkeys(zip(points["part"], points["measure"])))
    marks = method_marks(points["method"])
    others = [name for name in marks if name in set(gaps["against"])]
    fig = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.12, subplot_titles=["means", f"{METHOD} minus each other system"]
    )
    data = view_data(points, gaps, marks, others, *views[0])
    for (method, mark), curve in zip(marks.items(), data):
        fig.add_scatter(
            **curve,
            name=method,
            mode="lines+markers",
            line={"color": mark.color},
            marker={"symbol": mark.symbol, "size": 9},
            hovertemplate=f"{method}, budget %{{customdata[0]:,.0f}}<br>%{{y:.4f}} "
            "[%{customdata[1]:.4f}, %{customdata[2]:.4f}], %{customdata[3]:.0f} seeds<br>trainable "
            "%{customdata[4]:,.0f}, active %{customdata[5]:,.0f}<br>operations per token "
            "%{customdata[6]:,.0f}<extra></extra>",
            legendgroup=method,
            row=1,
            col=1,
        )
    for other, gap in zip(others, data[len(marks) :]):
        fig.add_scatter(
            **gap,
            name=other,
            mode="markers",
            marker={"color": marks[other].color, "symbol": marks[other].symbol, "size": 9},
            hovertemplate=f"{METHOD} minus {other}, budget %{{customdata[0]:,.0f}}<br>%{{y:+.4f}} "
            "[%{customdata[1]:+.4f}, %{customdata[2]:+.4f}], %{customdata[3]:.0f} seeds<extra></extra>",
            legendgroup=other,
            showlegend=False,
            row=1,
            col=2,
        )
    dash = {"dash": "dash", "color": "#3A3A3A", "width": 1}
    fig.add_hline(0, line=dash, row=1, col=2, exclude_empty_subplots=False)
    changes = {}
    for part, measure in views:
        data = view_data(points, gaps, marks, others, part, measure)
        values = {
            "y": [one["y"] for one in data],
            "error_y.array": [one["error_y"]["array"] for one in data],
            "error_y.arrayminus": [one["error_y"]["arrayminus"] for one in data],
            "customdata": [one["customdata"] for one in data],
        }
        changes[f"{part}: {measure}"] = [values, {"yaxis.title.text": MEASURE_LABELS[str(measure)]}]
    curves = list(range(len(marks)))
    axes = {
        size: [
            {"x": [curve_data(points, method, *views[0], size)["x"] for method in marks]},
            {"xaxis.title.text": SIZE_LABELS[size]},
            curves,
        ]
        for size in SIZES
    }
    return arranged(
        fig,
        f"{counted(points['seeds'], 'seed')}. {BARS}.",
        height=560,
        title={"text": "Systems of equal budget by size"},
        xaxis={"type": "log", "title": {"text": SIZE_LABELS["trainable"]}},
        xaxis2={"type": "log", "title": {"text": "budget (trainable parameters)"}},
        yaxis={"title": {"text": MEASURE_LABELS[str(views[0][1])]}},
        updatemenus=[menu_of("Tasks and measure", changes), menu_of("Size", axes)],
    )


def view_data(
    points: pd.DataFrame, gaps: pd.DataFrame, methods: Iterable[str], others: Sequence[str], part: str, measure: str
) -> list[dict[str, Any]]:
    """What the traces show for one part and measure: each method's curve, then the gaps of the others side by side."""
    data = [curve_data(points, method, part, measure) for method in methods]
    for number, other in enumerate(others):
        own = (gaps["part"] == part) & (gaps["measure"] == measure) & (gaps["against"] == other)
        rows = gaps[own].sort_values("budget")
        rows = rows.assign(place=rows["budget"].astype(float) * APART ** (number - (len(others) - 1) / 2))
        bars = {**bars_of(rows, "difference"), "thickness": 1.5}
        data.append({**points_of(rows, "place", "difference", ["budget", "low", "high", "seeds"]), "error_y": bars})
    return data


def curve_data(points: pd.DataFrame, method: str, part: str, measure: str, size: str = "trainable") -> dict[str, Any]:
    """x, y, error_y and customdata of one trace, sorted by budget, so that only x changes with the size."""
    own = (points["part"] == part) & (points["measure"] == measure) & (points["method"] == method)
    rows = points[own].sort_values("budget")
    bars = {**bars_of(rows), "thickness": 1}
    return {**points_of(rows, size, "mean", ["budget", "low", "high", "seeds", *SIZES]), "error_y": bars}
