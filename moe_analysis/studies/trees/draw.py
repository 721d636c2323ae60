"""Used structures of a trained S'MoRE: entropy and siblings over training, the trees in use, and their information."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import float32, menu_of, points_of
from ...drawing.style import BANDS, FULL_WIDTH, PALETTE, figure, note_below, use_style
from ..records import layer_title
from .measure import UsedTrees

REFERENCE = "#8A8A8A"
CHANCE = "#B0B0B0"
STAGES = {"untrained": ("before training", "#56B4E9"), "trained": ("trained", "#D55E00")}
TITLES = {
    "a": "entropy over training",
    "b": "siblings over training",
    "c": "how tokens are spread",
    "d": "tree and data set",
    "e": "trees by data set",
}
LABELS = {
    "normalized_entropy": "normalized entropy of trees",
    "distinct": "trees in the sample",
    "share": "share of Γ",
    "against_uniform": "trees, relative to random routing",
    "entropy": "entropy of trees, bits",
    "differing_siblings": "tokens whose siblings differ",
}


def plot(found: UsedTrees) -> Figure:
    """(a) normalized entropy and (b) differing siblings over training: one color per layer, the mean, the lowest and
    the highest seed; dashes are the control's mean over its layers. (c) share of tokens by tree, most used first.
    (d) information of trees about the data set, one dot per seed; gray is the part that shuffled texts show too.
    (e) trees of every data set at equal numbers of tokens.
    """
    bands, control = found.bands, found.control_bands
    colors = layer_colors(bands["layer"])
    with use_style():
        fig = figure(FULL_WIDTH, 5.2)
        panels: Any = fig.subplot_mosaic([["a", "b", "e"], ["c", "d", "e"]], width_ratios=[1, 1, 1.05])
        for letter, measure in (("a", "normalized_entropy"), ("b", "differing_siblings")):
            draw_bands(panels[letter], bands, measure, colors)
            if len(control):
                draw_control(panels[letter], control, measure)
        panels["b"].axhline(found.random_siblings, color=REFERENCE, linestyle=":", label="random trees")
        draw_usage(panels["c"], found.usage, int(found.datasets["flexibility"].iloc[0]), colors)
        draw_information(panels["d"], found.trained, found.untrained)
        draw_datasets(panels["e"], found.datasets)
        for letter, title in TITLES.items():
            panels[letter].set_title(f"({letter}) {title}")
        handles, names = panels["b"].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper left", ncols=len(names), handlelength=1.6, columnspacing=1.3)
        note_below(
            fig,
            found.note(
                f"(a, b) {BANDS} (c) All test tokens. (d) Bars are means, dots seeds. (e) Dots are means, lines reach from "
                "the lowest seed to the highest."
            ),
        )
    return fig


def layer_colors(layers: pd.Series) -> dict[str, str]:
    return {layer: PALETTE[number % len(PALETTE)] for number, layer in enumerate(dict.fromkeys(layers))}


def draw_bands(panel: Any, bands: pd.DataFrame, measure: str, colors: dict[str, str]) -> None:
    for layer, color in colors.items():
        band = bands[(bands["layer"] == layer) & (bands["measure"] == measure)].sort_values("step")
        panel.fill_between(band["step"], band["low"], band["high"], color=color, alpha=0.12, linewidth=0)
        panel.plot(band["step"], band["mean"], color=color, linewidth=1.2, label=layer_title(layer))
    panel.set(xlabel="training step", ylabel=LABELS[measure], ylim=(0.0, 1.0))
    panel.grid(axis="y")


def draw_control(panel: Any, bands: pd.DataFrame, measure: str) -> None:
    mean = bands[bands["measure"] == measure].groupby("step")["mean"].mean()
    name = f"{bands['method'].iloc[0]}, mean of layers"
    panel.plot(mean.index, mean, color="#1A1A1A", linestyle="--", linewidth=1.2, label=name)


def draw_usage(panel: Any, usage: pd.DataFrame, flexibility: int, colors: dict[str, str]) -> None:
    for layer, color in colors.items():
        line = usage[usage["layer"] == layer]
        panel.plot(line["rank"], line["share"], color=color, linewidth=1.2)
    panel.plot([1, flexibility], [1 / flexibility] * 2, color=REFERENCE, linestyle=":")
    panel.set(xscale="log", yscale="log", xlim=(1, flexibility))
    panel.set(xlabel=f"tree by use (Γ = {flexibility})", ylabel="share of tokens")
    panel.grid(axis="both")


def draw_information(panel: Any, trained: pd.DataFrame, untrained: pd.DataFrame) -> None:
    """One bar per stage with the means of the seeds; the gray bar is the result for shuffled texts."""
    for place, ((_, color), frame) in enumerate(zip(STAGES.values(), (untrained, trained), strict=True)):
        seeds = frame.groupby("seed")[["information", "by_chance"]].mean()
        panel.bar(place, seeds["information"].mean(), width=0.66, color=color, alpha=0.45)
        panel.bar(
            place, seeds["by_chance"].mean(), width=0.66, color=CHANCE, label="texts shuffled" if place == 0 else None
        )
        panel.plot(
            [place] * len(seeds), seeds["information"], "o", color=color, markeredgecolor="white", markeredgewidth=0.4
        )
        panel.annotate(
            f"{seeds['information'].mean():z.2f}",
            (place, seeds["information"].max()),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    panel.set_xticks(range(len(STAGES)), [label for label, _ in STAGES.values()])
    panel.margins(y=0.16)
    panel.set_ylim(bottom=0.0)
    panel.set_ylabel(f"mutual information, bits\n(data set: {trained['dataset_entropy'].mean():.1f} bits)")
    panel.legend(loc="upper left", handlelength=1.0)
    panel.grid(axis="y")


def draw_datasets(panel: Any, datasets: pd.DataFrame) -> None:
    """Rarefied numbers of trees: a dot for the mean over modules and seeds, a line from the lowest to the highest seed."""
    seeds = datasets.groupby(["dataset", "seed"])["rarefied"].mean().unstack()
    order = seeds.mean(axis=1).sort_values().index
    seeds = seeds.loc[[name for name in order if name != "all"] + ["all"] * ("all" in order)]
    for place, (name, values) in enumerate(seeds.iterrows()):
        color = "#1A1A1A" if name == "all" else STAGES["trained"][1]
        panel.plot([values.min(), values.max()], [place] * 2, color=color, linewidth=0.9)
        panel.plot(values.mean(), place, "o", color=color, markersize=3.5)
    panel.set_yticks(range(len(seeds)), [str(name).replace("_", " ") for name in seeds.index], fontsize=6)
    panel.set(ylim=(-0.6, len(seeds) - 0.4), xlabel=f"trees among {int(datasets['rarefied_tokens'].min())} tokens")
    panel.grid(axis="x")


def interactive(found: UsedTrees) -> go.Figure:
    """Every measure over training, chosen from a menu, and entropy by module and data set, averaged over seeds."""
    fig = make_subplots(rows=1, cols=2, subplot_titles=["over training", "entropy by data set"])
    bands, shown = found.module_bands, next(iter(LABELS))
    modules = list(bands["module"].unique())
    for measure, label in LABELS.items():
        for number, module in enumerate(modules):
            band = bands[(bands["module"] == module) & (bands["measure"] == measure)].sort_values("step")
            fig.add_scatter(
                **points_of(band, "step", "mean", ["low", "high"]),
                mode="lines",
                name=module,
                legendgroup=module,
                visible=measure == shown,
                line={"color": PALETTE[number % len(PALETTE)], "width": 1.8},
                hovertemplate=f"{module}<br>step %{{x:.0f}}<br>{label} %{{y:.4g}}"
                "<br>seeds %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>",
                row=1,
                col=1,
            )
    grid = found.datasets.groupby(["dataset", "module"])["normalized_entropy"].mean().unstack()[modules]
    heat = go.Heatmap(
        z=float32(grid),
        x=modules,
        y=list(grid.index),
        colorscale="Viridis",
        zmin=0.0,
        zmax=1.0,
        colorbar={"title": {"text": "entropy"}},
        hovertemplate="%{y}<br>%{x}<br>normalized entropy %{z:.3f}<extra></extra>",
    )
    fig.add_trace(heat, row=1, col=2)
    owners = [measure for measure in LABELS for _ in modules]
    menu = menu_of(
        "Measure",
        {
            label: [{"visible": [*(one == measure for one in owners), True]}, {"yaxis.title.text": label}]
            for measure, label in LABELS.items()
        },
    )
    fig.update_xaxes(title_text="training step", row=1, col=1)
    fig.update_yaxes(title_text=LABELS[shown], row=1, col=1)
    fig.update_xaxes(title_text="layer", row=1, col=2)
    return arranged(fig, title={"text": "Used structures"}, height=760, updatemenus=[menu])
