"""S'MoRE Tables 1 and 6: printed, by formula and counted on the module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, use_style

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import Overheads

RANK_COLORS = {8: "#0072B2", 16: "#D55E00"}
TITLES = {"Table 1": "parameters Δ", "Table 6": "operations Δ′"}


def plot(found: Overheads) -> Figure:
    """A panel per table: overhead against the number of layers."""
    return overhead_figure(found.table)


def interactive(found: Overheads) -> go.Figure:
    """The same; hover tells printed, formula, deviation and what the module has."""
    return overhead_explorer(found.table)


def overhead_figure(table: pd.DataFrame) -> Figure:
    """Tables 1 and 6 from the frame of `overhead_table`: rings printed, lines the formula, crosses the module.

    >>> figure = overhead_figure(overheads)
    >>> [panel.get_title(loc="left") for panel in figure.axes]
    ['(a) Table 1: parameters Δ', '(b) Table 6: operations Δ′']
    """
    with use_style():
        fig = figure(FULL_WIDTH, 2.9)
        for letter, panel, (name, rows) in zip("ab", fig.subplots(1, 2), table.groupby("table", sort=False)):
            for r, cells in rows.groupby("r"):
                color = rank_color(r)
                panel.plot(cells["layers"], cells["formula"], color=color, label=f"formula, r = {r}")
                panel.plot(
                    cells["layers"],
                    cells["module"],
                    "x",
                    color=color,
                    markersize=6,
                    label=f"counted on the module, r = {r}",
                )
                panel.plot(
                    cells["layers"],
                    cells["printed"],
                    "o",
                    markerfacecolor="none",
                    color=color,
                    markersize=9,
                    label=f"printed, r = {r}",
                )
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
            panel.set_xticks(sorted(rows["layers"].unique()))
            panel.set_xlim(1.7, 4.3)
            panel.set_ylim(-0.15 * rows["printed"].max(), 1.18 * rows["printed"].max())
            panel.set_xlabel("layers L (s = 4, f = 2, d = 4096)")
            panel.set_ylabel("overhead, % of $2 d d_L$")
            panel.set_title(f"({letter}) {name}: {TITLES[str(name)]}")
            panel.grid(axis="y")
        fig.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def rank_color(r: Any) -> str:
    return RANK_COLORS[int(r)]


def overhead_explorer(table: pd.DataFrame) -> go.Figure:
    """The interactive twin of Tables 1 and 6; hover tells printed, formula, deviation and what the module has.

    >>> figure = overhead_explorer(overheads)
    >>> sorted({trace.type for trace in figure.data})
    ['scatter']
    """
    from plotly.subplots import make_subplots

    names = list(dict.fromkeys(table["table"]))
    fig = make_subplots(1, 2, subplot_titles=[f"{name}: {TITLES[name]}" for name in names])
    columns = ["printed", "formula", "deviation", "distinct", "module", "d_L"]
    for column, name in enumerate(names, start=1):
        for r, cells in table[table["table"] == name].groupby("r"):
            color = rank_color(r)
            for measure, mode, symbol in (
                ("formula", "lines", "circle"),
                ("printed", "markers", "circle-open"),
                ("module", "markers", "x-thin-open"),
            ):
                fig.add_scatter(
                    x=cells["layers"].to_numpy(np.float32),
                    y=cells[measure].to_numpy(np.float32),
                    mode=mode,
                    row=1,
                    col=column,
                    name=f"{measure}, r = {r}",
                    legendgroup=f"{measure}{r}",
                    showlegend=column == 1,
                    line={"color": color},
                    marker={"symbol": symbol, "size": 12, "color": color},
                    customdata=cells[columns].to_numpy(np.float32),
                    hovertemplate=f"r = {r}, L = %{{x}}, d_L = %{{customdata[5]}}<br>printed %{{customdata[0]:.1f}} %"
                    "<br>formula %{customdata[1]:.3f} % (%{customdata[2]:+.3f})<br>each B once %{customdata[3]:.3f} %"
                    "<br>module %{customdata[4]:.3f} %<extra></extra>",
                )
    fig.update_xaxes(title_text="layers L", tickvals=[2, 3, 4])
    fig.update_yaxes(title_text="overhead, % of 2 d d_L", col=1)
    fig.update_layout(template="plotly_white", height=520, title={"text": "Overhead of S'MoRE's layers"})
    return arranged(fig)
