"""S'MoRE's Table 2: accuracy and the gain over LoRA, ours and the paper's, a row of panels per data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, method_color, note_below, use_style
from .draw import UNTRAINED, readable
from .endpoints import BASE
from .table_2 import Table2

# columns of `side_by_side`: ours, its interval, the paper's; and what the panel shows
ACCURACY = ("ours", "low", "high", "paper", "accuracy (%)")
GAIN = ("gain", "gain_low", "gain_high", "paper_gain", "points over LoRA")
ACROSS = 2  # data sets in a row
BETWEEN = 90  # pixels from one row of panels to the next: an axis with its label, and a title
MARKS = (
    "Dots: ours, mean and 95 % interval over seeds. Diamonds: the paper's, on Llama-3.2-1B. Dotted line: our model before "
    "training."
)


def plot(found: Table2) -> Figure:
    """Two panels per data set and for their mean, two data sets side by side where there are several."""
    table = found.beside_paper
    places = list(dict.fromkeys(table["dataset"]))
    across = min(len(places), ACROSS)
    down = -(-len(places) // across)
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 0.8 + down * (0.65 + 0.24 * len(found.methods)))
        panels = fig.subplots(down, 2 * across, squeeze=False)
        pairs = panels.reshape(-1, 2)
        for at, ((left, right), place) in enumerate(zip(pairs, places)):
            own = table[table["dataset"] == place].set_index("method")
            draw_rows(left, own.loc[found.methods], ACCURACY)
            draw_rows(right, own.loc[found.methods], GAIN)
            if np.isfinite(level := own["ours"].get(BASE, np.nan)):
                left.axvline(level, color=UNTRAINED, linewidth=1.4, linestyle=":", zorder=1)
            right.axvline(0, color=method_color("LoRA"), linewidth=1.0, zorder=1)
            left.tick_params(labelleft=at % across == 0)
            right.tick_params(labelleft=False)
            left.set_title(readable(place))
            if at + across >= len(places):
                for panel, (*_, label) in zip((left, right), (ACCURACY, GAIN)):
                    panel.set_xlabel(label)
        for panel in pairs[len(places) :].flat:
            panel.remove()
        note_below(fig, found.note(MARKS))
    return fig


def draw_rows(panel: Any, rows: pd.DataFrame, columns: tuple[str, ...]) -> None:
    """One row per method: ours as a dot with its interval, the paper's as an open diamond."""
    mean, low, high, paper, _ = columns
    for place, (method, row) in enumerate(rows.iterrows()):
        color = method_color(str(method))
        if np.isfinite(row[low]):
            panel.plot([row[low], row[high]], [place] * 2, color=color, linewidth=2)
        panel.plot(row[mean], place, "o", color=color, markersize=6.5, markeredgecolor="white", markeredgewidth=0.6)
        panel.plot(row[paper], place, "D", color=color, markersize=6, markerfacecolor="none")
    panel.set_yticks(range(len(rows)), rows.index)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")


def interactive(found: Table2) -> go.Figure:
    """The same panels, with the numbers under the pointer."""
    table = found.beside_paper
    places = list(dict.fromkeys(table["dataset"]))
    titles = [title for place in places for title in (readable(place), f"{readable(place)}: gain")]
    height = 160 + len(places) * (80 + 26 * len(found.methods))
    fig = make_subplots(
        rows=len(places),
        cols=2,
        shared_yaxes=True,
        subplot_titles=titles,
        horizontal_spacing=0.06,
        vertical_spacing=BETWEEN / height,
    )
    for row, place in enumerate(places, 1):
        own = table[table["dataset"] == place].set_index("method")
        for column, columns in enumerate((ACCURACY, GAIN), 1):
            add_rows(fig, own.loc[found.methods], columns, row, column, named=row == column == 1)
            fig.update_xaxes(title_text=columns[-1], row=row, col=column)
        if np.isfinite(level := own["ours"].get(BASE, np.nan)):
            fig.add_vline(x=level, line={"color": "#8A8A8A", "dash": "dot"}, row=row, col=1)
        fig.add_vline(x=0, line={"color": method_color("LoRA"), "width": 1}, row=row, col=2)
    fig.update_yaxes(categoryorder="array", categoryarray=found.methods[::-1])
    return arranged(fig, MARKS, height=height, title={"text": "Table 2, ours and the paper's"})


def add_rows(fig: go.Figure, rows: pd.DataFrame, columns: tuple[str, ...], row: int, column: int, named: bool) -> None:
    mean, low, high, paper, _ = columns
    colors = [method_color(name) for name in rows.index]
    common: dict[str, Any] = {"y": list(rows.index), "mode": "markers", "showlegend": named, "row": row, "col": column}
    fig.add_scatter(
        x=rows[mean],
        name="ours",
        marker={"color": colors, "size": 10},
        error_x={"array": (rows[high] - rows[mean]).fillna(0.0), "color": "#5A5A5A", "thickness": 1.2},
        customdata=rows[[low, high, "seeds"]],
        hovertemplate="%{y}: %{x:.2f}<br>95 %: %{customdata[0]:.2f} to %{customdata[1]:.2f}, %{customdata[2]} seeds"
        "<extra>ours</extra>",
        legendgroup="ours",
        **common,
    )
    fig.add_scatter(
        x=rows[paper],
        name="the paper",
        marker={"color": colors, "size": 10, "symbol": "diamond-open"},
        hovertemplate="%{y}: %{x:.2f}<extra>the paper</extra>",
        legendgroup="paper",
        **common,
    )
