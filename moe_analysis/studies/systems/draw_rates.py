"""Held-out accuracy by learning rate, a panel per system, and the choice ringed."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, method_color, method_marks, note_below, use_style
from .tuned import SystemRates

ACROSS = 5  # panels in a row at most
FEW = 3  # rates that all get a tick
RATE = "learning rate"
OUTCOMES = {"accuracy": "held-out accuracy", "loss": "held-out loss (nats per token)"}
LINES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))  # of the routers' rates, the highest first
DASHES = ("solid", "dash", "dot", "dashdot")


def plot(found: SystemRates) -> Figure:
    """All systems on the same axes, so that panels compare."""
    methods = list(dict.fromkeys(found.tuning["method"]))
    rows = -(-len(methods) // ACROSS)
    label = OUTCOMES[outcome_of(found)]
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 0.9 + 2.0 * rows)
        panels = fig.subplots(rows, -(-len(methods) // rows), squeeze=False, sharex=True, sharey=True)
        for panel, method in zip(panels.flat, methods):
            draw_system(panel, found, method)
        for panel in panels.flat[len(methods) :]:
            panel.set_axis_off()
        for panel in panels[:, 0]:
            panel.set_ylabel(label.replace(" (", "\n(") if rows > 1 else label)
        for panel in panels.flat[max(0, len(methods) - panels.shape[1]) : len(methods)]:
            panel.set_xlabel(RATE)
            panel.tick_params(labelbottom=True)
        note_below(fig, found.note(reading_of(found)))
    return fig


def draw_system(panel: Any, found: SystemRates, method: str) -> None:
    color, outcome = method_color(found.system_of(method)), outcome_of(found)
    panel.axhline(best_of(found), color="#777777", linewidth=0.6, zorder=0)
    for (_, own), (style, marker) in zip(curves_of(found.tuning, method), LINES):
        panel.plot(own["lr"], own[outcome], color=color, linestyle=style, marker=marker, markersize=4)
    best = found.chosen.set_index("method").loc[method]
    panel.plot(best["lr"], best[outcome], "o", markersize=11, markerfacecolor="none", color=color)
    panel.set_title(method, fontsize=10)
    panel.set_xscale("log")
    if outcome == "loss":  # a rate that diverges has several times the loss of the best
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()
    if len(rates := sorted(found.tuning["lr"].unique())) <= FEW:
        panel.set_xticks(rates, [f"{rate:.0e}".replace("e-0", "e-") for rate in rates])


def outcome_of(found: SystemRates) -> str:
    return "loss" if found.choose_by == "loss" else "accuracy"


def best_of(found: SystemRates) -> float:
    """Of all systems."""
    values = found.tuning[outcome_of(found)]
    return float(values.min() if found.choose_by == "loss" else values.max())


def curves_of(tuning: pd.DataFrame, method: str) -> list[tuple[float, pd.DataFrame]]:
    """(rate of the router over lr, its means over seeds by rising lr), the highest first; runs that diverged stay."""
    own = tuning[tuning["method"] == method]
    means = own.groupby(["router_multiplier", "lr"])[["accuracy", "loss"]].mean().reset_index()
    groups = [(float(value), rows) for value, rows in means.groupby("router_multiplier")]
    return sorted(groups, key=lambda pair: -pair[0])


def reading_of(found: SystemRates) -> str:
    """Lines, marks, and which choices lie at an end of the grid."""
    multipliers = sorted(found.tuning["router_multiplier"].unique(), reverse=True)
    styles = ("solid", "dashed", "dotted", "dash-dotted")
    lines = ", ".join(f"{value:g} {style}" for style, value in zip(styles, multipliers))
    ends = found.chosen.loc[found.chosen["end"] != "", "method"]
    point = "a mean over seeds" if found.tuning["seed"].nunique() > 1 else "one run"
    told = f"At an end of the grid: {', '.join(ends)}." if len(ends) else "No choice lies at an end of the grid."
    return (
        f"A point is {point}. The router's rate divided by that of the experts: {lines}. Ring: chosen. Gray line: the best "
        f"of any system. {told}"
    )


def interactive(found: SystemRates) -> go.Figure:
    """Every system in one drawing; the legend chooses, and the pointer tells both outcomes."""
    fig, outcome = go.Figure(), outcome_of(found)
    for method, mark in method_marks(found.tuning["method"]).items():
        system = found.system_of(method)
        for place, (value, own) in enumerate(curves_of(found.tuning, method)):
            fig.add_scatter(
                x=own["lr"],
                y=own[outcome],
                customdata=own[["accuracy", "loss"]],
                name=method,
                legendgroup=method,
                showlegend=place == 0,
                mode="lines+markers",
                marker={"symbol": mark.symbol},
                line={"color": method_color(system), "dash": DASHES[place % len(DASHES)]},
                hovertemplate=f"{method}, router x {value:g}<br>lr %{{x}}<br>"
                "accuracy %{customdata[0]:.3f}<br>loss %{customdata[1]:.3f}<extra></extra>",
            )
    best = found.chosen
    fig.add_scatter(
        x=best["lr"],
        y=best[outcome],
        name="chosen",
        mode="markers",
        marker={"symbol": "circle-open", "size": 14, "color": best["method"].map(found.system_of).map(method_color)},
        hoverinfo="skip",
    )
    fig.update_xaxes(type="log", title_text=RATE)
    fig.update_yaxes(title_text=OUTCOMES[outcome], type="log" if outcome == "loss" else "linear")
    return arranged(fig, reading_of(found), height=520, title={"text": "Every system over its learning rates"})
