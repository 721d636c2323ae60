"""T-REX Fig. 2: paths of router weights in three dimensions, how smooth they are, and the losses meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, method_color, use_style
from .paths import PATH_COLUMNS, PathAxes

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import RouterPaths

HIGHLIGHTED = 3  # experts drawn thick: the first in rank
ELEVATION, AZIMUTH = 22, -58
COLORMAP = "viridis_r"
MEASURE_LABELS = {"tortuosity": "path length / displacement", "turning_angle": "turning angle (degrees)"}
REFERENCES = {"tortuosity": "momentum_tortuosity", "turning_angle": "momentum_angle"}


def plot(found: RouterPaths) -> Figure:
    """The paper figure: paths of the first seed above, smoothness and losses of all seeds below."""
    return trajectory_figure(found.paths, found.axes, found.smooth, found.smoothness, found.bands)


def interactive(found: RouterPaths) -> go.Figure:
    """All methods in one scene that turns, with every seed."""
    return trajectory_explorer(found.paths, found.axes)


def axis_labels(axes: PathAxes) -> list[str]:
    """ "PC1 (41 %)": the share of the pooled squared displacement that an axis shows."""
    return [f"PC{number} ({share:.0%})" for number, share in enumerate(axes.explained, start=1)]


def trajectory_figure(
    paths: pd.DataFrame,
    axes: PathAxes,
    smooth: pd.DataFrame,
    summary: pd.DataFrame,
    bands: pd.DataFrame,
    seed: int | None = None,
) -> Figure:
    """The paper figure; in: what router_paths, path_axes, smoothness, smoothness_summary and loss_bands return.

    Above: one panel per method with one seed's experts (by default the first), all to one scale, colored by training
    step; thin lines are all experts, thick ones the three of lowest rank, a ring is the start, dots are ends.
    Below: tortuosity and turning angle, one dot per seed with the 95 % interval and what noise alone gives; and losses.
    Raises ValueError for a seed that the paths do not have.

    >>> from moe_analysis.studies.convergence import loss_bands
    >>> from moe_analysis.studies.router_paths.smoothness import smoothness_summary
    >>> figure = trajectory_figure(paths, axes, smooth, smoothness_summary(smooth), loss_bands(curves))
    >>> len(figure.axes)
    7
    """
    shown = of_seed(paths, seed)
    methods = list(dict.fromkeys(shown["method"]))
    with use_style():
        fig = figure(FULL_WIDTH, 4.9)
        halves: Any = fig.subfigures(2, 1, height_ratios=[1.25, 1.0])
        above, below = halves
        # placed by hand: automatic layout leaves half of the width empty around panels in three dimensions
        width = 0.92 / len(methods)
        places = [(number * width - 0.02, 0.0, width, 1.05) for number in range(len(methods))]
        panels = [above.add_axes(place, projection="3d") for place in places]
        limits = common_limits(shown)
        exponent = int(np.floor(np.log10(np.abs(limits).max())))
        for letter, panel, method in zip("abcdefgh", panels, methods):
            lines = draw_paths(panel, shown[shown["method"] == method], shown["step"].max())
            dress_panel(panel, limits, axis_labels(axes), exponent)
            panel.set_title(f"({letter}) {method}", color=method_color(method), loc="center", fontweight="bold", y=0.93)
        bar = above.colorbar(lines, cax=above.add_axes((0.945, 0.24, 0.011, 0.48)))
        bar.ax.set_title("step", fontsize=7, loc="center")
        above.text(0.955, 0.1, f"axes in $10^{{{exponent}}}$", fontsize=6.5, ha="center")
        first, second, third = below.subplots(1, 3, width_ratios=[1, 1, 1.25])
        draw_measure(first, smooth, summary, "tortuosity", methods)
        draw_measure(second, smooth, summary, "turning_angle", methods)
        draw_losses(third, bands, methods)
    return fig


def of_seed(paths: pd.DataFrame, seed: int | None) -> pd.DataFrame:
    """The paths of one seed, by default the first in the frame."""
    seeds = list(dict.fromkeys(paths["seed"]))
    seed = seeds[0] if seed is None else seed
    if seed not in seeds:
        raise ValueError(f"seed = {seed} has no path; choose one of {', '.join(map(str, seeds))}")
    return paths[paths["seed"] == seed]


def lines_of(paths: pd.DataFrame) -> np.ndarray:
    """One run's paths, sorted as `router_paths` returns them -> (experts, points, 3)."""
    return paths[list(PATH_COLUMNS)].to_numpy(np.float32).reshape(paths["expert"].nunique(), -1, 3)


def common_limits(paths: pd.DataFrame) -> np.ndarray:
    """(3, 2): the range of each axis over all methods, with a margin."""
    values = paths[list(PATH_COLUMNS)].to_numpy()
    low, high = values.min(0), values.max(0)
    margin = 0.04 * np.maximum(high - low, 1e-9)
    return np.stack([low - margin, high + margin], axis=1)


def draw_paths(panel: Any, paths: pd.DataFrame, last_step: int) -> Any:
    """All experts thin, those of lowest rank thick; returns the thick lines' artist, whose color is the step."""
    from matplotlib.colors import Normalize
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    lines = lines_of(paths)
    steps = paths["step"].to_numpy()[: lines.shape[1]]
    rank = paths["rank"].to_numpy()[:: lines.shape[1]]
    segments = np.stack([lines[:, :-1], lines[:, 1:]], axis=2)  # (experts, points-1, 2, 3)
    for chosen, width, alpha in ((rank > HIGHLIGHTED, 0.6, 0.5), (rank <= HIGHLIGHTED, 1.8, 1.0)):
        artist = Line3DCollection(
            segments[chosen].reshape(-1, 2, 3),
            linewidths=width,
            alpha=alpha,
            cmap=COLORMAP,
            norm=Normalize(0, last_step),
            capstyle="round",
        )
        artist.set_array(np.tile(steps[1:], chosen.sum()))
        panel.add_collection3d(artist, autolim=False)
    ends = lines[rank <= HIGHLIGHTED, -1]
    panel.scatter(*ends.T, s=16, color="black", depthshade=False, zorder=10)
    panel.scatter(*lines[0, 0], s=26, facecolor="white", edgecolor="black", depthshade=False, zorder=11)
    return artist


def dress_panel(panel: Any, limits: np.ndarray, labels: Sequence[str], exponent: int) -> None:
    """One view and scale for all panels; ticks in units of 10^exponent, since long numbers run into each other."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    panel.view_init(ELEVATION, AZIMUTH)
    panel.set_box_aspect((1, 1, 0.9), zoom=0.9)
    panel.patch.set_visible(False)  # it would cover the labels of the panel beside it
    for name, span, label in zip("xyz", limits, labels):
        getattr(panel, f"set_{name}lim")(*span)
        getattr(panel, f"set_{name}label")(label, labelpad=-5)
        axis = getattr(panel, f"{name}axis")
        axis.set_major_locator(MaxNLocator(4, prune="both"))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**exponent:.3g}"))
        axis.set_tick_params(pad=-3, labelsize=6)
        axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
        axis._axinfo["grid"].update(color=(0.85, 0.85, 0.85), linewidth=0.4)


def draw_measure(panel: Any, smooth: pd.DataFrame, summary: pd.DataFrame, measure: str, methods: Sequence[str]) -> None:
    """A dot per seed (mean over modules), the mean with its interval, and a dashed mark for momentum on pure noise."""
    seeds = smooth.groupby(["method", "seed"])[[measure, REFERENCES[measure]]].mean()
    rows = summary[summary["measure"] == measure].set_index("method")
    for place, method in enumerate(methods):
        values, color = seeds.loc[method], method_color(method)
        spread = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(1)
        panel.scatter(place + spread, values[measure], s=14, color=color, alpha=0.55, linewidths=0, zorder=2)
        row = rows.loc[method]
        error = np.nan_to_num([[row["mean"] - row["low"]], [row["high"] - row["mean"]]])
        panel.errorbar(place, row["mean"], error, fmt="_", color=color, markersize=13, capsize=3, zorder=3)
        reference = values[REFERENCES[measure]].mean()
        panel.plot(
            [place - 0.32, place + 0.32],
            [reference] * 2,
            color="0.35",
            linestyle=(0, (3, 2)),
            linewidth=1.0,
            label="noise with momentum" if place == 0 else None,
        )
    panel.set_xticks(range(len(methods)), [fill(method, 9) for method in methods])
    panel.set_xlim(-0.55, len(methods) - 0.45)
    panel.set_ylabel(MEASURE_LABELS[measure])
    panel.margins(y=0.18)
    panel.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), handlelength=1.6, borderpad=0.2)


def draw_losses(panel: Any, bands: pd.DataFrame, methods: Sequence[str]) -> None:
    """Mean smoothed loss of the seeds, shaded between the lowest and the highest."""
    for method in methods:
        band, color = bands[bands["method"] == method], method_color(method)
        panel.fill_between(band["step"], band["low"], band["high"], color=color, alpha=0.18, linewidth=0)
        panel.plot(band["step"], band["mean"], color=color, label=method)
    panel.set_xlabel("training step")
    panel.set_ylabel("training loss (nats per token)")
    panel.grid(axis="y")
    panel.legend(
        loc="lower left",
        bbox_to_anchor=(-0.05, 1.0),
        ncols=len(methods),
        handlelength=1.0,
        columnspacing=0.9,
        handletextpad=0.4,
        borderpad=0.2,
    )


def entropy_figure(entropy: pd.DataFrame) -> Figure:
    """Gate entropy over training from `gate_entropy`: one line per method, the mean of its seeds, and each seed thin.

    >>> from moe_analysis.studies.records import gate_entropy
    >>> figure = entropy_figure(gate_entropy(runs))
    >>> figure.axes[0].get_ylabel()
    'gate entropy (1: all equal)'
    """
    with use_style():
        fig = figure(FULL_WIDTH / 2, 2.4)
        panel = fig.subplots()
        for method, rows in entropy.groupby("method", sort=False):
            color = method_color(str(method))
            seeds = rows.pivot(index="step", columns="seed", values="entropy")
            panel.plot(seeds.index, seeds.to_numpy(), color=color, linewidth=0.6, alpha=0.5)
            panel.plot(seeds.index, seeds.mean(axis=1), color=color, label=method)
        panel.set_xlabel("training step")
        panel.set_ylabel("gate entropy (1: all equal)")
        panel.grid(axis="y")
        panel.legend(loc="lower left", bbox_to_anchor=(-0.05, 1.0), ncols=3, handlelength=1.0, columnspacing=0.9)
    return fig


def trajectory_explorer(paths: pd.DataFrame, axes: PathAxes) -> go.Figure:
    """The interactive twin: all methods in one scene, the legend hides a method, buttons choose the seed.

    Hover tells method, seed, expert, step and loss. Thick lines are the experts of lowest rank.

    >>> figure = trajectory_explorer(paths, axes)
    >>> figure.data[0].type, len(figure.layout.updatemenus)
    ('scatter3d', 1)
    """
    import plotly.graph_objects as go

    fig = go.Figure()
    seeds = list(dict.fromkeys(paths["seed"]))
    owners = []
    for (method, seed), run in paths.groupby(["method", "seed"], sort=False):
        for leading in (True, False):
            lines = run[(run["rank"] <= HIGHLIGHTED) == leading]
            if len(lines):
                fig.add_trace(path_trace(lines, str(method), seed, leading, visible=seed == seeds[0]))
                owners.append(seed)
    choices = {f"seed {seed}": [owner == seed for owner in owners] for seed in seeds}
    choices["all seeds"] = [True] * len(owners)
    buttons = [{"label": label, "method": "restyle", "args": [{"visible": shown}]} for label, shown in choices.items()]
    names = dict(zip(("xaxis", "yaxis", "zaxis"), ({"title": {"text": label}} for label in axis_labels(axes))))
    fig.update_layout(
        title={"text": f"Router weights during training, {axes.module}"},
        scene={**names, "aspectmode": "cube"},
        template="plotly_white",
        height=720,
        legend={"title": {"text": "method"}, "groupclick": "togglegroup"},
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons}],
    )
    return arranged(fig)


def path_trace(lines: pd.DataFrame, method: str, seed: Any, leading: bool, visible: bool) -> go.Scatter3d:
    """Some experts of one run as one trace, with a gap after each expert."""
    import plotly.graph_objects as go

    experts = lines["expert"].nunique()
    columns = [*PATH_COLUMNS, "expert", "step", "loss"]
    rows = lines[columns].to_numpy(np.float32).reshape(experts, -1, len(columns))
    gap = np.full((experts, 1, len(columns)), np.nan, np.float32)
    values = np.concatenate([rows, gap], axis=1).reshape(-1, len(columns))  # (experts*(points+1), columns)
    return go.Scatter3d(
        x=values[:, 0],
        y=values[:, 1],
        z=values[:, 2],
        customdata=values[:, 3:],
        mode="lines",
        visible=visible,
        name=method,
        legendgroup=method,
        showlegend=leading,
        connectgaps=False,
        opacity=1.0 if leading else 0.3,
        line={"color": method_color(method), "width": 5 if leading else 2},
        hovertemplate=(
            f"{method}, seed {seed}<br>expert %{{customdata[0]:.0f}}<br>step %{{customdata[1]:.0f}}"
            "<br>loss %{customdata[2]:.3f}<extra></extra>"
        ),
    )
