"""The anatomy of routing: what experts are used for, and how they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..analysis.intervals import mean_interval
from ..drawing.layout import arranged
from ..drawing.style import FULL_WIDTH, MARKERS, figure, method_color, use_style
from ..studies.records import layer_title

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

LABELS = {"dataset": "data set", "cluster": "semantic cluster", "cluster in data set": "cluster within a data set"}
VIEWS = {"gates": "all gates", "top1": "largest gate"}
SHORT = {"dataset": "data set", "cluster": "cluster"}
MOST_COLUMNS = 4
MOST_LIFT = 2.0  # colours end at four times as often, or a quarter


def wrapped(method: str) -> str:
    return method.replace(", ", ",\n")


def methods_of(frame: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(frame["method"]))


def lift_grid(shares: pd.DataFrame) -> pd.DataFrame:
    """Rows of `expert_shares` of one router -> log2 lifts (labels, experts), like beside like.

    Both sides are sorted by their place on the first singular vectors. Experts without load are left out. Raises
    ValueError for rows of several routers.
    """
    if len(found := shares[["method", "seed", "module"]].drop_duplicates()) != 1:
        raise ValueError(f"shares holds {len(found)} routers; pass the rows of one method, seed and module")
    grid = shares.pivot(index="label", columns="expert", values="log_lift").dropna(axis=1, how="all")
    values = np.nan_to_num(grid.to_numpy(), nan=0.0, neginf=-MOST_LIFT).clip(-MOST_LIFT, MOST_LIFT)
    left, _, right = np.linalg.svd(values, full_matrices=False)
    return grid.iloc[np.argsort(left[:, 0], kind="stable"), np.argsort(right[0], kind="stable")]


def specialists_figure(shares: pd.DataFrame) -> Figure:
    """Experts against data sets, a panel a method: how much more often than on average a data set uses an expert.

    shares: `expert_shares` of one router for each method; experts of different routers have nothing to do with each
    other, so no mean is drawn. All panels share their colours.

    >>> figure = specialists_figure(shares)
    >>> len(figure.axes)  # three routers and the scale of colours
    4
    """
    methods = methods_of(shares)
    columns = min(len(methods), MOST_COLUMNS)
    rows, labels = -(-len(methods) // columns), shares["label"].nunique()
    with use_style():
        fig = figure(FULL_WIDTH, 0.7 + rows * (0.7 + 0.115 * labels))
        panels: Any = fig.subplots(rows, columns, squeeze=False)
        for panel, method in zip(panels.ravel(), methods):
            own = shares[shares["method"] == method]
            grid = lift_grid(own)
            image = panel.imshow(grid, cmap="RdBu_r", vmin=-MOST_LIFT, vmax=MOST_LIFT, aspect="auto")
            panel.set_yticks(range(len(grid)), [str(name).replace("_", " ") for name in grid.index], fontsize=4.6)
            panel.tick_params(length=0)
            panel.set_xticks([])
            panel.set_xlabel(experts_used(own), fontsize=6.5)
            panel.set_title(f"{method}\n{router_title(own['module'].iloc[0])}", fontsize=6.5, loc="right")
        for panel in panels.ravel()[len(methods) :]:
            panel.set_axis_off()
        bar = fig.colorbar(image, ax=panels, extend="both", fraction=0.04, aspect=60, location="bottom")
        bar.set_ticks([-2, -1, 0, 1, 2], labels=["¼", "½", "1", "2", "4"])
        bar.set_label("share of the data set's gates over share of all gates")
    return fig


def experts_used(shares: pd.DataFrame) -> str:
    """Of one router's rows of `expert_shares`: "8 experts", or "3 of 4 experts used" where some never had a token."""
    used, held = shares.loc[shares["load"] > 0, "expert"].nunique(), shares["expert"].nunique()
    return f"{held} experts" if used == held else f"{used} of {held} experts used"


def router_title(module: str) -> str:
    """ "layers.3.mlp.up_proj pool 1" -> "layer 3, up_proj pool 1"."""
    numbers = [part for part in module.split(".") if part.isdigit()]
    last = module.split(".")[-1]
    return f"layer {numbers[0]}, {last}" if numbers else last


def routing_figure(
    trained: pd.DataFrame, untrained: pd.DataFrame, loads: pd.DataFrame, summary: pd.DataFrame
) -> Figure:
    """The paper figure of specialisation and load. trained, untrained: `specialisation` with the labels "dataset" and
    "cluster"; loads: `expert_loads`; summary: `load_summary`.

    (a, b, d, e) information beyond shuffled texts by layer, in per cent of the labels' entropy: means with 95 %
    intervals over seeds, rings before training. (c) mass of the experts, busiest first, even = 1; means over routers,
    shades the extremes of seeds. (f) a dot a router: normalised entropy of a token's gates against that of the load by
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


def specialists_explorer(shares: pd.DataFrame) -> go.Figure:
    """The interactive twin of `specialists_figure`, of as many routers as the frame has, one at a time from a menu.

    >>> specialists_explorer(shares).data[0].type
    'heatmap'
    """
    import plotly.graph_objects as go

    fig, titles, axes = go.Figure(), [], []
    for (method, seed, module), rows in shares.groupby(["method", "seed", "module"], sort=False):
        grid = lift_grid(rows)
        cells = rows.set_index(["label", "expert"])
        order = pd.MultiIndex.from_product([grid.index, grid.columns])
        known = cells.loc[order, ["share", "load"]].to_numpy(np.float32).reshape(*grid.shape, 2)
        titles.append(f"{method}, seed {seed}, {module}")
        axes.append(f"{experts_used(rows)}, sorted")
        fig.add_trace(
            go.Heatmap(
                z=grid.to_numpy(np.float32),
                x=[f"expert {name}" for name in grid.columns],
                y=list(grid.index),
                customdata=known,
                zmin=-MOST_LIFT,
                zmax=MOST_LIFT,
                colorscale="RdBu",
                reversescale=True,
                visible=len(titles) == 1,
                colorbar={"title": {"text": "log2 lift"}},
                hovertemplate="%{y}<br>%{x}<br>%{customdata[0]:.1%} of its gates, %{customdata[1]:.1%} of all"
                "<br>log2 lift %{z:.3f}<extra></extra>",
            )
        )
    menu = [
        {
            "label": title,
            "method": "update",
            "args": [{"visible": [other == title for other in titles]}, {"xaxis.title.text": axis}],
        }
        for title, axis in zip(titles, axes, strict=True)
    ]
    fig.update_layout(
        title={"text": "Experts by data set"},
        template="plotly_white",
        height=680,
        xaxis={"showticklabels": False, "title": {"text": axes[0]}},
        yaxis={"autorange": "reversed"},
        updatemenus=[{"buttons": menu}],
    )
    return arranged(fig)


def routing_explorer(trained: pd.DataFrame, summary: pd.DataFrame) -> go.Figure:
    """The interactive twin of `routing_figure`: a dot a router and seed. Left: information beyond shuffled texts by
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
