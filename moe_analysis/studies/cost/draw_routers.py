"""S'MoRE Fig. 5: the router's operations against the experts'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ...drawing.layout import arranged
from ...drawing.marks import float32, menu_of, points_of
from ...drawing.style import FULL_WIDTH, MARKERS, SYMBOLS, figure, note_below, use_style
from .counting import COUNTS, MOST, whole
from .measure import RouterShares

COUNT_LABELS = {
    "authors": "authors' count: each gate once",
    "per parent": "every gate once per parent",
    "per parent, noise": "the same, plus the noise's map",
    "module": "our module, router and experts",
}
COUNT_COLORS = dict(zip(COUNTS, ("#5A5A5A", "#0072B2", "#56B4E9", "#D55E00"), strict=True))
POOL_COLORS = ("#009E73", "#CC79A7")
PROJECTION_NAMES = ("gate", "up", "down", "all")


def plot(found: RouterShares) -> Figure:
    """The router's operations divided by the experts'.

    (a) the protocol's structures by their total rank, in the authors' count, for the three projections together;
    (b) the structures of Tables 1 and 6 by every way of counting; (c) one of them, projection by projection.
    """
    with use_style():
        fig = figure(FULL_WIDTH, 3.5)
        first, second, third = fig.subplots(1, 3, width_ratios=[1.15, 1.25, 0.8])
        draw_protocol(first, whole(found.protocol, "authors"))
        draw_counts(second, found.named)
        draw_projections(third, found.named)
        fig.legend(*second.get_legend_handles_labels(), loc="outside upper left", ncols=2)
        note_below(fig, found.note("A dot or a bar is one structure; dashes are the paper's 26 %."))
    return fig


def percent_axis(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))


def bound(panel: Any) -> None:
    """The paper's 26 %."""
    panel.axhline(MOST, color="0.3", linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)


def draw_protocol(panel: Any, shares: pd.DataFrame) -> None:
    ladder = (shares["total_rank"] / shares["r"] - 1).astype(int)  # upper rank over lower rank: 1, 2 or 4
    for color, (s, family) in zip(POOL_COLORS, shares.groupby("s", sort=False)):
        for marker, (ratio, rows) in zip(MARKERS, family.groupby(ladder)):
            panel.plot(
                rows["total_rank"],
                rows["share"],
                color=color,
                marker=marker,
                linewidth=0.5,
                label=f"s {s}, f {rows['f'].iloc[0]}, ranks 1 : {ratio}",
            )
    bound(panel)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks([2, 8, 32, 128], ["2", "8", "32", "128"])
    panel.set_yticks([0.01, 0.1, 1])
    percent_axis(panel.yaxis)
    panel.text(panel.get_xlim()[0] * 1.15, MOST * 0.93, "26 %", fontsize=6.5, va="top")
    panel.set(xlabel="ranks of both layers, $r_0 + r_1$", ylabel="router / experts, operations", ylim=(0.002, 6))
    panel.set_title("(a) the protocol's structures")
    panel.legend(loc="lower left", fontsize=5.8, handlelength=1.6, labelspacing=0.25)


def draw_counts(panel: Any, named: pd.DataFrame) -> None:
    shares = {counts: whole(named, counts).set_index("structure")["share"] for counts in COUNTS}
    rows = whole(named, "authors")
    draw_bars(panel, shares, [f"{row.r}\n{row.layers}" for row in rows.itertuples()])
    panel.set(xlabel="rank r (above) and layers L, s = 4, f = 2", title="(b) structures of Tables 1, 6")


def draw_projections(panel: Any, named: pd.DataFrame) -> None:
    row = named.iloc[0]
    rows = named[named["structure"] == row["structure"]].set_index("projection")
    shares = {counts: rows.loc[rows["counts"] == counts, "share"].loc[list(PROJECTION_NAMES)] for counts in COUNTS}
    draw_bars(panel, shares, PROJECTION_NAMES)
    panel.set(xlabel="projection", title=f"(c) r = {row['r']}, L = {row['layers']}")


def draw_bars(panel: Any, shares: Mapping[str, pd.Series], names: Sequence[str]) -> None:
    """One group of bars per name, with one bar per way of counting."""
    for number, (counts, values) in enumerate(shares.items()):
        places = np.arange(len(names)) + (number - 1.5) * 0.2
        panel.bar(places, values, 0.2, color=COUNT_COLORS[counts], label=COUNT_LABELS[counts])
    bound(panel)
    panel.set_xticks(range(len(names)), names)
    percent_axis(panel.yaxis)
    panel.grid(axis="y")
    panel.set_axisbelow(True)


def interactive(found: RouterShares) -> go.Figure:
    """One point per structure, one trace per way of counting; buttons choose the projection."""
    both = pd.concat([found.named, found.protocol], ignore_index=True)
    both = both.drop_duplicates(["structure", "projection", "counts"]).assign(percent=100 * both["share"])
    tables = {
        name: [both[(both["counts"] == counts) & (both["projection"] == name)] for counts in COUNTS]
        for name in PROJECTION_NAMES
    }
    fig = go.Figure()
    for counts, symbol, rows in zip(COUNTS, SYMBOLS, tables["all"]):
        fig.add_scatter(
            **points_of(rows, "total_rank", "percent", ["router", "experts"]),
            mode="markers",
            name=COUNT_LABELS[counts],
            text=rows["structure"],
            marker={"color": COUNT_COLORS[counts], "symbol": symbol, "size": 9, "opacity": 0.85},
            hovertemplate=f"%{{text}}<br>{COUNT_LABELS[counts]}<br>router / experts %{{y:.2f}} %<br>multiply-accumulates per "
            "token:<br>router %{customdata[0]:,.0f}<br>experts %{customdata[1]:,.0f}<extra></extra>",
        )
    changes = {
        name: [
            {
                "y": [float32(rows["percent"]) for rows in tables[name]],
                "customdata": [float32(rows[["router", "experts"]]) for rows in tables[name]],
            }
        ]
        for name in reversed(PROJECTION_NAMES)
    }
    fig.add_hline(100 * MOST, line={"dash": "dash", "color": "#3A3A3A", "width": 1})
    fig.add_annotation(
        text="26 % (paper)",
        x=1,
        xref="x domain",
        xanchor="right",
        y=np.log10(100 * MOST),
        yanchor="bottom",
        showarrow=False,
    )  # on a logarithmic axis plotly places texts by their exponent, but lines by their value
    return arranged(
        fig,
        height=600,
        legend={"orientation": "h"},
        title={"text": "S'MoRE's router against its experts, LLaMA 3.2-1B's feed-forward projections"},
        xaxis={"type": "log", "title": {"text": "total rank Σ r_l"}},
        yaxis={"type": "log", "ticksuffix": " %", "title": {"text": "router / experts, operations"}},
        updatemenus=[menu_of("Projection", changes, "restyle", in_a_row=True)],
    )
