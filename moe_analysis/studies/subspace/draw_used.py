"""T-REX Lemma 4.1 on trained runs: how many of the reachable directions the routings of tokens use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, MARKERS, figure, use_style
from .draw_span import system_color

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import Used

ROUNDING = 1e-14  # energy of float32's rounding: recorded gates say nothing below
MEASURE_LABELS = {"rank_0.01": "numerical rank at 1e-2", "effective_rank": "effective rank"}


def plot(found: Used) -> Figure:
    """The paper figure: energy of the routings above, ranks of every layer below."""
    return used_figure(found.used, found.energy)


def interactive(found: Used) -> go.Figure:
    """Energy beside ranks, with a button per measure."""
    return used_explorer(found.used, found.energy)


def used_figure(used: pd.DataFrame, bands: pd.DataFrame) -> Figure:
    """The paper figure of trained runs, from the frames of `used_by_runs` and `energy_bands`.

    (a) energy of the tokens' routings beyond their first k directions, mean over layers, shaded between seeds, with
    each method's number of experts marked; (b), (c) numerical and effective rank in every layer, one dot per seed.

    >>> from moe_analysis.studies.subspace.used import energy_bands
    >>> figure = used_figure(used, energy_bands(energy))
    >>> figure.axes[2].get_title(loc="left")
    "(c) effective rank of the tokens' routings"
    """
    with use_style():
        fig = figure(FULL_WIDTH, 5.0)
        above, below = np.asarray(fig.subfigures(2, 1, height_ratios=[1, 1]))
        draw_energy(panel := above.subplots(), bands, used)
        panel.set_title("(a) energy of the routings that their first k directions leave out")
        for letter, lower, measure in zip("bc", np.ravel(below.subplots(1, 2)), MEASURE_LABELS):
            draw_layers(lower, used, measure)
            lower.set_title(f"({letter}) {MEASURE_LABELS[measure]} of the tokens' routings")
    return fig


def draw_energy(panel: Any, bands: pd.DataFrame, used: pd.DataFrame) -> None:
    shown = bands[bands["mean"] > ROUNDING]
    for index, (method, band) in enumerate(shown.groupby("method", sort=False)):
        color = system_color(str(method))
        panel.fill_between(band["direction"], band["low"], band["high"], color=color, alpha=0.2, linewidth=0)
        panel.plot(
            band["direction"],
            band["mean"],
            color=color,
            label=method,
            marker=MARKERS[index % len(MARKERS)],
            markersize=3.2,
        )
    for experts in used["experts"].unique():
        panel.axvline(experts, color="0.55", linewidth=0.8, linestyle=(0, (3, 2)))
        panel.annotate(
            f"{experts} experts",
            (experts, 0.5),
            (-3, 0),
            fontsize=6.5,
            ha="right",
            va="center",
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color="0.3",
        )
    panel.set_yscale("log")
    panel.set_ylim(max(ROUNDING, shown["mean"].min() / 30), 3)
    panel.set_xlabel("directions k")
    panel.set_ylabel("share of energy beyond k")
    panel.grid(axis="y")
    panel.legend(loc="lower left")


def draw_layers(panel: Any, used: pd.DataFrame, measure: str) -> None:
    """A dot per layer and seed, a dash for the mean of the seeds; layers in the order of the frame."""
    modules = list(dict.fromkeys(used["module"]))
    methods = list(dict.fromkeys(used["method"]))
    for index, method in enumerate(methods):
        table = used[used["method"] == method]
        places = table["module"].map(modules.index) + (index - (len(methods) - 1) / 2) * 0.2
        values, color = table[measure].astype(float), system_color(method)
        panel.scatter(places, values, s=11, color=color, alpha=0.6, linewidths=0, label=method)
        means = values.groupby(places).mean()
        panel.scatter(means.index, means, marker="_", s=50, color=color, linewidths=1.4)
    panel.set_xticks(range(len(modules)), layer_labels(used, modules))
    panel.set_xlim(-0.6, len(modules) - 0.4)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("directions")
    panel.grid(axis="y")


def layer_labels(used: pd.DataFrame, modules: list[str]) -> list[str]:
    """("layers.0.self_attn.q_proj") -> "0 q": the layer, and what is left of its target without "_proj"."""
    names = used.drop_duplicates("module").set_index("module")
    return [f"{row.layer} {str(row.target).removesuffix('_proj')}" for row in names.loc[modules].itertuples()]


def used_explorer(used: pd.DataFrame, bands: pd.DataFrame) -> go.Figure:
    """The interactive twin: energy curves on the left, the ranks of every layer on the right, a button per measure.

    >>> from moe_analysis.studies.subspace.used import energy_bands
    >>> figure = used_explorer(used, energy_bands(energy))
    >>> sorted({trace.type for trace in figure.data})
    ['scatter']
    """
    from plotly.subplots import make_subplots

    titles = ["share of energy beyond the first k directions", "directions used by layer"]
    fig = make_subplots(1, 2, subplot_titles=titles)
    methods = list(dict.fromkeys(used["method"]))
    for method in methods:
        band = bands[(bands["method"] == method) & (bands["mean"] > ROUNDING)]
        fig.add_scatter(
            x=band["direction"].to_numpy(np.float32),
            y=band["mean"].to_numpy(np.float32),
            name=method,
            legendgroup=method,
            line={"color": system_color(method)},
            row=1,
            col=1,
            mode="lines+markers",
            customdata=band[["low", "high"]].to_numpy(np.float32),
            hovertemplate=f"{method}<br>beyond %{{x}} directions: %{{y:.2e}}<br>seeds %{{customdata[0]:.2e}} to "
            "%{customdata[1]:.2e}<extra></extra>",
        )
    tables = [used[used["method"] == method] for method in methods]
    for method, table in zip(methods, tables):
        fig.add_scatter(
            x=table["module"],
            y=table["rank_0.01"].astype(float).to_numpy(np.float32),
            name=method,
            mode="markers",
            legendgroup=method,
            showlegend=False,
            marker={"color": system_color(method), "size": 8},
            row=1,
            col=2,
            customdata=table[["seed", "experts", "top_share"]].to_numpy(np.float32),
            hovertemplate=f"{method}, seed %{{customdata[0]}}<br>%{{x}}<br>%{{y:.3g}} of %{{customdata[1]}} directions"
            "<br>energy of the first %{customdata[2]:.3f}<extra></extra>",
        )
    places = list(range(len(methods), 2 * len(methods)))
    buttons = [
        {
            "label": label,
            "method": "restyle",
            "args": [{"y": [table[measure].astype(float).to_numpy(np.float32) for table in tables]}, places],
        }
        for measure, label in MEASURE_LABELS.items()
    ]
    fig.update_yaxes(type="log", title_text="share of energy", exponentformat="power", row=1, col=1)
    fig.update_yaxes(title_text="directions", rangemode="tozero", row=1, col=2)
    fig.update_xaxes(title_text="directions k", row=1, col=1)
    fig.update_layout(
        template="plotly_white",
        height=640,
        title={"text": "Directions that trained layers use"},
        updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons}],
    )
    return arranged(fig)
