"""S'MoRE Tables 1 and 6: printed, by formula and counted on the module."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import points_of
from ...drawing.style import FULL_WIDTH, figure, note_below, use_style
from .measure import Overheads

RANK_COLORS = {8: "#0072B2", 16: "#D55E00"}
TITLES = {"Table 1": "parameters Δ", "Table 6": "operations Δ′"}


def plot(found: Overheads) -> Figure:
    """One panel per table, overhead against layers: rings are printed values, lines the formula, crosses the module."""
    with use_style():
        fig = figure(FULL_WIDTH, 2.9)
        panels = fig.subplots(1, 2)
        for letter, panel, (name, rows) in zip("ab", panels, found.table.groupby("table", sort=False)):
            for r, cells in rows.groupby("r"):
                draw_rank(panel, int(r), cells)
            most = rows[["printed", "formula", "module"]].to_numpy().max()
            panel.set_xticks(sorted(rows["layers"].unique()))
            panel.set(xlim=(1.7, 4.3), ylim=(-0.12 * most, 1.1 * most))
            panel.set(xlabel="layers L (s = 4, f = 2, d = 4096)", ylabel="overhead, % of $2 d d_L$")
            panel.set_title(f"({letter}) {name}: {TITLES[str(name)]}")
            panel.grid(axis="y")
        handles, labels = panels[-1].get_legend_handles_labels()
        # matplotlib fills a legend column by column: one column per kind of mark, one row per rank
        order = [rank * 3 + kind for kind in range(3) for rank in range(len(handles) // 3)]
        fig.legend([handles[i] for i in order], [labels[i] for i in order], loc="outside upper left", ncols=3)
        note_below(fig, found.note("A mark is one structure."))
    return fig


def draw_rank(panel: Any, r: int, cells: pd.DataFrame) -> None:
    color, layers = RANK_COLORS[r], cells["layers"]
    panel.plot(layers, cells["formula"], color=color, label=f"formula, r = {r}")
    panel.plot(layers, cells["module"], "x", color=color, markersize=6, label=f"counted on the module, r = {r}")
    ring = {"markerfacecolor": "none", "markersize": 9}
    panel.plot(layers, cells["printed"], "o", color=color, label=f"printed, r = {r}", **ring)
    for cell in cells.itertuples():
        panel.annotate(
            f"{cell.printed}",
            (cell.layers, cell.printed),
            (-8, 5) if r == 16 else (0, -14),
            textcoords="offset points",
            ha="right" if r == 16 else "center",
            fontsize=6.5,
            color=color,
        )


def interactive(found: Overheads) -> go.Figure:
    """The same; hover shows the printed value, the formula, the deviation and the module's count."""
    names = found.table["table"].unique()
    fig = make_subplots(1, 2, subplot_titles=[f"{name}: {TITLES[name]}" for name in names])
    columns = ["printed", "formula", "deviation", "distinct", "module", "d_L"]
    for column, name in enumerate(names, start=1):
        for r, cells in found.table[found.table["table"] == name].groupby("r"):
            color = RANK_COLORS[int(r)]
            for measure, mode, symbol in (
                ("formula", "lines", "circle"),
                ("printed", "markers", "circle-open"),
                ("module", "markers", "x-thin-open"),
            ):
                fig.add_scatter(
                    **points_of(cells, "layers", measure, columns),
                    mode=mode,
                    row=1,
                    col=column,
                    name=f"{measure}, r = {r}",
                    legendgroup=f"{measure}{r}",
                    showlegend=column == 1,
                    line={"color": color},
                    marker={"symbol": symbol, "size": 12, "color": color},
                    hovertemplate=f"r = {r}, L = %{{x}}, d_L = %{{customdata[5]}}<br>printed %{{customdata[0]:.1f}} %"
                    "<br>formula %{customdata[1]:.3f} % (%{customdata[2]:+.3f})<br>each B once %{customdata[3]:.3f} %"
                    "<br>module %{customdata[4]:.3f} %<extra></extra>",
                )
    fig.update_xaxes(title_text="layers L", tickvals=[2, 3, 4])
    fig.update_yaxes(title_text="overhead, % of 2 d d_L", col=1)
    return arranged(fig, height=520, title={"text": "Overhead of S'MoRE's layers"})
