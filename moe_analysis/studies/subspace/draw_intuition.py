"""T-REX Theorem 4.3, in our reading, drawn: line searches and gradient noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import interval_of, points_of
from ...drawing.style import FULL_WIDTH, MARKERS, figure, note_below, use_style
from .measure import Intuition

PRIOR_COLORS = {"none": "#5A5A5A", "aligned": "#009E73", "mismatched": "#D55E00"}
PRIOR_LABELS = {"none": "no prior", "aligned": "aligned prior", "mismatched": "mismatched prior"}
CASE_COLORS = ("#0072B2", "#56B4E9", "#E69F00", "#CC79A7")


def plot(found: Intuition) -> Figure:
    """The paper figure: line searches, gradient noise, and noise relative to no prior.

    (a) loss along the line from the prior (ω = 0) to the router (ω = 1), with a dot at the closed-form optimum;
    (b) noise-to-signal ratio of the router's gradient over training, shaded from the lowest to the highest seed;
    (c) the same relative to no prior, with 95 % intervals.
    """
    with use_style():
        fig = figure(FULL_WIDTH, 3.6)
        first, second, third = fig.subplots(1, 3, width_ratios=[1.15, 1, 1])
        draw_searches(first, found.searches)
        draw_noise(second, found.noise)
        draw_ratios(third, found.ratios)
        title = "(a) cases, with their numbers of random problems"
        fig.legend(*first.get_legend_handles_labels(), loc="outside upper left", ncols=2, title=title)
        note_below(
            fig,
            found.note(
                "(b) Means over seeds, shades from the lowest seed to the highest; (c) means and 95 % intervals over seeds."
            ),
        )
    return fig


def draw_searches(panel: Any, searches: pd.DataFrame) -> None:
    for color, (case, line) in zip(CASE_COLORS, searches.groupby("case", sort=False)):
        panel.plot(line["omega"], line["loss"], color=color, label=f"{case} ({line['problems'].iloc[0]})")
        best = line[["best_omega", "best_loss"]].iloc[0]
        panel.plot(*best, "o", color=color, markersize=6, markeredgecolor="black", clip_on=False, zorder=4)
    panel.set(xlabel="share ω of the router", ylabel="loss / its larger end", ylim=(0, 1.03))
    panel.set_title("(a) line search, dot: closed form")


def draw_noise(panel: Any, noise: pd.DataFrame) -> None:
    for index, (prior, table) in enumerate(noise.groupby("prior", sort=False)):
        bands = table.groupby("step")["noise_to_signal"].agg(["mean", "min", "max"])
        color = PRIOR_COLORS[str(prior)]
        panel.fill_between(bands.index, bands["min"], bands["max"], color=color, alpha=0.18, linewidth=0)
        panel.plot(bands.index, bands["mean"], color=color, marker=MARKERS[index], label=PRIOR_LABELS[str(prior)])
    panel.set(yscale="log", xlabel="training step", ylabel="gradient variance / squared mean")
    panel.set_title("(b) router gradient noise")
    panel.grid(axis="y")
    panel.legend(loc="lower right")


def draw_ratios(panel: Any, ratios: pd.DataFrame) -> None:
    panel.axhline(1, color="0.5", linewidth=0.8)
    shift = np.ptp(ratios["step"]) * 0.012
    for index, (prior, table) in enumerate(ratios.groupby("prior", sort=False)):
        panel.errorbar(
            table["step"] + (index * 2 - 1) * shift,
            table["ratio"],
            interval_of(table, "ratio"),
            capsize=2,
            color=PRIOR_COLORS[str(prior)],
            marker=MARKERS[index + 1],
            label=PRIOR_LABELS[str(prior)],
        )
    panel.set(xlabel="training step", ylabel="noise / noise without prior", title="(c) relative to no prior")
    panel.grid(axis="y")
    panel.legend(loc="best")


def interactive(found: Intuition) -> go.Figure:
    """Line searches on the left; gradient noise on the right, one line per prior and seed."""
    fig = make_subplots(1, 2, subplot_titles=["loss along the line from prior to router", "router gradient noise"])
    for color, (case, line) in zip(CASE_COLORS, found.searches.groupby("case", sort=False)):
        fig.add_scatter(
            **points_of(line, "omega", "loss"),
            name=str(case),
            legendgroup=str(case),
            line={"color": color},
            row=1,
            col=1,
            hovertemplate=f"{case}<br>ω %{{x:.2f}}<br>loss %{{y:.3f}}<extra></extra>",
        )
        fig.add_scatter(
            **points_of(line.head(1), "best_omega", "best_loss"),
            mode="markers",
            legendgroup=str(case),
            showlegend=False,
            row=1,
            col=1,
            marker={"color": color, "size": 12, "line": {"color": "black", "width": 1}},
            hovertemplate=f"{case}<br>closed form: ω* %{{x:.3f}}, loss %{{y:.3f}}<extra></extra>",
        )
    for (prior, seed), table in found.noise.groupby(["prior", "seed"], sort=False):
        fig.add_scatter(
            **points_of(table, "step", "noise_to_signal", ["omega", "loss"]),
            row=1,
            col=2,
            name=PRIOR_LABELS[str(prior)],
            legendgroup=str(prior),
            showlegend=bool(seed == found.noise["seed"].iloc[0]),
            line={"color": PRIOR_COLORS[str(prior)]},
            hovertemplate=f"{PRIOR_LABELS[str(prior)]}, seed {seed}<br>step %{{x}}<br>noise to signal %{{y:.1f}}"
            "<br>ω %{customdata[0]:.2f}, loss %{customdata[1]:.2f}<extra></extra>",
        )
    fig.update_xaxes(title_text="share ω of the router", row=1, col=1)
    fig.update_yaxes(title_text="loss / its larger end", row=1, col=1)
    fig.update_xaxes(title_text="training step", row=1, col=2)
    fig.update_yaxes(type="log", title_text="gradient variance / squared mean", row=1, col=2)
    return arranged(fig, height=560, title={"text": "Prior, router and gradient noise"})
