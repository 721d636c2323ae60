"""T-REX Fig. 2: paths of router weights in three dimensions, how smooth they are, and the losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator
from mpl_toolkits.mplot3d.art3d import Line3DCollection

from ...cards.in_words import percent
from ...drawing.layout import arranged
from ...drawing.marks import interval_of, menu_of
from ...drawing.style import FULL_WIDTH, NOTE, figure, method_color, note_below, text_on, use_style
from ...evidence import counted
from .draw_traces import bundle_trace, path_trace
from .measure import RouterPaths
from .paths import PATH_COLUMNS, PathAxes, path_bundles, ways_taken

HIGHLIGHTED = 3  # experts drawn thick: the first in rank
ELEVATION, AZIMUTH = 22, -58
COLORMAP = "viridis_r"
THIN, THICK = {"linewidths": 0.7, "alpha": 0.5}, {"linewidths": 2.2, "alpha": 1.0}
MEASURE_LABELS = {"tortuosity": "path length /\ndisplacement", "turning_angle": "turning angle (°)"}
REFERENCES = {"tortuosity": "momentum_tortuosity", "turning_angle": "momentum_angle"}


def plot(found: RouterPaths) -> Figure:
    """The paper figure: paths of the first seed above, smoothness and losses of all seeds below."""
    with use_style(large=True):
        fig = trajectory_figure(found.paths, found.axes, found.smooth, found.smoothness, found.bands)
        note_below(
            fig,
            found.note(
                f"Paths of seed {found.paths['seed'].iloc[0]} at {found.axes.module}: the start is white, ends are black, "
                f"the {HIGHLIGHTED} experts whose ends are farthest apart are thick. Below, dots are seeds, bars are 95 % "
                "intervals over seeds, dashes show pure noise with momentum; bands reach from the lowest to the highest seed."
            ),
        )
    return fig


def interactive(found: RouterPaths) -> go.Figure:
    """All methods and seeds in one scene that can be rotated."""
    return trajectory_explorer(found.paths, found.axes)


def axis_labels(axes: PathAxes, exponent: int | None = None) -> list[str]:
    """ "PC1 (41 %)": the share of the pooled squared displacement that an axis shows, and the unit 10^exponent."""
    unit = "" if exponent is None else f", in $10^{{{exponent}}}$"
    return [f"PC{number} ({percent(share)}){unit}" for number, share in enumerate(axes.explained, start=1)]


def trajectory_figure(
    paths: pd.DataFrame,
    axes: PathAxes,
    smooth: pd.DataFrame,
    summary: pd.DataFrame,
    bands: pd.DataFrame,
) -> Figure:
    """The paper figure; in: what router_paths, path_axes, smoothness, method_summary and loss_bands return.

    Above: one column per method with the first seed's experts, in three dimensions and below on the first two axes, all
    to one scale, colored by training step; thin lines are all experts, thick ones the three of lowest rank, a ring is
    the start, dots are ends. "×8" marks the end of a path that eight experts share.
    Below: tortuosity and turning angle, one dot per seed with the 95 % interval and what noise alone gives; and losses.

    >>> from moe_analysis.evidence.intervals import method_summary
    >>> from moe_analysis.studies.convergence import loss_bands
    >>> from moe_analysis.studies.router_paths.smoothness import MEASURES
    >>> figure = trajectory_figure(paths, axes, smooth, method_summary(smooth, MEASURES), loss_bands(curves))
    >>> len(figure.axes)
    10
    """
    shown = of_seed(paths, paths["seed"].iloc[0])
    methods = list(dict.fromkeys(shown["method"]))
    bundles = path_bundles(shown)
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 6.9)
        parts: Any = fig.subfigures(3, 1, height_ratios=[1.15, 1.2, 1.0])
        draw_scenes(parts[0], shown, bundles)
        draw_planes(parts[1], shown, axes, bundles)
        first, second, third = parts[2].subplots(1, 3, width_ratios=[1, 1, 1.1])
        draw_measure(first, smooth, summary, "tortuosity", methods)
        draw_measure(second, smooth, summary, "turning_angle", methods)
        second.tick_params(labelleft=False)
        draw_losses(third, bands, methods)
    return fig


def draw_scenes(part: Any, shown: pd.DataFrame, bundles: pd.DataFrame) -> None:
    """The first row: one scene per method; the plane below it gives the scale."""
    told = ways_taken(bundles)
    # placed by hand, because the automatic layout leaves half of the width empty around panels in three dimensions
    width = 0.91 / len(told)
    for number, (letter, (method, ways)) in enumerate(zip("abcdefgh", told.items())):
        panel = part.add_axes((0.03 + number * width, -0.03, width, 0.93), projection="3d")
        draw_paths(panel, shown[shown["method"] == method], shown["step"].max())
        dress_scene(panel, common_limits(shown))
        middle = 0.03 + (number + 0.5) * width
        color = method_color(method)
        part.text(
            middle, 0.99, f"({letter}) {method}", color=color, fontsize=11, fontweight="bold", ha="center", va="top"
        )
        collapsed = "only" in ways
        part.text(
            middle,
            0.88,
            ways,
            fontsize=9.5,
            ha="center",
            va="top",
            fontweight="bold" if collapsed else "normal",
            color=text_on(color) if collapsed else NOTE,
            bbox={"facecolor": color, "edgecolor": "none", "pad": 2.0} if collapsed else None,
        )


def draw_planes(part: Any, shown: pd.DataFrame, axes: PathAxes, bundles: pd.DataFrame) -> None:
    """The second row: the same paths on the first two axes, with a bar for the training step."""
    exponent = power_of_ten(shown)
    labels = axis_labels(axes, exponent)
    methods = list(dict.fromkeys(shown["method"]))
    panels = part.subplots(1, len(methods), sharex=True, sharey=True, squeeze=False)[0]
    for panel, method in zip(panels, methods):
        lines = draw_paths(panel, shown[shown["method"] == method], shown["step"].max())
        mark_bundles(panel, bundles[bundles["method"] == method], method)
        scaled(panel.xaxis, exponent)
        scaled(panel.yaxis, exponent)
        panel.set_xlabel(labels[0])
        panel.grid(alpha=0.25)
    low, high = common_limits(shown)[:2].T
    panels[0].set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    panels[0].set_ylabel(labels[1])
    bar = part.colorbar(lines, ax=list(panels), aspect=14, pad=0.015)
    bar.ax.set_title("step", fontsize=9.5, loc="center")
    bar.ax.locator_params(nbins=4)


def power_of_ten(paths: pd.DataFrame) -> int:
    """The exponent of the unit of the axes' labels, because long numbers would overlap."""
    return int(np.floor(np.log10(np.abs(common_limits(paths)).max())))


def of_seed(paths: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The paths of one seed; raises ValueError for a seed that the frame does not have."""
    seeds = list(dict.fromkeys(paths["seed"]))
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
    """All experts as thin lines, those of lowest rank as thick ones, in two or three dimensions like the panel.

    Returns the artist of the thick lines, whose color is the step.
    """
    deep = panel.name == "3d"
    kind, add = (Line3DCollection, panel.add_collection3d) if deep else (LineCollection, panel.add_collection)
    flat = {"depthshade": False} if deep else {}
    lines = lines_of(paths)[..., : 3 if deep else 2]
    leading = leading_lines(paths)
    for chosen, look in ((~leading, THIN), (leading, THICK)):
        artist = kind(list(segments_of(lines[chosen])), **look, **step_colors(last_step), capstyle="round")
        artist.set_array(np.tile(steps_of(paths)[1:], chosen.sum()))
        add(artist, autolim=False)
    panel.scatter(*lines[leading, -1].T, s=18, color="black", zorder=4, **flat)
    panel.scatter(*lines[0, 0], s=30, facecolor="white", edgecolor="black", zorder=5, **flat)
    return artist


def leading_lines(paths: pd.DataFrame) -> np.ndarray:
    """(experts,) bool: the experts that are drawn with thick lines."""
    return paths["rank"].to_numpy()[:: len(steps_of(paths))] <= HIGHLIGHTED


def steps_of(paths: pd.DataFrame) -> np.ndarray:
    return paths["step"].to_numpy()[: len(paths) // paths["expert"].nunique()]


def segments_of(lines: np.ndarray) -> np.ndarray:
    """(experts, points, axes) -> (experts * (points - 1), 2, axes)."""
    return np.stack([lines[:, :-1], lines[:, 1:]], axis=2).reshape(-1, 2, lines.shape[2])


def step_colors(last_step: int) -> dict[str, Any]:
    return {"cmap": COLORMAP, "norm": Normalize(0, last_step)}


def mark_bundles(panel: Any, bundles: pd.DataFrame, method: str) -> None:
    """ "×8" beyond the end of a path that eight experts share; nothing for a path of one expert."""
    for row in bundles[bundles["experts"] > 1].itertuples():
        away = np.array([row.pc1, row.pc2])
        away = 16 * away / max(float(np.linalg.norm(away)), 1e-12)  # points beyond the end
        panel.scatter(row.pc1, row.pc2, s=42, facecolor="none", edgecolor=method_color(method), linewidth=1.6, zorder=6)
        panel.annotate(
            f"×{row.experts}",
            (row.pc1, row.pc2),
            away,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            zorder=7,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],  # readable in front of other paths
        )


def scaled(axis: Any, exponent: int) -> None:
    """A few ticks in units of 10^exponent."""
    axis.set_major_locator(MaxNLocator(4, prune="both"))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 10.0**exponent:.3g}"))


def dress_scene(panel: Any, limits: np.ndarray) -> None:
    """One view and scale for all scenes, without numbers."""
    panel.view_init(ELEVATION, AZIMUTH)
    panel.set_box_aspect((1, 1, 0.9), zoom=1.05)
    panel.patch.set_visible(False)  # it would cover the labels of the next panel
    for number, (name, span) in enumerate(zip("xyz", limits), start=1):
        getattr(panel, f"set_{name}lim")(*span)
        getattr(panel, f"set_{name}label")(f"PC{number}", labelpad=-12)
        axis = getattr(panel, f"{name}axis")
        scaled(axis, 0)
        axis.set_ticklabels([])
        axis.set_tick_params(pad=-3, labelsize=6)
        axis.set_pane_color((0.97, 0.97, 0.97, 1.0))
        axis._axinfo["grid"].update(color=(0.85, 0.85, 0.85), linewidth=0.4)


def draw_measure(panel: Any, smooth: pd.DataFrame, summary: pd.DataFrame, measure: str, methods: Sequence[str]) -> None:
    """One dot per seed (mean over modules), the mean with its interval, and a dashed mark for noise with momentum."""
    seeds = smooth.groupby(["method", "seed"])[[measure, REFERENCES[measure]]].mean()
    rows = summary[summary["measure"] == measure].set_index("method")
    for place, method in enumerate(methods):
        values, color = seeds.loc[method], method_color(method)
        spread = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else np.zeros(1)
        panel.scatter(values[measure], place + spread, s=20, color=color, alpha=0.5, linewidths=0, zorder=2)
        row = rows.loc[method]
        panel.errorbar(
            row["mean"],
            place,
            xerr=interval_of(rows.loc[[method]]),
            fmt="|",
            color=color,
            markersize=14,
            capsize=0,
            zorder=3,
        )
        reference = values[REFERENCES[measure]].mean()
        panel.plot([reference] * 2, [place - 0.36, place + 0.36], color="0.25", linestyle=(0, (2, 1.2)), linewidth=1.4)
    panel.set_yticks(range(len(methods)), methods)
    for label, method in zip(panel.get_yticklabels(), methods):
        label.set_color(method_color(method))
        label.set_fontweight("bold")
    panel.set_ylim(len(methods) - 0.45, -0.55)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel(MEASURE_LABELS[measure])
    panel.locator_params(axis="x", nbins=4)
    panel.margins(x=0.12)
    panel.grid(axis="x")


def draw_losses(panel: Any, bands: pd.DataFrame, methods: Sequence[str]) -> None:
    """Mean smoothed loss of the seeds, shaded from the lowest to the highest; colors as in the other panels."""
    for method in methods:
        band, color = bands[bands["method"] == method], method_color(method)
        panel.fill_between(band["step"], band["low"], band["high"], color=color, alpha=0.18, linewidth=0)
        panel.plot(band["step"], band["mean"], color=color, label=method)
    panel.set_xlabel("training step")
    panel.set_ylabel("training loss\n(nats per token)")
    panel.grid(axis="y")


def entropy_figure(entropy: pd.DataFrame) -> Figure:
    """Gate entropy over training from `gate_entropy`: per method the mean of its seeds, and thin lines for the seeds.

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
    """The interactive figure: all methods in one scene; the legend hides a method, buttons choose the seed.

    Hover shows method, seed, expert, step and loss. Thick lines are the experts of lowest rank.

    >>> figure = trajectory_explorer(paths, axes)
    >>> figure.data[0].type, len(figure.layout.updatemenus)
    ('scatter3d', 1)
    """
    fig = go.Figure()
    seeds = list(dict.fromkeys(paths["seed"]))
    owners = []
    for (method, seed), run in paths.groupby(["method", "seed"], sort=False):
        bundles = path_bundles(run)
        for leading in (True, False):
            lines = run[(run["rank"] <= HIGHLIGHTED) == leading]
            if len(lines):
                ways = ways_taken(bundles)[str(method)]
                fig.add_trace(path_trace(lines, str(method), seed, ways, leading, visible=seed == seeds[0]))
                owners.append(seed)
        if (together := bundles[bundles["experts"] > 1]).size:
            fig.add_trace(bundle_trace(together, str(method), visible=seed == seeds[0]))
            owners.append(seed)
    choices = {f"seed {seed}": [owner == seed for owner in owners] for seed in seeds}
    choices["all seeds"] = [True] * len(owners)
    menu = menu_of("Seed", {label: [{"visible": shown}] for label, shown in choices.items()}, "restyle", in_a_row=True)
    names = dict(zip(("xaxis", "yaxis", "zaxis"), ({"title": {"text": label}} for label in axis_labels(axes))))
    return arranged(
        fig,
        f"{counted(paths['seed'].nunique(), 'seed')}, one at a time; “×8”: eight experts take the same path",
        title={"text": f"Router weights during training, {axes.module}"},
        scene={**names, "aspectmode": "cube"},
        height=720,
        legend={"title": {"text": "method"}, "groupclick": "togglegroup"},
        updatemenus=[menu],
    )
