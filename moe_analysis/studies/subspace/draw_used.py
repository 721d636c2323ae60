"""T-REX Lemma 4.1 on trained runs: how many of the reachable directions are used by the routings of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import float32, menu_of, points_of
from ...drawing.style import FULL_WIDTH, figure, method_color, method_marks, note_below, use_style
from .measure import Used
from .used import USED_MEASURES

ROUNDING = 1e-14  # energy of float32's rounding: smaller values of recorded gates are meaningless


def plot(found: Used) -> Figure:
    """The paper figure: energy of the routings above, ranks of every layer below.

    (a) energy of the tokens' routings beyond their first k directions, mean over layers, shaded from the lowest to the
    highest seed, with each method's number of experts; (b), (c) numerical and effective rank in every layer, one dot
    per seed.
    """
    with use_style():
        fig = figure(FULL_WIDTH, 5.0)
        above, below = np.asarray(fig.subfigures(2, 1, height_ratios=[1, 1]))
        draw_energy(panel := above.subplots(), found.energy, found.used)
        panel.set_title("(a) energy of the routings that their first k directions leave out")
        for letter, lower, measure in zip("bc", np.ravel(below.subplots(1, 2)), USED_MEASURES):
            draw_layers(lower, found.used, measure)
            lower.set_xlabel("layer and projection")
            lower.set_title(f"({letter}) {USED_MEASURES[measure]} of the tokens' routings")
        note_below(
            fig,
            found.note(
                "(a) Means over layers and seeds, shades from the lowest seed to the highest; (b, c) dots are seeds, "
                "dashes their means."
            ),
        )
    return fig


def draw_energy(panel: Any, bands: pd.DataFrame, used: pd.DataFrame) -> None:
    shown = bands[bands["mean"] > ROUNDING]
    marks = method_marks(bands["method"])
    for method, band in shown.groupby("method", sort=False):
        color = marks[str(method)].color
        panel.fill_between(band["direction"], band["low"], band["high"], color=color, alpha=0.2, linewidth=0)
        panel.plot(
            band["direction"],
            band["mean"],
            color=color,
            label=method,
            marker=marks[str(method)].marker,
            markersize=3.2,
        )
    for experts in used["experts"].unique():
        panel.axvline(experts, color="0.55", linewidth=0.8, linestyle=(0, (3, 2)))
        panel.annotate(
            f"{experts} experts",
            (experts, 0.9),
            (-3, 0),
            fontsize=6.5,
            ha="right",
            va="center",
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            color="0.3",
        )
    panel.set(yscale="log", ylim=(max(ROUNDING, shown["mean"].min() / 30), 3))
    panel.set(xlabel="directions k", ylabel="share of energy beyond k")
    panel.grid(axis="y")
    panel.legend(loc="lower left")


def draw_layers(panel: Any, used: pd.DataFrame, measure: str) -> None:
    """One dot per layer and seed, a dash for the mean of the seeds; layers in the order of the frame."""
    modules, methods = list(used["module"].unique()), used["method"].unique()
    for index, method in enumerate(methods):
        table = used[used["method"] == method]
        places = table["module"].map(modules.index) + (index - (len(methods) - 1) / 2) * 0.2
        values, color = table[measure].astype(float), method_color(method)
        panel.scatter(places, values, s=11, color=color, alpha=0.6, linewidths=0, label=method)
        means = values.groupby(places).mean()
        panel.scatter(means.index, means, marker="_", s=50, color=color, linewidths=1.4)
    panel.set_xticks(range(len(modules)), layer_labels(used, modules))
    panel.set(xlim=(-0.6, len(modules) - 0.4), ylim=(0, None), ylabel="directions")
    panel.grid(axis="y")


def layer_labels(used: pd.DataFrame, modules: list[str]) -> list[str]:
    """("layers.0.self_attn.q_proj") -> "0 q": the layer, and what is left of its target without "_proj"."""
    names = used.drop_duplicates("module").set_index("module")
    return [f"{row.layer} {str(row.target).removesuffix('_proj')}" for row in names.loc[modules].itertuples()]


def interactive(found: Used) -> go.Figure:
    """Energy curves on the left, the ranks of every layer on the right, with one button per measure."""
    titles = ["share of energy beyond the first k directions", "directions used by layer"]
    fig = make_subplots(1, 2, subplot_titles=titles)
    marks = method_marks(found.used["method"])
    methods = list(marks)
    for method in methods:
        band = found.energy[(found.energy["method"] == method) & (found.energy["mean"] > ROUNDING)]
        fig.add_scatter(
            **points_of(band, "direction", "mean", ["low", "high"]),
            name=method,
            legendgroup=method,
            line={"color": marks[method].color},
            marker={"symbol": marks[method].symbol},
            row=1,
            col=1,
            mode="lines+markers",
            hovertemplate=f"{method}<br>beyond %{{x}} directions: %{{y:.2e}}<br>seeds %{{customdata[0]:.2e}} to "
            "%{customdata[1]:.2e}<extra></extra>",
        )
    tables = [found.used[found.used["method"] == method] for method in methods]
    for method, table in zip(methods, tables):
        fig.add_scatter(
            x=table["module"],
            y=float32(table["rank_0.01"]),
            name=method,
            mode="markers",
            legendgroup=method,
            showlegend=False,
            marker={"color": marks[method].color, "symbol": marks[method].symbol, "size": 8},
            row=1,
            col=2,
            customdata=float32(table[["seed", "experts", "top_share"]]),
            hovertemplate=f"{method}, seed %{{customdata[0]}}<br>%{{x}}<br>%{{y:.3g}} of %{{customdata[1]}} directions"
            "<br>energy of the first %{customdata[2]:.3f}<extra></extra>",
        )
    places = list(range(len(methods), 2 * len(methods)))
    menu = menu_of(
        "Measure",
        {label: [{"y": [float32(table[name]) for table in tables]}, places] for name, label in USED_MEASURES.items()},
        "restyle",
        in_a_row=True,
    )
    fig.update_yaxes(type="log", title_text="share of energy", row=1, col=1)
    fig.update_yaxes(title_text="directions", rangemode="tozero", row=1, col=2)
    fig.update_xaxes(title_text="directions k", row=1, col=1)
    return arranged(fig, height=640, title={"text": "Directions that trained layers use"}, updatemenus=[menu])
