"""S'MoRE's Table 5, drawn: more layers at one budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from ...drawing.layout import arranged
from ...drawing.marks import bars_of, float32, interval_of, menu_of
from ...drawing.style import FULL_WIDTH, SYSTEM_COLORS, figure, note_below, use_style
from ...evidence import counted
from ..systems.endpoints import ENDPOINTS
from .differences import ALL, drawn_budgets
from .draw import MEASURE_LABELS, selected, thousands
from .measure import MoreLayers
from .step_ratios import METHOD

LAYER_COLORS = ("#7FB8DA", "#3B87BF", "#08519C", "#08306B")  # small to large budgets


def plot(found: MoreLayers) -> Figure:
    """Accuracy, one row per part: on the left means and 95 % intervals over seeds by the number of layers, one line per budget; on
    the right differences to the fewest layers, paired by seed, at every equal budget and, if there are several, over
    all."""
    points, table = found.points, drawn_budgets(found.table)
    chosen = [tuple(selected(frame, part, "accuracy") for frame in (points, table)) for part in found.parts]
    colors = budget_colors([*points["budget"], *table["budget"]])
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 0.9 + 2.4 * len(chosen))
        grid: Any = fig.subplots(len(chosen), 2, sharex="col", squeeze=False)
        letters = iter("abcdefgh")
        for (first, second), part, (rows, compared) in zip(grid, found.parts, chosen):
            draw_layers(first, rows, colors, "mean")
            draw_layers(second, compared, colors, "difference")
            second.axhline(0, color="0.3", linewidth=1.2, linestyle=(0, (4, 2)), zorder=1)
            first.set_ylabel(MEASURE_LABELS["accuracy"])
            second.set_ylabel(f"difference to L = {table['fewest'].iloc[0]}")
            for panel, title in ((first, "means"), (second, "paired differences")):
                panel.set_title(f"({next(letters)}) {title}, {ENDPOINTS.get(part, part)}")
        for panel in grid[-1]:
            panel.set_xlabel("layers L of S'MoRE")
        if len(colors) > 1:
            fig.legend(*grid[0, 1].get_legend_handles_labels(), loc="outside upper left", ncols=len(colors))
        note_below(fig, found.note(reading_of(table)))
    return fig


def reading_of(table: pd.DataFrame) -> str:
    """What the bars of both drawings mean, and the budget if there is only one."""
    budgets = set(table["budget"])
    alone = f" One budget: {thousands(budgets.pop())} trainable parameters." if len(budgets) == 1 else ""
    return f"Bars are 95 % intervals over seeds; differences are paired by seed.{alone}"


def draw_layers(panel: Any, rows: pd.DataFrame, colors: dict[Any, str], value: str) -> None:
    """One mark per number of layers and budget, budgets side by side; lines connect means."""
    counts = sorted(set(rows["layers"]))
    for number, (budget, color) in enumerate(colors.items()):
        line = rows[rows["budget"] == budget].sort_values("layers")
        if line.empty:
            continue
        panel.errorbar(
            line["layers"] + 0.09 * (number - (len(colors) - 1) / 2),
            line[value],
            interval_of(line, value),
            color=color,
            marker="D" if budget == ALL else "o",
            markersize=8,
            linestyle="-" if value == "mean" else "none",
            label=budget_name(budget),
        )
    panel.set_xticks(counts)
    panel.set_xlim(counts[0] - 0.5, counts[-1] + 0.5)
    panel.grid(axis="y")


def budget_colors(budgets: Iterable[Any]) -> dict[Any, str]:
    """Budgets from small to large, then "all", each with its color; a single budget has that of S'MoRE."""
    numbers = sorted({budget for budget in budgets if budget != ALL})
    if len(numbers) == 1:
        return {numbers[0]: SYSTEM_COLORS[METHOD]}
    shades = {budget: LAYER_COLORS[min(number, len(LAYER_COLORS) - 1)] for number, budget in enumerate(numbers)}
    return shades | ({ALL: SYSTEM_COLORS[METHOD]} if ALL in set(budgets) else {})


def budget_name(budget: Any) -> str:
    return "all equal budgets" if budget == ALL else f"budget {thousands(budget)}"


def interactive(found: MoreLayers) -> go.Figure:
    """Paired differences to the fewest layers; a menu for part and measure."""
    table = drawn_budgets(found.table)
    views = list(dict.fromkeys(zip(table["part"], table["measure"])))
    fig, shown = go.Figure(), []
    for part, measure in views:
        rows = selected(table, part, measure)
        for budget, color in budget_colors(rows["budget"]).items():
            line = rows[rows["budget"] == budget].sort_values("layers")
            shown.append((part, measure))
            fig.add_scatter(
                x=line["layers"],
                y=float32(line["difference"]),
                mode="lines+markers",
                name=budget_name(budget),
                visible=shown[-1] == views[0],
                line={"color": color},
                error_y={**bars_of(line, "difference"), "thickness": 1},
                customdata=float32(line[["mean", "mean_against", "low", "high", "seeds"]]),
                hovertemplate="L = %{x}: %{customdata[0]:.4f}, fewest %{customdata[1]:.4f}<br>difference %{y:+.4f} "
                "[%{customdata[2]:+.4f}, %{customdata[3]:+.4f}], %{customdata[4]:.0f} seeds<extra></extra>",
            )
    fig.add_hline(0, line={"dash": "dash", "color": "#3A3A3A", "width": 1})
    fig.update_xaxes(title_text="layers L of S'MoRE", dtick=1)
    fig.update_yaxes(title_text=f"difference to L = {table['fewest'].iloc[0]}, paired by seed")
    menu = menu_of(
        "Tasks and measure",
        {f"{part}: {measure}": [{"visible": [one == (part, measure) for one in shown]}] for part, measure in views},
    )
    title = {"text": "S'MoRE with more layers at equal budget"}
    told = f"{counted(found.points['seeds'], 'seed')}. {reading_of(table)}"
    return arranged(fig, told, height=520, title=title, updatemenus=[menu])
