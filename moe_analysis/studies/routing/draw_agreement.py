"""Agreement of routers between layers and between seeds, after matching their experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import bars_of, float32, interval_of, menu_of
from ...drawing.style import FULL_WIDTH, figure, note_below, use_style
from ...evidence import counted
from ...evidence.intervals import mean_interval
from ..records import layer_title
from .agreement import AGREEMENT, agreement_matrix, pair_interval
from .draw import methods_of, wrapped
from .measure import RoutingAgreement

AGREES = "agreement beyond chance (1: the same for every token)"
BEFORE, SEEDS, LAYERS = "pairs of seeds before training", "pairs of seeds", "pairs of layers"
# color, marker of matplotlib and of plotly, vertical place in a system's row
MARKS = {
    BEFORE: ("#009E73", "o", "circle-open", -0.2),
    SEEDS: ("#009E73", "o", "circle", 0.0),
    LAYERS: ("#0072B2", "s", "square", 0.2),
}
BARS = "bars: 95 % intervals, over seeds for pairs of layers, and jackknifed for pairs of seeds"


def agreement_means(seeds: pd.DataFrame, layers: pd.DataFrame, untrained: pd.DataFrame) -> pd.DataFrame:
    """What both drawings show for each method: columns method, what (a key of MARKS), mean, low, high.

    Intervals of 95 %: over seeds for pairs of layers, jackknifed for pairs of seeds, NaN before training.
    """
    rows: list[tuple[Any, ...]] = []
    for method in methods_of(seeds):
        before = untrained.loc[untrained["method"] == method, AGREEMENT].mean()
        rows.append((method, BEFORE, before, np.nan, np.nan))
        rows.append((method, SEEDS, *pair_interval(seeds[seeds["method"] == method], AGREEMENT)[:3]))
        by_seed = layers[layers["method"] == method].groupby("seed")[AGREEMENT].mean()
        rows.append((method, LAYERS, *mean_interval(by_seed.to_numpy())))
    return pd.DataFrame(rows, columns=["method", "what", "mean", "low", "high"])


def plot(found: RoutingAgreement) -> Figure:
    """Agreement of matched routers on held-out texts, 1 is the same and 0 is chance.

    One row per method: means with 95 % intervals, jackknifed for seeds, and rings for seeds before training; next to
    them are its matrices by pairs of layers (means over the layers' projections and seeds) and by pairs of seeds, where
    darker is more.
    """
    methods, means = methods_of(found.seeds), agreement_means(found.seeds, found.layers, found.untrained)
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 1.9 + 0.5 * len(methods))
        grid: Any = fig.add_gridspec(len(methods), 3, width_ratios=[6.4, 1, 1])
        dots = fig.add_subplot(grid[:, 0])
        draw_means(dots, means, methods)
        for row, method in enumerate(methods):
            pair = [fig.add_subplot(grid[row, column]) for column in (1, 2)]
            image = draw_matrix(pair[0], layer_matrix(found.layers, method))
            draw_matrix(pair[1], seed_matrix(found.seeds, method))
            if row == 0:
                pair[0].set_title("layers", fontsize=10, loc="center")
                pair[1].set_title("seeds", fontsize=10, loc="center")
        beside = [panel for panel in fig.axes if panel is not dots]
        bar = fig.colorbar(image, ax=beside, location="bottom", aspect=9, pad=0.03)
        bar.set_ticks([0, 0.5, 1])
        fig.legend(*dots.get_legend_handles_labels(), loc="outside upper left", ncols=3, handletextpad=0.2)
        told = f"{BARS}. Matrices: one cell per pair; the diagonal compares a router with itself."
        note_below(fig, found.note(f"{told[0].upper()}{told[1:]}"))
    return fig


def layer_matrix(layers: pd.DataFrame, method: str) -> pd.DataFrame:
    matrix = agreement_matrix(layers[layers["method"] == method], "layer", "other_layer", AGREEMENT)
    names = [layer_title(name).removeprefix("layer ") for name in matrix.index]
    return matrix.set_axis(names, axis=0).set_axis(names, axis=1)


def seed_matrix(seeds: pd.DataFrame, method: str) -> pd.DataFrame:
    return agreement_matrix(seeds[seeds["method"] == method], "seed", "other_seed", AGREEMENT)


def draw_matrix(panel: Any, matrix: pd.DataFrame) -> Any:
    """Cells in color; returns the image. The interactive figure shows the number of a pair on hover."""
    panel.set_xticks([])
    panel.set_yticks([])
    return panel.imshow(matrix.to_numpy(), cmap="Greens", vmin=0.0, vmax=1.0)


def draw_means(panel: Any, means: pd.DataFrame, methods: Sequence[str]) -> None:
    """One row per method, with the mean over pairs of seeds as a number."""
    for what, (color, shape, _, shift) in MARKS.items():
        rows = means[means["what"] == what].set_index("method").loc[list(methods)]
        panel.errorbar(
            rows["mean"],
            np.arange(len(methods)) + shift,
            xerr=interval_of(rows),
            fmt=shape,
            color=color,
            markersize=7,
            markerfacecolor="none" if what == BEFORE else color,
            label=what,
        )
    own = means[means["what"] == SEEDS].set_index("method")
    numbers, ends = own["mean"], own[["mean", "high"]].max(axis=1)
    for place, method in enumerate(methods):
        panel.annotate(
            f"{numbers[method]:z.2f}",
            (ends[method], place),
            (9, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=MARKS[SEEDS][0],
        )
    panel.axvline(0.0, color="0.4", linewidth=1.2, zorder=0)
    panel.set_yticks(range(len(methods)), [wrapped(method) for method in methods])
    panel.set_ylim(len(methods) - 0.5, -0.5)
    panel.set_xlim(min(-0.05, panel.get_xlim()[0]), max(1.12, panel.get_xlim()[1]))
    panel.set_xlabel(AGREES)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x")


def interactive(found: RoutingAgreement) -> go.Figure:
    """Means of all methods; matrices by pairs of modules and of seeds, of the method that a menu chooses."""
    seeds, layers = found.seeds, found.layers
    methods = methods_of(seeds)
    fig = make_subplots(
        rows=2,
        cols=2,
        specs=[[{"colspan": 2}, None], [{}, {}]],
        column_widths=[0.62, 0.38],
        vertical_spacing=0.14,
        subplot_titles=["means", "routers of one run", "seeds"],
    )
    for what, rows in agreement_means(seeds, layers, found.untrained).groupby("what", sort=False):
        color, _, symbol, shift = MARKS[str(what)]
        fig.add_scatter(
            x=float32(rows["mean"]),
            y=(np.arange(len(methods)) + shift).astype(np.float32),
            mode="markers",
            name=str(what),
            text=methods,
            marker={"color": color, "symbol": symbol, "size": 10},
            error_x={**bars_of(rows), "thickness": 2},
            hovertemplate=f"%{{text}}, {what}: %{{x:.3f}}<extra></extra>",
            row=1,
            col=1,
        )
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
                    z=float32(matrix),
                    x=names,
                    y=names,
                    colorscale="Greens",
                    zmin=0.0,
                    zmax=1.0,
                    visible=number == 0,
                    showscale=column == 2,
                    name=method,
                    colorbar={"title": {"text": "agreement"}, "len": 0.45, "y": 0.2},
                    hovertemplate=f"{method}<br>{what}<br>{AGREES} %{{z:.3f}}<extra></extra>",
                ),
                row=2,
                col=column,
            )
    menu = {
        method: [{"visible": [True] * len(MARKS) + [other == method for other in methods for _ in range(2)]}]
        for method in methods
    }
    fig.update_yaxes(autorange="reversed", tickfont={"size": 9}, row=2)
    fig.update_xaxes(tickangle=-60, tickfont={"size": 9}, row=2)
    fig.update_xaxes(title_text=AGREES, row=1)
    fig.update_yaxes(
        tickvals=list(range(len(methods))), ticktext=methods, range=[len(methods) - 0.5, -0.5], zeroline=False, row=1
    )
    return arranged(
        fig,
        f"{counted(len(set(seeds['seed']) | set(seeds['other_seed'])), 'seed')}; {BARS}.",
        title={"text": "Do routers agree?"},
        height=760 + 30 * len(methods),
        updatemenus=[menu_of("System", menu, "restyle")],
    )
