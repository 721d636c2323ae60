"""What gates reveal about a text, and how they load the experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import float32, interval_of, menu_of
from ...drawing.style import FULL_WIDTH, figure, method_color, note_below, use_style
from ...evidence import counted
from ...evidence.intervals import mean_interval
from .measure import RoutingInformation

LABELS = {"dataset": "data set", "cluster": "semantic cluster"}
VIEWS = {"gates": "all gates", "top1": "largest gate"}
SHORT = {"dataset": "data set", "cluster": "cluster"}
TOLD = {"dataset": ("#0072B2", "o", -0.17), "cluster": ("#D55E00", "s", 0.17)}  # color, marker, place in a row
EVENNESS = {"token_entropy": "evenness of a token's gates", "top1_balance": "evenness of top-1 load"}
# of the interactive figure: color, symbol, place in a row
SERIES = {
    "dataset": ("#0072B2", "circle", -0.2),
    "cluster": ("#D55E00", "square", 0.0),
    "token_entropy": ("#CC79A7", "circle-open", -0.15),
    "top1_balance": ("#555555", "triangle-up", 0.15),
}
BEFORE = "before training"
FLOOR = 0.01  # percent: where the log axis begins


def wrapped(method: str) -> str:
    return method.replace(", ", ",\n")


def methods_of(frame: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(frame["method"]))


def plot(found: RoutingInformation) -> Figure:
    """The figure of specialization and load, one row per method.

    (a, b) information beyond shuffled texts, mean over layers, in percent of the labels' entropy on a log axis: means
    with 95 % intervals over seeds, rings before training; values up to FLOOR have an arrow at the left edge. (c, d)
    normalized entropy of a token's gates and of the load by largest gates: means over routers, lines from the lowest
    router to the highest.
    """
    methods, means = methods_of(found.trained), information_means(found.trained, found.untrained)
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 1.9 + 0.56 * len(methods))
        grid: Any = fig.subplots(2, 2, sharey=True)
        for panel, letter, view in zip(grid[0], "ab", VIEWS):
            draw_information(panel, means[means["view"] == view], methods)
            panel.set_title(f"({letter}) {VIEWS[view]}")
            panel.set_xlabel("information, % of the labels' entropy")
        for panel, letter, (column, title) in zip(grid[1], "cd", EVENNESS.items()):
            draw_evenness(panel, found.loads, column, methods)
            panel.set_title(f"({letter}) {title}")
            panel.set_xlabel("evenness (1: all the same)")
        for panel in grid[:, 0]:
            panel.set_yticks(range(len(methods)), methods)
        grid[0, 0].set_ylim(len(methods) - 0.4, -0.6)
        handles, labels = grid[0, 0].get_legend_handles_labels()
        order = np.argsort([label == BEFORE for label in labels], kind="stable")
        fig.legend([handles[one] for one in order], [labels[one] for one in order], loc="outside upper left", ncols=3)
        note_below(
            fig,
            found.note(
                "Bars: 95 % intervals over seeds of means over layers; (c, d) means over routers, lines from the lowest to the "
                f"highest router. An arrow means {FLOOR:g} % or less, or not above shuffled texts."
            ),
        )
    return fig


def information_means(trained: pd.DataFrame, untrained: pd.DataFrame) -> pd.DataFrame:
    """Columns stage, label, view, method, mean, low, high: percent of the labels' entropy, over seeds, after averaging
    over the routers of a model."""
    rows = []
    for stage, frame in (("untrained", untrained), ("trained", trained)):
        seeds = 100 * frame.groupby(["label", "view", "method", "seed"], sort=False)["normalized"].mean()
        for key, values in seeds.groupby(level=[0, 1, 2], sort=False):
            rows.append((stage, *key, *mean_interval(values.to_numpy())))
    return pd.DataFrame(rows, columns=["stage", "label", "view", "method", "mean", "low", "high"])


def of(frame: pd.DataFrame, label: str, view: str) -> pd.DataFrame:
    return frame[(frame["label"] == label) & (frame["view"] == view)]


def draw_information(panel: Any, means: pd.DataFrame, methods: Sequence[str]) -> None:
    """`information_means` of one view: two labels in every row, one above the other."""
    for label, (color, shape, shift) in TOLD.items():
        for stage in ("untrained", "trained"):
            own = means[(means["label"] == label) & (means["stage"] == stage)].set_index("method")
            own = own.loc[[method for method in methods if method in own.index]]
            places = np.array([methods.index(method) for method in own.index]) + shift
            values = own["mean"].clip(lower=FLOOR).to_numpy()
            edge = own["mean"].to_numpy() <= FLOOR
            face = "none" if stage == "untrained" else color
            if stage == "untrained":
                name = BEFORE if label == "dataset" else None
                panel.plot(
                    values[~edge], places[~edge], shape, color=color, markerfacecolor=face, markersize=8, label=name
                )
            else:
                error = interval_of(own[["mean", "low", "high"]].clip(lower=FLOOR))
                panel.errorbar(values, places, xerr=error, fmt=shape, color=color, markersize=5, label=SHORT[label])
            if edge.any():
                panel.plot(values[edge], places[edge], "<", color=color, markerfacecolor=face, markersize=8)
    panel.set_xscale("log")
    panel.set_xlim(left=FLOOR / 1.5)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")


def draw_evenness(panel: Any, summary: pd.DataFrame, column: str, methods: Sequence[str]) -> None:
    found = summary.groupby("method", sort=False)[column].agg(["mean", "min", "max"]).loc[list(methods)]
    error = interval_of(found, low="min", high="max").clip(min=0)  # a mean of equal values may round below them
    panel.errorbar(
        found["mean"],
        range(len(methods)),
        xerr=error,
        fmt="o",
        ecolor=[method_color(method) for method in methods],
        color="none",
        elinewidth=3,
        alpha=0.6,
    )
    panel.scatter(
        found["mean"], range(len(methods)), s=40, color=[method_color(method) for method in methods], zorder=3
    )
    panel.set_xlim(right=1.03)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")


def interactive(found: RoutingInformation) -> go.Figure:
    """One row per method, one dot per router and seed, one series per measure.

    Left: information beyond shuffled texts, by label; a menu chooses all gates or the largest. Right: evenness of a
    token's gates and of the load. Hover shows the router, its peaks and its dead experts.
    """
    trained, summary = found.trained, found.loads
    methods, views = methods_of(trained), list(dict.fromkeys(trained["view"]))
    fig = make_subplots(rows=1, cols=2, column_widths=[0.62, 0.38], horizontal_spacing=0.04, shared_yaxes=True)
    owners: list[Any] = []
    for view in views:
        for label in dict.fromkeys(trained["label"]):
            owners.append(view)
            fig.add_trace(information_dots(of(trained, label, view), label, methods, view == views[0]), row=1, col=1)
    for column, title in EVENNESS.items():
        owners.append(None)
        fig.add_trace(evenness_dots(summary, column, title, methods), row=1, col=2)
    menu = {VIEWS[view]: [{"visible": [owner in (view, None) for owner in owners]}] for view in views}
    rows = {"tickvals": list(range(len(methods))), "ticktext": methods, "range": [len(methods) - 0.4, -0.6]}
    fig.update_yaxes(**rows, zeroline=False)
    fig.update_xaxes(title_text="information, % of labels' entropy", type="log", row=1, col=1)
    fig.update_xaxes(title_text="evenness (1: all the same)", row=1, col=2)
    return arranged(
        fig,
        f"{counted(trained['seed'].nunique(), 'seed')}: one dot per router and seed; {FLOOR:g} % means {FLOOR:g} % or "
        "less",
        title={"text": "What gates reveal, and how they load the experts"},
        height=220 + 52 * len(methods),
        updatemenus=[menu_of("Gates", menu, "restyle")],
    )


def information_dots(rows: pd.DataFrame, label: str, methods: Sequence[str], visible: bool) -> go.Scatter:
    """What one view reveals about one label, in the rows of the methods."""
    return go.Scatter(
        x=float32((100 * rows["normalized"]).clip(lower=FLOOR)),
        **dots_of(rows, label, methods),
        name=LABELS.get(label, label),
        visible=visible,
        customdata=float32(rows[["seed", "information", "by_chance", "p"]]),
        hovertemplate="%{text}, seed %{customdata[0]:.0f}<br>%{x:.3f} % of the entropy<br>%{customdata[1]:.4f} bits, "
        "by chance %{customdata[2]:.4f}, p %{customdata[3]:.3f}<extra></extra>",
    )


def dots_of(rows: pd.DataFrame, series: str, methods: Sequence[str]) -> dict[str, Any]:
    """Place, look and text of one series' dots, in the rows of the methods."""
    color, symbol, shift = SERIES[series]
    return {
        "y": float32(rows["method"].map(methods.index) + shift),
        "mode": "markers",
        "marker": {"color": color, "symbol": symbol, "size": 7, "opacity": 0.7},
        "text": [f"{method}, {module}" for method, module in zip(rows["method"], rows["module"], strict=True)],
    }


def evenness_dots(summary: pd.DataFrame, column: str, title: str, methods: Sequence[str]) -> go.Scatter:
    """One measure of evenness, in the rows of the methods."""
    return go.Scatter(
        x=float32(summary[column]),
        **dots_of(summary, column, methods),
        name=title,
        customdata=float32(summary[["seed", "mass_peak", "top1_peak", "dead", "distinct"]] * [1, 1, 1, 100, 100]),
        hovertemplate="%{text}, seed %{customdata[0]:.0f}<br>evenness %{x:.3f}<br>busiest expert: "
        "%{customdata[1]:.2f} of even mass, %{customdata[2]:.2f} of even top-1 load<br>"
        "dead %{customdata[3]:.1f} %, distinct %{customdata[4]:.1f} %<extra></extra>",
    )
