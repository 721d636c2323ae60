"""gR Fig. 3: eight optimizers, by learning rate if there are several rates, over training if there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from ...drawing.layout import arranged
from ...drawing.marks import menu_of, points_of
from ...drawing.style import (
    BANDS,
    DASHES,
    FULL_WIDTH,
    METHOD_MARKERS,
    SHAPES,
    figure,
    method_color,
    method_dash,
    note_below,
    use_style,
)
from ...evidence import counted
from .curves import rate_labels
from .measure import Optimizers

LABELS = {
    "train loss": "training loss (nats per token)",
    "eval loss": "test loss (nats per token)",
    "eval accuracy": "test accuracy",
}
OUTCOMES = {"mean_loss": "mean training loss (nats per token)", "loss": "held-out loss (nats per token)"}
RATE = "learning rate of the experts"

APART = 0.085  # of a panel's height: the smallest distance of two names at the ends of lines


def plot(found: Optimizers) -> Figure:
    """One panel per form: training loss by learning rate, or over training if each optimizer ran at one rate.

    By rate, a ring is at each method's best rate by held-out loss, and a cross at the top marks a rate at which a seed
    diverged. Names are at the ends of lines; shades reach from the lowest seed to the highest.
    """
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 3.7)
        panels = fig.subplots(1, len(found.forms), squeeze=False)[0]
        for panel, (form, methods) in zip(panels, found.forms.items()):
            if found.over_rates:
                draw_by_rate(panel, found.outcomes, found.rates, methods)
            else:
                draw_measure(panel, found.bands, "train loss", methods, rate_labels(found.rates), under=3.2)
                panel.set_ylabel(LABELS["train loss"] if panel is panels[0] else "")
            panel.set_title(f"forms of {form}", fontweight="bold")
            name_ends(panel)
        marks = "lr is the learning rate of the experts. R means preconditioned, g rescaled by the gate."
        if found.over_rates:
            marks = "A ring is the best rate by held-out loss; × means that a seed diverged."
        note_below(fig, found.note(f"{BANDS} {marks}"))
    return fig


def interactive(found: Optimizers) -> go.Figure:
    """The same with every seed; a menu chooses the measure."""
    if found.over_rates:
        return rates_explorer(found.outcomes, found.rates)
    return progress_explorer(found.curves, rate_labels(found.rates))


def draw_measure(
    panel: Any, bands: pd.DataFrame, measure: str, methods: Sequence[str], names: Mapping[str, str], under: float = 2.0
) -> None:
    """One measure over training: the mean over seeds, shaded from the lowest to the highest seed.

    under: width of the lines without rescaling, in points; a wide line is visible below an equal rescaled one.
    """
    chosen = bands[bands["measure"] == measure]
    for method in methods:
        band, color = chosen[chosen["method"] == method], method_color(method)
        few = len(band) < 12
        panel.fill_between(band["step"], band["low"], band["high"], color=color, alpha=0.16, linewidth=0)
        panel.plot(
            band["step"],
            band["mean"],
            color=color,
            linestyle=DASHES[method_dash(method)],
            linewidth=2.0 if method.startswith("g") else under,
            label=names.get(method, method),
            marker="o" if few else None,
            markersize=4,
        )
    panel.set_xlabel("training step")
    panel.set_ylabel(LABELS[measure])
    panel.grid(axis="y")


def draw_by_rate(panel: Any, outcomes: pd.DataFrame, rates: pd.DataFrame, methods: Sequence[str]) -> None:
    """Mean training loss by learning rate; outcomes, rates: of `curves.outcomes` and `curves.best_rates`."""
    for index, method in enumerate(methods):
        draw_rates(panel, rate_bands(outcomes, method, "mean_loss"), method, index)
        ring_best(panel, outcomes, rates, method)
    panel.set_xscale("log")
    tried = sorted(outcomes.loc[outcomes["method"].isin(methods), "lr"].unique())
    panel.set_xticks(tried, [f"{lr:.2g}" for lr in tried])
    panel.minorticks_off()
    panel.set_xlabel(RATE)
    panel.set_ylabel(OUTCOMES["mean_loss"])
    panel.grid(axis="y")


def rate_bands(outcomes: pd.DataFrame, method: str, measure: str) -> pd.DataFrame:
    """Columns lr, mean, low, high, seeds of one method, by increasing rate; NaN if a seed diverged."""
    grouped = outcomes[outcomes["method"] == method].groupby("lr")[measure]
    bands = grouped.agg(mean="mean", low="min", high="max", seeds="size").reset_index()
    lost = ~np.isfinite(bands["mean"])
    bands.loc[lost, ["mean", "low", "high"]] = np.nan
    return bands


def draw_rates(panel: Any, band: pd.DataFrame, method: str, index: int) -> None:
    color = method_color(method)
    panel.fill_between(band["lr"], band["low"], band["high"], color=color, alpha=0.15, linewidth=0)
    panel.plot(
        band["lr"],
        band["mean"],
        color=color,
        linestyle=DASHES[method_dash(method)],
        marker=METHOD_MARKERS[method],
        label=method,
    )
    cross_out(panel, band.loc[band["mean"].isna(), "lr"], color, index)


def cross_out(panel: Any, rates: pd.Series, color: str, index: int) -> None:
    """A cross at the top for each rate at which a seed diverged; index: the row of the method's crosses."""
    look: dict[str, Any] = {"color": color, "markersize": 5, "clip_on": False}
    for lr in rates:
        panel.plot(lr, 0.985 - 0.05 * index, "x", transform=panel.get_xaxis_transform(), **look)


def ring_best(panel: Any, outcomes: pd.DataFrame, rates: pd.DataFrame, method: str, measure: str = "mean_loss") -> None:
    best = rates.set_index("method").loc[method, "lr"]
    band = rate_bands(outcomes, method, measure).set_index("lr")
    panel.plot(best, band.loc[best, "mean"], "o", markersize=9, markerfacecolor="none", color=method_color(method))


def name_ends(panel: Any) -> None:
    """The names of a panel's lines to the right of their last points, moved apart if they would overlap."""
    lines = [line for line in panel.lines if not line.get_label().startswith("_")]
    last = [np.flatnonzero(np.isfinite(line.get_ydata())) for line in lines]
    ends = [(line, places[-1]) for line, places in zip(lines, last) if len(places)]
    panel.set_ylim(panel.get_ylim())  # names below must not move the axis
    to_share = panel.transScale + panel.transLimits  # of the panel's height, on any scale
    heights = np.array([to_share.transform((1.0, line.get_ydata()[place]))[1] for line, place in ends])
    for (line, place), height in zip(ends, spread_out(heights, APART)):
        panel.annotate(
            line.get_label(),
            (line.get_xdata()[place], height),
            (8, 0),
            xycoords=panel.get_xaxis_transform(),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            fontsize=9.5,
            annotation_clip=False,
        )


def spread_out(heights: np.ndarray, apart: float) -> np.ndarray:
    """The heights, moved as little as possible so that any two are at least `apart`, in the same order.

    >>> spread_out(np.array([1.0, 0.0, 1.0]), 0.5).tolist()
    [0.75, 0.0, 1.25]
    """
    order = np.argsort(heights, kind="stable")
    groups: list[list[float]] = []  # names that touch, as their wanted heights
    for height in heights[order].tolist():
        groups.append([height])
        while len(groups) > 1 and bottom(groups[-1], apart) < top(groups[-2], apart) + apart:
            groups[-2:] = [groups[-2] + groups[-1]]
    moved = np.empty(len(heights))
    moved[order] = [bottom(group, apart) + apart * place for group in groups for place in range(len(group))]
    return moved


def bottom(group: Sequence[float], apart: float) -> float:
    return float(np.mean(group)) - apart * (len(group) - 1) / 2


def top(group: Sequence[float], apart: float) -> float:
    return float(np.mean(group)) + apart * (len(group) - 1) / 2


def progress_explorer(curves: pd.DataFrame, names: Mapping[str, str] | None = None) -> go.Figure:
    """The interactive figure: every seed of every method; a menu chooses the measure, the legend the methods.

    names: method -> its name in the picture, for example from `rate_labels`.

    >>> figure = progress_explorer(progress)
    >>> len(figure.layout.updatemenus[0].buttons)  # one per measure
    3
    """
    measures = [measure for measure in LABELS if measure in set(curves["measure"])]
    fig = go.Figure()
    shown: list[str] = []
    for (measure, method, seed), line in curves.groupby(["measure", "method", "seed"], sort=False):
        first = seed == curves.loc[curves["method"] == method, "seed"].iloc[0]
        fig.add_scatter(
            **points_of(line, "step", "value"),
            mode="lines+markers" if len(line) < 12 else "lines",
            name=(names or {}).get(str(method), str(method)),
            legendgroup=str(method),
            showlegend=bool(first),
            visible=measure == measures[0],
            line={"color": method_color(str(method)), "dash": method_dash(str(method)), "width": 1.5},
            hovertemplate=f"{method}, seed {seed}<br>step %{{x}}: %{{y:.3f}}<extra></extra>",
        )
        shown.append(str(measure))
    return arranged(
        fig,
        f"{counted(curves['seed'].nunique(), 'seed')}, one line each; lr is the learning rate of the experts",
        height=520,
        title={"text": "Optimizers compared"},
        xaxis_title="training step",
        yaxis_title=LABELS[measures[0]],
        updatemenus=[menu_of_measures({name: (name, LABELS[name]) for name in measures}, shown)] * (len(measures) > 1),
    )


def menu_of_measures(measures: Mapping[str, tuple[str, str]], shown: Sequence[str]) -> dict[str, Any]:
    """A menu of measures, each with a label and an axis title; `shown` is the measure of every trace."""
    return menu_of(
        "Measure",
        {
            label: [{"visible": [name == measure for name in shown]}, {"yaxis.title.text": axis}]
            for measure, (label, axis) in measures.items()
        },
    )


def rates_explorer(outcomes: pd.DataFrame, rates: pd.DataFrame) -> go.Figure:
    """Every run by its learning rate, with the means as lines; a menu chooses training or held-out loss."""
    fig, shown = go.Figure(), []
    best = rates.set_index("method")["lr"]
    for measure, label in OUTCOMES.items():
        for method, runs in outcomes.groupby("method", sort=False):
            color, symbol = method_color(str(method)), SHAPES[METHOD_MARKERS[str(method)]]
            finite = runs[np.isfinite(runs[measure])]
            band = rate_bands(outcomes, str(method), measure)
            common: dict[str, Any] = {"legendgroup": str(method), "visible": measure == "mean_loss"}
            fig.add_scatter(
                **points_of(finite, "lr", measure, ["seed"]),
                mode="markers",
                name=str(method),
                showlegend=False,
                marker={"color": color, "symbol": symbol, "size": 6, "opacity": 0.4},
                hovertemplate=f"{method}, seed %{{customdata[0]}}<br>lr %{{x:.3g}}<br>{label} %{{y:.3f}}<extra></extra>",
                **common,
            )
            fig.add_scatter(
                **points_of(band, "lr", "mean"),
                mode="lines+markers",
                name=f"{method}, best at {best[method]:g}",
                line={"color": color, "dash": method_dash(str(method)), "width": 1.5},
                marker={"symbol": symbol, "size": np.where(band["lr"] == best[method], 13, 7).tolist()},
                hovertemplate=f"{method}<br>lr %{{x:.3g}}<br>mean %{{y:.3f}}<extra></extra>",
                **common,
            )
            shown += [measure, measure]
    menu = menu_of_measures({name: (label.partition(" (")[0], label) for name, label in OUTCOMES.items()}, shown)
    return arranged(
        fig,
        f"{counted(outcomes['seed'].nunique(), 'seed')}: small marks; lines are their means",
        height=520,
        title={"text": "Optimizers by learning rate"},
        xaxis={"type": "log", "title": {"text": RATE}},
        yaxis_title=OUTCOMES["mean_loss"],
        updatemenus=[menu],
    )
