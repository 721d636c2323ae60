"""Experts and data sets: how much more often than the average token a data set uses an expert."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from ...drawing.layout import arranged
from ...drawing.marks import float32, menu_of
from ...drawing.style import FULL_WIDTH, figure, method_color, note_below, use_style
from ...evidence import counted
from .draw import methods_of
from .measure import RoutingExperts

MOST_COLUMNS = 9
MOST_LIFT = 2.0  # colors end at four times as often, or at a quarter


def plot(found: RoutingExperts) -> Figure:
    """One router of each system."""
    with use_style(large=True):
        fig = specialists_figure(found.shown)
        note_below(fig, found.note(routers_shown(found.shown)))
    return fig


def lift_grid(shares: pd.DataFrame, order: Sequence[str] | None = None) -> pd.DataFrame:
    """Rows of `expert_shares` of one router -> log2 lifts (labels, experts), with similar ones next to each other.

    Both sides are sorted by their place on the first singular vectors. Experts without load are left out.

    Args:
        shares: of one router.
        order: of the labels, for example from `common_order`; experts are then sorted by where in it their lifts are.
            None sorts the labels by this router alone.

    Raises:
        ValueError: for rows of several routers.
    """
    if len(found := shares[["method", "seed", "module"]].drop_duplicates()) != 1:
        raise ValueError(f"shares has {len(found)} routers; pass the rows of one method, seed and module")
    grid = shares.pivot(index="label", columns="expert", values="log_lift").dropna(axis=1, how="all")
    if order is not None:
        grid = grid.loc[list(order)]
        places = np.linspace(-1.0, 1.0, len(grid))
        return grid.iloc[:, np.argsort(places @ drawn(grid), kind="stable")]
    left, _, right = np.linalg.svd(drawn(grid), full_matrices=False)
    return grid.iloc[np.argsort(left[:, 0], kind="stable"), np.argsort(right[0], kind="stable")]


def drawn(grid: pd.DataFrame) -> np.ndarray:
    """The lifts, clipped to the range of the colors."""
    return np.nan_to_num(grid.to_numpy(), nan=0.0, neginf=-MOST_LIFT).clip(-MOST_LIFT, MOST_LIFT)


def common_order(shares: pd.DataFrame) -> list[str]:
    """One order of the labels for all routers of `expert_shares`: by the first singular vector of all their lifts.

    Each router has the same weight, for any number of experts and any degree of specialization.
    """
    blocks = []
    for _, rows in shares.groupby(["method", "seed", "module"], sort=False):
        grid = lift_grid(rows).sort_index()
        values = drawn(grid)
        blocks.append(values / max(float(np.linalg.norm(values)), 1e-12))
    left = np.linalg.svd(np.hstack(blocks), full_matrices=False)[0]
    return [str(grid.index[place]) for place in np.argsort(left[:, 0], kind="stable")]


def specialists_figure(shares: pd.DataFrame) -> Figure:
    """Experts and data sets, one panel per method: how much more often than the average token a data set uses an expert.

    shares: `expert_shares` of one router for each method; experts of different routers are unrelated, so no mean is
    drawn. All panels have the same colors and the same order of rows, `common_order`.

    >>> figure = specialists_figure(shares)
    >>> len(figure.axes)  # three routers and the scale of colors
    4
    """
    methods, order = methods_of(shares), common_order(shares)
    columns = min(len(methods), MOST_COLUMNS)
    rows = -(-len(methods) // columns)
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 1.1 + rows * (0.75 + 0.185 * len(order)))
        panels: Any = fig.subplots(rows, columns, squeeze=False, sharey=True)
        for panel, method in zip(panels.ravel(), methods):
            own = shares[shares["method"] == method]
            image = panel.imshow(lift_grid(own, order), cmap="RdBu_r", vmin=-MOST_LIFT, vmax=MOST_LIFT, aspect="auto")
            panel.tick_params(length=0)
            panel.set_xticks([])
            panel.set_xlabel(fill(experts_used(own), 84 // columns), fontsize=8.5)
            title = fill(method.replace("-and-", "-and- "), 9).replace("- ", "-")
            panel.set_title(title, fontsize=8.5, loc="center", color=method_color(method), fontweight="bold")
        for panel in panels[:, 0]:
            panel.set_yticks(range(len(order)), [name.replace("_", " ") for name in order], fontsize=9)
        for panel in panels.ravel()[len(methods) :]:
            panel.set_axis_off()
        bar = fig.colorbar(image, ax=panels, extend="both", fraction=0.04, aspect=50, location="bottom")
        bar.set_ticks([-2, -1, 0, 1, 2], labels=["¼", "½", "1", "2", "4"])
        bar.set_label("times as often as the average token")
    return fig


def routers_shown(shares: pd.DataFrame) -> str:
    """Which router of which seed is shown for each method; the most frequent router comes first."""
    found = shares.drop_duplicates(["method", "seed", "module"])
    named: dict[str, list[str]] = {}
    for method, module in zip(found["method"], found["module"]):
        named.setdefault(router_title(module), []).append(str(method))
    usual = max(named, key=lambda title: len(named[title]))
    others = [f"{', '.join(methods)}: {title}" for title, methods in named.items() if title != usual]
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(found["seed"]))
    return "; ".join([f"One router of each system, seed {seeds}: {usual}", *others]) + "."


def experts_used(shares: pd.DataFrame) -> str:
    """For one router's rows of `expert_shares`: "8 experts", or "3 of 4 experts used" if some never had a token."""
    used, held = shares.loc[shares["load"] > 0, "expert"].nunique(), shares["expert"].nunique()
    return counted(held, "expert") if used == held else f"{used} of {counted(held, 'expert')} used"


def router_title(module: str) -> str:
    """ "layers.3.mlp.up_proj pool 1" -> "layer 3, up_proj pool 1"."""
    numbers = [part for part in module.split(".") if part.isdigit()]
    last = module.split(".")[-1]
    return f"layer {numbers[0]}, {last}" if numbers else last


def interactive(found: RoutingExperts) -> go.Figure:
    """The same routers, one at a time; a menu chooses one."""
    shares = found.shown
    fig, axes, common = go.Figure(), {}, common_order(shares)
    for (method, seed, module), rows in shares.groupby(["method", "seed", "module"], sort=False):
        grid = lift_grid(rows, common)
        cells = rows.set_index(["label", "expert"])
        order = pd.MultiIndex.from_product([grid.index, grid.columns])
        axes[f"{method}, seed {seed}, {module}"] = f"{experts_used(rows)}, sorted"
        fig.add_trace(
            go.Heatmap(
                z=float32(grid),
                x=[f"expert {name}" for name in grid.columns],
                y=list(grid.index),
                customdata=float32(100 * cells.loc[order, ["share", "load"]]).reshape(*grid.shape, 2),
                zmin=-MOST_LIFT,
                zmax=MOST_LIFT,
                colorscale="RdBu",
                reversescale=True,
                visible=len(axes) == 1,
                colorbar={"title": {"text": "log2 lift"}},
                hovertemplate="%{y}<br>%{x}<br>%{customdata[0]:.1f} % of its gates, %{customdata[1]:.1f} % of all"
                "<br>log2 lift %{z:.3f}<extra></extra>",
            )
        )
    menu = {
        title: [{"visible": [other == title for other in axes]}, {"xaxis.title.text": axis}]
        for title, axis in axes.items()
    }
    return arranged(
        fig,
        "one router of one seed at a time; all have the same order of rows",
        title={"text": "Experts by data set"},
        height=680,
        xaxis={"showticklabels": False, "title": {"text": next(iter(axes.values()))}},
        yaxis={"autorange": "reversed"},
        updatemenus=[menu_of("Router", menu)],
    )
