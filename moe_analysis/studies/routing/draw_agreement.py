"""Agreement of routers between layers and between seeds, after their experts were matched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, use_style
from ...evidence.intervals import mean_interval
from ..records import layer_title
from .agreement import AGREEMENT, agreement_matrix, pair_interval
from .draw import methods_of, wrapped

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import RoutingAgreement

AGREES = "agreement beyond chance"


def plot(found: RoutingAgreement) -> Figure:
    """Matrices by layers and seeds above, means with intervals below."""
    return agreement_figure(found.seeds, found.layers, found.untrained)


def interactive(found: RoutingAgreement) -> go.Figure:
    """Matrices of one system at a time."""
    return agreement_explorer(found.seeds, found.layers)


def agreement_figure(seeds: pd.DataFrame, layers: pd.DataFrame, untrained_seeds: pd.DataFrame) -> Figure:
    """Agreement of matched routers on held-out texts, 1 the same and 0 chance: `between_seeds` and `between_layers`.

    First row: mean over layers' projections and seeds by a pair of layers; second row: by a pair of seeds; a column a
    method. Below: means with 95 % intervals, of seeds jackknifed, and rings for seeds before training.

    >>> figure = agreement_figure(between["seeds"], between["layers"], between["start"])
    >>> len(figure.axes)
    7
    """
    methods = methods_of(seeds)
    size = 7 if len(methods) <= 6 else 5.6  # of the methods' names
    side = min(1.15, 0.85 * FULL_WIDTH / len(methods))  # of a matrix, inches
    with use_style():
        fig = figure(FULL_WIDTH, 2 * side + 2.6)
        parts: Any = fig.subfigures(2, 1, height_ratios=[2 * side + 0.9, 1.7])
        panels = parts[0].subplots(2, len(methods), squeeze=False)
        for column, method in enumerate(methods):
            draw_matrix(panels[0, column], layer_matrix(layers, method), "layer", column == 0)
            draw_matrix(panels[1, column], seed_matrix(seeds, method), "seed", column == 0)
            panels[0, column].set_title(wrapped(method), fontsize=size)
        draw_intervals(parts[1].subplots(), seeds, layers, untrained_seeds, methods)
        parts[1].axes[0].tick_params(axis="x", labelsize=size)
    return fig


def layer_matrix(layers: pd.DataFrame, method: str) -> pd.DataFrame:
    matrix = agreement_matrix(layers[layers["method"] == method], "layer", "other_layer", AGREEMENT)
    names = [layer_title(name).removeprefix("layer ") for name in matrix.index]
    return matrix.set_axis(names, axis=0).set_axis(names, axis=1)


def seed_matrix(seeds: pd.DataFrame, method: str) -> pd.DataFrame:
    return agreement_matrix(seeds[seeds["method"] == method], "seed", "other_seed", AGREEMENT)


def draw_matrix(panel: Any, matrix: pd.DataFrame, what: str, leading: bool) -> None:
    values = matrix.to_numpy()
    panel.imshow(values, cmap="Greens", vmin=0.0, vmax=1.0)
    if len(matrix) <= 5:
        for (row, column), value in np.ndenumerate(values):
            if row != column:
                text = "–" if np.isnan(value) else f"{value:.2f}".replace("0.", ".")
                panel.text(
                    column, row, text, ha="center", va="center", fontsize=5, color="white" if value > 0.6 else "black"
                )
    panel.set_xticks(range(len(matrix)), matrix.columns, fontsize=6)
    panel.set_yticks(range(len(matrix)), matrix.index, fontsize=6)
    panel.tick_params(length=0)
    panel.set_xlabel(what, fontsize=7, labelpad=1)
    if leading:
        panel.set_ylabel(what, fontsize=7)


def draw_intervals(
    panel: Any, seeds: pd.DataFrame, layers: pd.DataFrame, untrained: pd.DataFrame, methods: Sequence[str]
) -> None:
    for place, method in enumerate(methods):
        first = place == 0
        mean, low, high, _ = pair_interval(seeds[seeds["method"] == method], AGREEMENT)
        panel.errorbar(
            place - 0.12,
            mean,
            [[mean - low], [high - mean]],
            fmt="o",
            color="#009E73",
            label="pairs of seeds" if first else None,
        )
        before = untrained.loc[untrained["method"] == method, AGREEMENT].mean()
        panel.plot(
            place - 0.28,
            before,
            "o",
            color="#009E73",
            markerfacecolor="none",
            label="pairs of seeds before training" if first else None,
        )
        mean, low, high = mean_interval(layers[layers["method"] == method].groupby("seed")[AGREEMENT].mean().to_numpy())
        panel.errorbar(
            place + 0.12,
            mean,
            [[mean - low], [high - mean]],
            fmt="s",
            color="#0072B2",
            label="pairs of layers" if first else None,
        )
    panel.axhline(0.0, color="0.6", linewidth=0.6, zorder=0)
    panel.set_xticks(range(len(methods)), [wrapped(method) for method in methods])
    panel.set_xlim(-0.6, len(methods) - 0.4)
    panel.set_ylabel(AGREES)
    panel.grid(axis="y")
    panel.legend(loc="upper left", bbox_to_anchor=(0.0, 1.22), ncols=3, handletextpad=0.3)


def agreement_explorer(seeds: pd.DataFrame, layers: pd.DataFrame) -> go.Figure:
    """The interactive twin: matrices by pairs of modules and by pairs of seeds, a method at a time from a menu.

    >>> figure = agreement_explorer(between["seeds"], between["layers"])
    >>> [button.label for button in figure.layout.updatemenus[0].buttons]
    ['LoRA-MoE', 'mix-and-match', 'T-REX']
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    fig = make_subplots(rows=1, cols=2, column_widths=[0.62, 0.38], subplot_titles=["routers of one run", "seeds"])
    methods = methods_of(seeds)
    for number, method in enumerate(methods):
        own = layers[layers["method"] == method]
        for column, (matrix, what) in enumerate(
            (
                (agreement_matrix(own, "module", "other", AGREEMENT), "%{y}<br>%{x}"),
                (seed_matrix(seeds, method), "%{y} and %{x}"),
            ),
            start=1,
        ):
            names = [str(name) if column == 1 else f"seed {name}" for name in matrix.index]
            fig.add_trace(
                go.Heatmap(
                    z=matrix.to_numpy(np.float32),
                    x=names,
                    y=names,
                    colorscale="Greens",
                    zmin=0.0,
                    zmax=1.0,
                    visible=number == 0,
                    showscale=column == 2,
                    name=method,
                    colorbar={"title": {"text": "agreement"}},
                    hovertemplate=f"{method}<br>{what}<br>{AGREES} %{{z:.3f}}<extra></extra>",
                ),
                row=1,
                col=column,
            )
    menu = [
        {
            "label": method,
            "method": "restyle",
            "args": [{"visible": [other == method for other in methods for _ in range(2)]}],
        }
        for method in methods
    ]
    fig.update_yaxes(autorange="reversed", tickfont={"size": 9})
    fig.update_xaxes(tickangle=-60, tickfont={"size": 9})
    fig.update_layout(
        title={"text": "Do routers agree?"}, template="plotly_white", height=680, updatemenus=[{"buttons": menu}]
    )
    return arranged(fig)
