"""S'MoRE's Fig. 4, drawn: accuracy against parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, MARKERS, PALETTE, SYMBOLS, Mark, figure, method_color, use_style
from ..systems.endpoints import ENDPOINTS
from .points import SIZES, pareto_front

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import BudgetCurves

SIZE_LABELS = {
    "trainable": "trainable parameters",
    "active": "active parameters, of a token at most",
    "operations": "operations a token, multiply-accumulates",
}
MEASURE_LABELS = {"accuracy": "accuracy", "loss": "loss (nats per answer token)"}
FRONT = "#3A3A3A"


def plot(found: BudgetCurves) -> Figure:
    """One row of panels per endpoint that was trained on."""
    return budget_figure(found.points, found.parts)


def interactive(found: BudgetCurves) -> go.Figure:
    """Every part and measure."""
    return budget_explorer(found.points)


def method_marks(methods: Iterable[str]) -> dict[str, Mark]:
    """A mark for each method: its color wherever it is drawn, or one that is free where two methods share theirs."""
    names = list(dict.fromkeys(methods))
    colors: dict[str, str] = {}
    for name in names:
        color = method_color(name)
        free = [one for one in PALETTE if one not in colors.values() and one not in map(method_color, names)]
        colors[name] = free[0] if color in colors.values() and free else color
    return {
        name: Mark(colors[name], MARKERS[number % len(MARKERS)], SYMBOLS[number % len(SYMBOLS)])
        for number, name in enumerate(names)
    }


def selected(frame: pd.DataFrame, part: str, measure: str) -> pd.DataFrame:
    """The rows of one part and measure; raises ValueError when there are none."""
    rows = frame[(frame["part"] == part) & (frame["measure"] == measure)]
    if rows.empty:
        raise ValueError(
            f"no row of part = {part!r} and measure = {measure!r}; the parts are "
            f"{', '.join(map(repr, dict.fromkeys(frame['part'])))}, the measures "
            f"{', '.join(map(repr, dict.fromkeys(frame['measure'])))}"
        )
    return rows


def budget_figure(points: pd.DataFrame, parts: Sequence[str], measure: str = "accuracy") -> Figure:
    """Fig. 4 from `budget_points`: means and 95 % intervals over seeds against trainable and active parameters.

    One row of panels per part; gray stairs are the Pareto front of each panel.

    >>> figure = budget_figure(budget_marks, ["originals"])
    >>> [panel.get_xlabel() for panel in figure.axes]
    ['trainable parameters', 'active parameters, of a token at most']
    """
    chosen = [selected(points, part, measure) for part in parts]
    with use_style():
        fig = figure(FULL_WIDTH, 0.6 + 2.4 * len(chosen))
        grid: Any = fig.subplots(len(chosen), 2, sharey="row", sharex="col", squeeze=False)
        letters = iter("abcdefgh")
        for panels, part, rows in zip(grid, parts, chosen):
            for panel, size in zip(panels, SIZES):
                draw_curves(panel, rows, size)
                panel.set_title(f"({next(letters)}) {ENDPOINTS.get(part, part)}, {size} parameters")
            panels[0].set_ylabel(MEASURE_LABELS[measure])
        for panel in grid[:-1].ravel():
            panel.set_xlabel("")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))
    return fig


def draw_curves(panel: Any, rows: pd.DataFrame, size: str) -> None:
    front = rows[pareto_front(rows, size)].sort_values(size)
    panel.plot(
        front[size],
        front["mean"],
        color=FRONT,
        linewidth=4,
        alpha=0.18,
        solid_capstyle="round",
        zorder=1,
        drawstyle="steps-post",
        label="Pareto front",
    )
    for method, mark in method_marks(rows["method"]).items():
        curve = rows[rows["method"] == method].sort_values(size)
        panel.errorbar(
            curve[size],
            curve["mean"],
            interval_of(curve),
            color=mark.color,
            marker=mark.marker,
            capsize=2,
            elinewidth=0.8,
            linewidth=1.2,
            label=method,
            zorder=3,
        )
    panel.set_xscale("log")
    readable_log_ticks(panel, rows[size])
    panel.set_xlabel(SIZE_LABELS[size])
    panel.grid(axis="y")


def readable_log_ticks(panel: Any, sizes: pd.Series) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, written as 20k or 1M, for panels of one or two decades."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = float(sizes.min()) / 1.25, float(sizes.max()) * 1.25
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


def interval_of(rows: pd.DataFrame, value: str = "mean", low: str = "low", high: str = "high") -> np.ndarray:
    """Distances (2, n) from the value down and up to the interval's ends; 0 where there is none."""
    ends = np.stack([rows[value] - rows[low], rows[high] - rows[value]])
    return np.nan_to_num(ends.astype(float))


def budget_explorer(points: pd.DataFrame) -> go.Figure:
    """The interactive twin of Fig. 4: menus for the part with its measure, and for the size; hover has all numbers.

    >>> figure = budget_explorer(budget_marks)
    >>> [trace.name for trace in figure.data][:4]
    ['LoRA', 'HydraLoRA', 'MixLoRA', "S'MoRE"]
    """
    import plotly.graph_objects as go

    views = list(dict.fromkeys(zip(points["part"], points["measure"])))
    marks = method_marks(points["method"])
    fig = go.Figure()
    for method, mark in marks.items():
        fig.add_scatter(
            **curve_data(points, method, *views[0]),
            name=method,
            mode="lines+markers",
            line={"color": mark.color},
            marker={"symbol": mark.symbol, "size": 9},
            hovertemplate=f"{method}, budget %{{customdata[0]:,.0f}}<br>%{{y:.4f}} "
            "[%{customdata[1]:.4f}, %{customdata[2]:.4f}], %{customdata[3]:.0f} seeds<br>trainable "
            "%{customdata[4]:,.0f}, active %{customdata[5]:,.0f}<br>operations a token "
            "%{customdata[6]:,.0f}<extra></extra>",
        )
    buttons = []
    for part, measure in views:
        data = [curve_data(points, method, part, measure) for method in marks]
        buttons.append(
            {
                "label": f"{part}: {measure}",
                "method": "update",
                "args": [
                    {
                        "y": [one["y"] for one in data],
                        "error_y.array": [one["error_y"]["array"] for one in data],
                        "error_y.arrayminus": [one["error_y"]["arrayminus"] for one in data],
                        "customdata": [one["customdata"] for one in data],
                    },
                    {"yaxis.title.text": MEASURE_LABELS[str(measure)]},
                ],
            }
        )
    axes = [
        {
            "label": size,
            "method": "update",
            "args": [
                {"x": [curve_data(points, method, *views[0], size)["x"] for method in marks]},
                {"xaxis.title.text": SIZE_LABELS[size]},
            ],
        }
        for size in SIZES
    ]
    fig.update_layout(
        template="plotly_white",
        height=560,
        title={"text": "Systems of equal budget by size"},
        xaxis={"type": "log", "title": {"text": SIZE_LABELS["trainable"]}},
        yaxis={"title": {"text": MEASURE_LABELS[str(views[0][1])]}},
        updatemenus=[{"buttons": buttons}, {"buttons": axes}],
    )
    return arranged(fig)


def curve_data(points: pd.DataFrame, method: str, part: str, measure: str, size: str = "trainable") -> dict[str, Any]:
    """x, y, error_y and customdata of one trace; by budget, so that only x changes with the size."""
    own = (points["part"] == part) & (points["measure"] == measure) & (points["method"] == method)
    rows = points[own].sort_values("budget")
    down, up = interval_of(rows).astype(np.float32)
    return {
        "x": rows[size].to_numpy(np.float32),
        "y": rows["mean"].to_numpy(np.float32),
        "error_y": {"array": up, "arrayminus": down, "symmetric": False, "thickness": 1},
        "customdata": rows[["budget", "low", "high", "seeds", *SIZES]].to_numpy(np.float32),
    }
