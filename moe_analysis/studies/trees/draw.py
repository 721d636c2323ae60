"""Used structures of a trained S'MoRE: entropy and siblings over training, the trees in use, and what they tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, PALETTE, figure, use_style
from ..records import layer_title

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import UsedTrees

REFERENCE = "#8A8A8A"
CHANCE = "#B0B0B0"
STAGES = {"untrained": ("before training", "#56B4E9"), "trained": ("trained", "#D55E00")}
LABELS = {
    "normalised_entropy": "normalized entropy of trees",
    "distinct": "trees in the sample",
    "share": "share of Γ",
    "against_uniform": "trees by random routing's",
    "entropy": "entropy of trees, bits",
    "differing_siblings": "tokens whose siblings differ",
}


def plot(found: UsedTrees) -> Figure:
    """Entropy and siblings over training, the spread over trees, what trees tell, and the trees of every data set."""
    return structures_figure(
        found.bands,
        found.usage,
        found.datasets,
        found.trained,
        found.untrained,
        found.random_siblings,
        found.control_bands if len(found.control_bands) else None,
    )


def interactive(found: UsedTrees) -> go.Figure:
    """Every measure over training, chosen from a menu, and entropy by module and data set."""
    return structures_explorer(found.module_bands, found.datasets)


def layer_colors(layers: pd.Series) -> dict[str, str]:
    return {layer: PALETTE[number % len(PALETTE)] for number, layer in enumerate(dict.fromkeys(layers))}


def one_method(frame: pd.DataFrame) -> None:
    """Raise ValueError unless the frame is of one method: a figure draws its layers in colors of their own."""
    if len(found := list(dict.fromkeys(frame["method"]))) != 1:
        raise ValueError(f"the frame holds {len(found)} methods ({', '.join(found)}); pass the rows of one")


def structures_figure(
    bands: pd.DataFrame,
    usage: pd.DataFrame,
    datasets: pd.DataFrame,
    trained: pd.DataFrame,
    untrained: pd.DataFrame,
    uniform_differing: float,
    control: pd.DataFrame | None = None,
) -> Figure:
    """The figure of one method's used structures.

    bands: `training_bands` by layer. usage: `usage_by_layer`. datasets: `by_dataset`. trained, untrained:
    `dataset_information` after training and before. uniform_differing: `uniform_siblings`. (a) normalized entropy and
    (b) differing siblings over training, a color a layer, means and extremes of seeds; (c) share of tokens by tree,
    most used first; (d) what trees tell of the data set, one dot per seed, gray the part that shuffled texts show too; (e)
    trees of every data set at equal tokens. control: bands of another method, dashed in a and b: its layers' mean.

    >>> from moe_analysis.studies.trees.structures import training_bands, usage_by_layer, usage_ranks
    >>> usage = usage_by_layer(usage_ranks(routed))
    >>> figure = structures_figure(training_bands(training), usage, by_task, tells, told, uniform_differing=2 / 3)
    >>> len(figure.axes)
    5
    """
    for frame in (bands, usage, datasets, trained, untrained, *([] if control is None else [control])):
        one_method(frame)
    colors = layer_colors(bands["layer"])
    with use_style():
        fig = figure(FULL_WIDTH, 5.2)
        panels: Any = fig.subplot_mosaic([["a", "b", "e"], ["c", "d", "e"]], width_ratios=[1, 1, 1.05])
        for letter, measure in (("a", "normalised_entropy"), ("b", "differing_siblings")):
            draw_bands(panels[letter], bands, measure, colors)
            if control is not None:
                draw_control(panels[letter], control, measure)
        panels["b"].axhline(uniform_differing, color=REFERENCE, linestyle=":", label="random trees")
        draw_usage(panels["c"], usage, int(datasets["flexibility"].iloc[0]), colors)
        draw_information(panels["d"], trained, untrained)
        draw_datasets(panels["e"], datasets)
        titles = {
            "a": "(a) entropy over training",
            "b": "(b) siblings over training",
            "c": "(c) how tokens are spread",
            "d": "(d) tree and data set",
            "e": "(e) trees by data set",
        }
        for letter, title in titles.items():
            panels[letter].set_title(title)
        handles, names = panels["b"].get_legend_handles_labels()
        fig.legend(handles, names, loc="outside upper left", ncols=len(names), handlelength=1.6, columnspacing=1.3)
    return fig


def draw_bands(panel: Any, bands: pd.DataFrame, measure: str, colors: dict[str, str]) -> None:
    for layer, color in colors.items():
        band = bands[(bands["layer"] == layer) & (bands["measure"] == measure)].sort_values("step")
        panel.fill_between(band["step"], band["low"], band["high"], color=color, alpha=0.12, linewidth=0)
        panel.plot(band["step"], band["mean"], color=color, linewidth=1.2, label=layer_title(layer))
    panel.set_ylim(0.0, 1.0)
    panel.set_xlabel("training step")
    panel.set_ylabel(LABELS[measure])
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
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(1, flexibility)
    panel.set_xlabel(f"tree by use (Γ = {flexibility})")
    panel.set_ylabel("share of tokens")
    panel.grid(axis="both")


def draw_information(panel: Any, trained: pd.DataFrame, untrained: pd.DataFrame) -> None:
    """A bar for each stage with its means by seed; what the texts show when shuffled stands before it in gray."""
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
            f"{seeds['information'].mean():.2f}",
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
    """Rarefied numbers of trees: a dot for the mean over modules and seeds, a line for the seeds' extremes."""
    seeds = datasets.groupby(["dataset", "seed"])["rarefied"].mean().unstack()
    order = seeds.mean(axis=1).sort_values().index
    seeds = seeds.loc[[name for name in order if name != "all"] + ["all"] * ("all" in order)]
    for place, (name, values) in enumerate(seeds.iterrows()):
        color = "#1A1A1A" if name == "all" else STAGES["trained"][1]
        panel.plot([values.min(), values.max()], [place] * 2, color=color, linewidth=0.9)
        panel.plot(values.mean(), place, "o", color=color, markersize=3.5)
    panel.set_yticks(range(len(seeds)), [str(name).replace("_", " ") for name in seeds.index], fontsize=6)
    panel.set_ylim(-0.6, len(seeds) - 0.4)
    panel.set_xlabel(f"trees among {int(datasets['rarefied_tokens'].min())} tokens")
    panel.grid(axis="x")


def structures_explorer(bands: pd.DataFrame, datasets: pd.DataFrame) -> go.Figure:
    """The interactive twin: every measure over training, chosen from a menu, and entropy by module and data set.

    bands: `training_bands` by module. datasets: `by_dataset`, averaged over seeds.

    >>> from moe_analysis.studies.trees.structures import training_bands
    >>> figure = structures_explorer(training_bands(training, "module"), by_task)
    >>> sorted({trace.type for trace in figure.data})
    ['heatmap', 'scatter']
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    one_method(bands)
    fig = make_subplots(rows=1, cols=2, subplot_titles=["over training", "entropy by data set"])
    measures, modules = list(LABELS), list(dict.fromkeys(bands["module"]))
    for measure in measures:
        for number, module in enumerate(modules):
            band = bands[(bands["module"] == module) & (bands["measure"] == measure)].sort_values("step")
            fig.add_trace(
                go.Scatter(
                    x=band["step"].to_numpy(np.float32),
                    y=band["mean"].to_numpy(np.float32),
                    mode="lines",
                    name=module,
                    legendgroup=module,
                    visible=measure == measures[0],
                    customdata=band[["low", "high"]].to_numpy(np.float32),
                    line={"color": PALETTE[number % len(PALETTE)], "width": 1.8},
                    hovertemplate=f"{module}<br>step %{{x:.0f}}<br>{LABELS[measure]} %{{y:.4g}}"
                    "<br>seeds %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>",
                ),
                row=1,
                col=1,
            )
    grid = datasets.groupby(["dataset", "module"])["normalised_entropy"].mean().unstack()[modules]
    fig.add_trace(
        go.Heatmap(
            z=grid.to_numpy(np.float32),
            x=modules,
            y=list(grid.index),
            colorscale="Viridis",
            zmin=0.0,
            zmax=1.0,
            colorbar={"title": {"text": "entropy"}},
            hovertemplate="%{y}<br>%{x}<br>normalized entropy %{z:.3f}<extra></extra>",
        ),
        row=1,
        col=2,
    )
    menu = []
    for measure in measures:
        visible = [one == measure for one in measures for _ in modules] + [True]
        menu.append(
            {
                "label": LABELS[measure],
                "method": "update",
                "args": [{"visible": visible}, {"yaxis.title.text": LABELS[measure]}],
            }
        )
    fig.update_xaxes(title_text="training step", row=1, col=1)
    fig.update_yaxes(title_text=LABELS[measures[0]], row=1, col=1)
    fig.update_xaxes(title_text="layer", row=1, col=2)
    fig.update_layout(
        title={"text": "Used structures"}, template="plotly_white", height=760, updatemenus=[{"buttons": menu}]
    )
    return arranged(fig)
