"""S'MoRE Fig. 5: the router's operations against the experts'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, MARKERS, SYMBOLS, figure, use_style
from .counting import COUNTS, MOST, whole

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import RouterShares

COUNT_LABELS = {
    "authors": "authors' count: each gate once",
    "per parent": "every gate once per parent",
    "per parent, noise": "the same, with the noise's map",
    "module": "our module, router and experts",
}
COUNT_COLORS = dict(zip(COUNTS, ("#5A5A5A", "#0072B2", "#56B4E9", "#D55E00"), strict=True))
POOL_COLORS = ("#009E73", "#CC79A7")
PROJECTION_NAMES = ("gate", "up", "down", "all")


def plot(found: RouterShares) -> Figure:
    """The protocol's structures by rank, the tables' by way of counting, and one of them by projection."""
    return router_figure(found.named, found.protocol)


def interactive(found: RouterShares) -> go.Figure:
    """All structures and ways of counting, with buttons for the projection."""
    return router_explorer(found.named, found.protocol)


def router_figure(named: pd.DataFrame, protocol: pd.DataFrame) -> Figure:
    """The paper figure of Fig. 5, from two frames of `router_shares`: the router's operations over the experts'.

    (a) the protocol's structures by their total rank, authors' count, the three projections together; (b) the
    structures of Tables 1 and 6 by every way of counting; (c) one of them projection by projection.

    >>> figure = router_figure(named, protocol)
    >>> len(figure.axes)
    3
    """
    with use_style():
        fig = figure(FULL_WIDTH, 3.5)
        first, second, third = fig.subplots(1, 3, width_ratios=[1.15, 1.25, 0.8])
        draw_protocol(first, whole(protocol, "authors"))
        draw_counts(second, named)
        draw_projections(third, named)
        fig.legend(*second.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def percent_axis(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

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
    panel.set_ylim(0.002, 6)
    panel.set_xlabel("ranks of both layers, $r_0 + r_1$")
    panel.set_ylabel("router / experts, operations")
    panel.set_title("(a) the protocol's structures")
    panel.legend(loc="lower left", fontsize=5.8, handlelength=1.6, labelspacing=0.25)


def draw_counts(panel: Any, named: pd.DataFrame) -> None:
    structures = list(dict.fromkeys(named["structure"]))
    for number, counts in enumerate(COUNTS):
        rows = whole(named, counts).set_index("structure").loc[structures]
        panel.bar(
            np.arange(len(structures)) + (number - 1.5) * 0.2,
            rows["share"],
            0.2,
            color=COUNT_COLORS[counts],
            label=COUNT_LABELS[counts],
        )
    rows = whole(named, "authors")
    bound(panel)
    panel.set_xticks(np.arange(len(structures)), [f"{row.r}\n{row.layers}" for row in rows.itertuples()])
    percent_axis(panel.yaxis)
    panel.set_xlabel("rank r (above) and layers L, s = 4, f = 2")
    panel.set_title("(b) structures of Tables 1, 6")
    panel.grid(axis="y")
    panel.set_axisbelow(True)


def draw_projections(panel: Any, named: pd.DataFrame) -> None:
    structure = named["structure"].iloc[0]
    rows = named[named["structure"] == structure]
    for number, counts in enumerate(COUNTS):
        shares = rows[rows["counts"] == counts].set_index("projection").loc[list(PROJECTION_NAMES), "share"]
        panel.bar(np.arange(4) + (number - 1.5) * 0.2, shares, 0.2, color=COUNT_COLORS[counts])
    bound(panel)
    panel.set_xticks(range(4), PROJECTION_NAMES)
    percent_axis(panel.yaxis)
    row = rows.iloc[0]
    panel.set_xlabel("projection")
    panel.set_title(f"(c) r = {row['r']}, L = {row['layers']}")
    panel.grid(axis="y")
    panel.set_axisbelow(True)


def router_explorer(named: pd.DataFrame, protocol: pd.DataFrame) -> go.Figure:
    """The interactive twin of Fig. 5: a point per structure, a trace a way of counting, buttons for the projection.

    >>> figure = router_explorer(named, protocol)
    >>> sorted({trace.type for trace in figure.data})
    ['scatter']
    """
    import plotly.graph_objects as go

    both = pd.concat([named, protocol], ignore_index=True).drop_duplicates(["structure", "projection", "counts"])
    fig, tables = go.Figure(), []
    for counts, symbol in zip(COUNTS, SYMBOLS):
        rows = both[both["counts"] == counts]
        tables.append({name: rows[rows["projection"] == name] for name in PROJECTION_NAMES})
        shown = tables[-1]["all"]
        fig.add_scatter(
            x=shown["total_rank"].to_numpy(np.float32),
            y=shown["share"].to_numpy(np.float32),
            mode="markers",
            name=COUNT_LABELS[counts],
            text=shown["structure"],
            customdata=operations_of(shown),
            marker={"color": COUNT_COLORS[counts], "symbol": symbol, "size": 9, "opacity": 0.85},
            hovertemplate="%{text}<br>router / experts %{y:.2%}<br>router %{customdata[0]:,.0f}, experts "
            "%{customdata[1]:,.0f} multiply-accumulates per token<extra>" + COUNT_LABELS[counts] + "</extra>",
        )
    buttons = [
        {
            "label": name,
            "method": "restyle",
            "args": [
                {
                    "y": [table[name]["share"].to_numpy(np.float32) for table in tables],
                    "customdata": [operations_of(table[name]) for table in tables],
                }
            ],
        }
        for name in reversed(PROJECTION_NAMES)
    ]
    fig.add_hline(MOST, line={"dash": "dash", "color": "#3A3A3A", "width": 1})
    fig.add_annotation(
        text="26 % (paper)", x=1, xref="x domain", xanchor="right", y=np.log10(MOST), yanchor="bottom", showarrow=False
    )  # on a logarithmic axis plotly places texts by their exponent, lines not
    fig.update_layout(
        template="plotly_white",
        height=600,
        legend={"orientation": "h"},
        title={"text": "S'MoRE's router against its experts, LLaMA 3.2-1B's feed-forward projections"},
        xaxis={"type": "log", "title": {"text": "total rank Σ r_l"}},
        yaxis={"type": "log", "tickformat": ".0%", "title": {"text": "router / experts, operations"}},
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons}],
    )
    return arranged(fig)


def operations_of(rows: pd.DataFrame) -> np.ndarray:
    return rows[["router", "experts"]].to_numpy(np.float32)
