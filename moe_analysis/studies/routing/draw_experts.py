"""Experts against data sets: how much more often than on average a data set uses an expert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, use_style
from .draw import methods_of

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import RoutingExperts

MOST_COLUMNS = 4
MOST_LIFT = 2.0  # colors end at four times as often, or a quarter


def plot(found: RoutingExperts) -> Figure:
    """One router of each system."""
    return specialists_figure(found.shown)


def interactive(found: RoutingExperts) -> go.Figure:
    """The same routers, one at a time."""
    return specialists_explorer(found.shown)


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
    """Experts against data sets, one panel per method: how much more often than on average a data set uses an expert.

    shares: `expert_shares` of one router for each method; experts of different routers have nothing to do with each
    other, so no mean is drawn. All panels share their colors.

    >>> figure = specialists_figure(shares)
    >>> len(figure.axes)  # three routers and the scale of colors
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
