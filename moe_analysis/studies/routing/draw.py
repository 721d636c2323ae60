"""What gates tell of a text, and how they load the experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, MARKERS, figure, method_color, use_style
from ...evidence.intervals import mean_interval
from ..records import layer_title

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import RoutingInformation

LABELS = {"dataset": "data set", "cluster": "semantic cluster", "cluster in data set": "cluster within a data set"}
VIEWS = {"gates": "all gates", "top1": "largest gate"}
SHORT = {"dataset": "data set", "cluster": "cluster"}


def plot(found: RoutingInformation) -> Figure:
    """Information by layer, load of the experts, and evenness."""
    return routing_figure(found.trained, found.untrained, found.expert_loads, found.loads)


def interactive(found: RoutingInformation) -> go.Figure:
    """One dot per router and seed."""
    return routing_explorer(found.trained, found.loads)


def wrapped(method: str) -> str:
    return method.replace(", ", ",\n")


def methods_of(frame: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(frame["method"]))


def routing_figure(
    trained: pd.DataFrame, untrained: pd.DataFrame, loads: pd.DataFrame, summary: pd.DataFrame
) -> Figure:
    """The figure of specialization and load. trained, untrained: `specialization` with the labels "dataset" and
    "cluster"; loads: `expert_loads`; summary: `load_summary`.

    (a, b, d, e) information beyond shuffled texts by layer, in per cent of the labels' entropy: means with 95 %
    intervals over seeds, rings before training. (c) mass of the experts, busiest first, even = 1; means over routers,
    shades the extremes of seeds. (f) one dot per router: normalized entropy of a token's gates against that of the load by
    largest gates.

    >>> figure = routing_figure(informed, uninformed, loads, evenness)
    >>> len(figure.axes)
    6
    """
    methods = methods_of(trained)
    with use_style():
        fig = figure(FULL_WIDTH, 5.0)
        panels: Any = fig.subplot_mosaic([["a", "b", "c"], ["d", "e", "f"]])
        for letter, view, label in (
            ("a", "gates", "dataset"),
            ("b", "gates", "cluster"),
            ("d", "top1", "dataset"),
            ("e", "top1", "cluster"),
        ):
            after, before = (of(frame, label, view) for frame in (trained, untrained))
            draw_information(panels[letter], after, before, methods)
            panels[letter].set_title(f"({letter}) {VIEWS[view]}, {SHORT[label]}")
        for letter in "ad":
            panels[letter].set_ylabel("information, % of labels' entropy")
        draw_loads(panels["c"], loads, methods)
        draw_evenness(panels["f"], summary, methods)
        panels["c"].set_title("(c) load of the experts")
        panels["f"].set_title("(f) even gates, even load?")
        name_methods(fig, methods)
    return fig


def of(frame: pd.DataFrame, label: str, view: str) -> pd.DataFrame:
    return frame[(frame["label"] == label) & (frame["view"] == view)]


def name_methods(fig: Figure, methods: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=method_color(name), marker=marker(methods, name), label=name) for name in methods]
    ring = Line2D([], [], color="0.35", marker="o", linestyle="", markerfacecolor="none", label="before training")
    fig.legend(handles=[*handles, ring], loc="outside upper left", ncols=6, handlelength=1.6, columnspacing=1.3)


def marker(methods: Sequence[str], method: str) -> Any:
    return MARKERS[list(methods).index(method) % len(MARKERS)]


def layer_intervals(frame: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Columns layer, mean, low, high over seeds, routers of a layer averaged within a seed; layers as in the frame."""
    means = frame.groupby(["layer", "seed"], sort=False)[measure].mean()
    rows = [(layer, *mean_interval(values.to_numpy())) for layer, values in means.groupby("layer", sort=False)]
    return pd.DataFrame(rows, columns=["layer", "mean", "low", "high"])


def draw_information(panel: Any, trained: pd.DataFrame, untrained: pd.DataFrame, methods: Sequence[str]) -> None:
    layers = list(dict.fromkeys(trained["layer"]))
    for number, method in enumerate(methods):
        color, shift = method_color(method), (number - (len(methods) - 1) / 2) * 0.7 / len(methods)
        for frame, filled in ((untrained, False), (trained, True)):
            found = 100 * layer_intervals(frame[frame["method"] == method], "normalised").set_index("layer")
            places = np.array([layers.index(layer) for layer in found.index]) + shift
            error = [found["mean"] - found["low"], found["high"] - found["mean"]] if filled else None
            panel.errorbar(
                places,
                found["mean"],
                error,
                color=color,
                marker=marker(methods, method),
                markersize=3.2,
                linewidth=0.6 if filled else 0.0,
                elinewidth=0.8,
                label=method if filled else None,
                markerfacecolor=color if filled else "none",
                markeredgewidth=0.7,
            )
    panel.axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
    panel.set_xticks(range(len(layers)), [layer_title(layer).removeprefix("layer ") for layer in layers])
    panel.set_xlabel("layer")
    panel.grid(axis="y")


def draw_loads(panel: Any, loads: pd.DataFrame, methods: Sequence[str]) -> None:
    for method in methods:
        rows = loads[loads["method"] == method]
        experts = rows.groupby(["seed", "module"])["expert"].transform("size")
        curve = rows.assign(even=rows["mass"] * experts, place=(rows["rank"] - 0.5) / experts)
        seeds = curve.groupby(["place", "seed"])["even"].mean().unstack()
        panel.fill_between(
            seeds.index, seeds.min(axis=1), seeds.max(axis=1), color=method_color(method), alpha=0.15, linewidth=0
        )
        panel.plot(seeds.index, seeds.mean(axis=1), color=method_color(method), linewidth=1.2)
    panel.axhline(1.0, color="0.6", linewidth=0.6, zorder=0)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 0.5, 1], ["busiest", "experts by load", "idlest"])
    panel.set_ylim(bottom=0)
    panel.set_ylabel("gate mass, even share = 1")
    panel.grid(axis="y")


def draw_evenness(panel: Any, summary: pd.DataFrame, methods: Sequence[str]) -> None:
    for method in methods:
        rows = summary[summary["method"] == method]
        panel.plot(
            rows["token_entropy"],
            rows["top1_balance"],
            marker(methods, method),
            color=method_color(method),
            markersize=3,
            alpha=0.7,
            markeredgewidth=0,
        )
    panel.set_xlim(right=1.03)
    panel.set_ylim(top=1.03)
    panel.set_xlabel("evenness of a token's gates")
    panel.set_ylabel("evenness of top-1 load")
    panel.grid(axis="both")


def routing_explorer(trained: pd.DataFrame, summary: pd.DataFrame) -> go.Figure:
    """The interactive twin of `routing_figure`: one dot per router and seed. Left: information beyond shuffled texts by
    module, label and view from a menu. Right: evenness of load; hover tells peaks and dead experts.

    >>> figure = routing_explorer(informed, evenness)
    >>> sorted({trace.type for trace in figure.data}), len(figure.layout.updatemenus)
    (['scatter'], 1)
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    fig = make_subplots(rows=1, cols=2, column_widths=[0.62, 0.38], horizontal_spacing=0.12)
    choices = list(trained[["label", "view"]].drop_duplicates().itertuples(index=False, name=None))
    owners: list[Any] = []
    for choice in choices:
        for method, rows in of(trained, *choice).groupby("method", sort=False):
            owners.append(choice)
            fig.add_trace(
                go.Scatter(
                    x=rows["module"],
                    y=100 * rows["normalised"].to_numpy(np.float32),
                    mode="markers",
                    name=method,
                    legendgroup=method,
                    visible=choice == choices[0],
                    marker={"color": method_color(str(method)), "size": 8},
                    customdata=rows[["seed", "information", "by_chance", "p"]].to_numpy(np.float32),
                    hovertemplate=f"{method}, seed %{{customdata[0]:.0f}}<br>%{{x}}<br>%{{y:.3f}} % of the entropy"
                    "<br>%{customdata[1]:.4f} bits, by chance %{customdata[2]:.4f}, p %{customdata[3]:.3f}"
                    "<extra></extra>",
                ),
                row=1,
                col=1,
            )
    for method, rows in summary.groupby("method", sort=False):
        owners.append(None)
        fig.add_trace(
            go.Scatter(
                x=rows["token_entropy"].to_numpy(np.float32),
                y=rows["top1_balance"].to_numpy(np.float32),
                mode="markers",
                name=method,
                legendgroup=method,
                showlegend=False,
                text=rows["module"],
                customdata=rows[["seed", "mass_peak", "top1_peak", "dead", "distinct"]].to_numpy(np.float32),
                marker={"color": method_color(str(method)), "size": 8},
                hovertemplate=f"{method}, seed %{{customdata[0]:.0f}}<br>%{{text}}<br>busiest expert: "
                "%{customdata[1]:.2f} of even mass, %{customdata[2]:.2f} of even top-1 load<br>"
                "dead %{customdata[3]:.1%}, distinct %{customdata[4]:.1%}<extra></extra>",
            ),
            row=1,
            col=2,
        )
    menu = [
        {
            "label": f"{LABELS.get(label, label)}, {VIEWS[view]}",
            "method": "restyle",
            "args": [{"visible": [owner in ((label, view), None) for owner in owners]}],
        }
        for label, view in choices
    ]
    fig.update_yaxes(title_text="information, % of labels' entropy", row=1, col=1)
    fig.update_xaxes(tickangle=-60, tickfont={"size": 9}, row=1, col=1)
    fig.update_xaxes(title_text="evenness of a token's gates", row=1, col=2)
    fig.update_yaxes(title_text="evenness of top-1 load", row=1, col=2)
    fig.update_layout(
        title={"text": "What gates tell, and how they load the experts"},
        template="plotly_white",
        height=680,
        updatemenus=[{"buttons": menu}],
    )
    return arranged(fig)
