"""Gate rescaling compared with a larger learning rate: losses by rate, and the paired differences."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import bars_of, float32, points_of
from ...drawing.style import FULL_WIDTH, MARKERS, SYMBOLS, figure, note_below, use_style
from ...evidence import counted
from ...evidence.intervals import mean_interval
from .bench import Confound
from .draw import cross_out
from .exponent import EQUAL, MATCHED, TUNED, method_pair

COLORS = ("#0072B2", "#D55E00")  # plain, rescaled
LOSS = "validation error"


def plot(found: Confound) -> Figure:
    """The paper figure of the confound, on the bench.

    (a) loss against the experts' learning rate, with 95 % intervals as shades, and marks at the compared rates. (b) the
    paired differences with their intervals: left of zero, rescaling is better. Learning rates at which a seed diverged
    have a cross at the top instead of a mean.
    """
    frame, comparisons = found.bench, found.comparisons
    with use_style():
        fig = figure(FULL_WIDTH, 3.2)
        first, second = fig.subplots(1, 2, width_ratios=[1.1, 1])
        draw_rates(first, frame)
        draw_marks(first, frame, comparisons)
        draw_gaps(second, comparisons, f"{' minus '.join(reversed(method_pair(frame)))}, {LOSS}")
        fig.legend(*first.get_legend_handles_labels(), loc="outside upper left", ncols=5)
        note_below(
            fig,
            found.note(
                f"(a) Means with 95 % intervals over {counted(found.bench['seed'].nunique(), 'seed')} of the bench, "
                "including those that choose the best rates; (b) differences paired over "
                f"{counted(found.comparisons['seeds'].max(), 'seed')} with 95 % intervals."
            ),
        )
    return fig


def loss_bands(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns method, lr, mean, low, high, diverged (share of seeds); means are NaN if a seed diverged."""
    rows = []
    for (method, lr), part in frame.groupby(["method", "lr"], sort=True):
        lost = 1 - np.isfinite(part["loss"]).mean()
        mean, low, high = mean_interval(part["loss"].to_numpy()) if not lost else (np.nan,) * 3
        rows.append((method, lr, mean, low, high, lost))
    return pd.DataFrame(rows, columns=["method", "lr", "mean", "low", "high", "diverged"])


def draw_rates(panel: Any, frame: pd.DataFrame) -> None:
    bands = loss_bands(frame)
    for index, (method, color) in enumerate(zip(method_pair(frame), COLORS)):
        band = bands[bands["method"] == method]
        panel.fill_between(band["lr"], band["low"], band["high"], color=color, alpha=0.15, linewidth=0)
        panel.plot(band["lr"], band["mean"], color=color, label=method)
        cross_out(panel, band.loc[band["diverged"] > 0, "lr"], color, index)
    panel.set_xscale("log")
    panel.set_xlabel("learning rate of the experts  (×: a seed diverged)")
    panel.set_ylabel(LOSS)
    panel.set_title("(a) loss by learning rate")
    panel.grid(axis="y")


def draw_marks(panel: Any, frame: pd.DataFrame, comparisons: pd.DataFrame) -> None:
    """One marker per kind of comparison on each curve; RSGD's matched learning rates are between those of the runs."""
    bands = loss_bands(frame).dropna()
    seen = set()
    for row in comparisons.to_dict("records"):
        kind = kind_of(row["comparison"])
        for method, color, lr in zip(method_pair(frame), COLORS, (row["plain_lr"], row["rescaled_lr"])):
            band = bands[bands["method"] == method]
            height = np.interp(np.log(lr), np.log(band["lr"]), band["mean"], right=np.nan)
            panel.plot(
                lr,
                height,
                linestyle="",
                marker=kind_marker(kind)[0],
                color=color,
                markersize=7,
                markeredgecolor="black",
                markeredgewidth=0.7,
                zorder=4,
            )
        if kind not in seen:
            panel.plot(
                [],
                [],
                linestyle="",
                marker=kind_marker(kind)[0],
                color="0.8",
                markeredgecolor="black",
                markersize=6,
                label=kind,
            )
        seen.add(kind)


def kind_of(comparison: str) -> str:
    """ "equal lr", "matched step" or "both tuned": the beginning of a comparison's name."""
    return next((kind for kind in (MATCHED, TUNED) if comparison.startswith(kind)), EQUAL)


def kind_marker(kind: str) -> tuple[str, str]:
    """matplotlib's marker and plotly's symbol of a kind of comparison."""
    index = {EQUAL: 0, MATCHED: 2, TUNED: 1}[kind]
    return MARKERS[index], SYMBOLS[index]


def draw_gaps(panel: Any, comparisons: pd.DataFrame, label: str) -> None:
    places = np.arange(len(comparisons))[::-1]
    panel.axvline(0, color="0.5", linewidth=0.8)
    for place, row in zip(places, comparisons.to_dict("records")):
        if np.isfinite(row["difference"]):
            panel.plot([row["low"], row["high"]], [place, place], color="0.35", linewidth=1.2)
            panel.plot(
                row["difference"],
                place,
                marker=kind_marker(kind_of(row["comparison"]))[0],
                color="0.8",
                markeredgecolor="black",
                markersize=6,
            )
        else:
            panel.text(
                0.5,
                place,
                f"undecided: {row['diverged']} of {row['seeds']} seeds diverged",
                ha="center",
                va="center",
                fontsize=7,
                transform=panel.get_yaxis_transform(),
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
    panel.set_yticks(places, [fill(name, 22) for name in comparisons["comparison"]])
    panel.set_ylim(-0.6, len(comparisons) - 0.4)
    panel.set_xlabel(label)
    panel.set_title("(b) paired differences, 95 %")
    panel.grid(axis="x")


def interactive(found: Confound) -> go.Figure:
    """The same two panels: means and every seed against the learning rate, and differences with their intervals."""
    fig = make_subplots(1, 2, subplot_titles=["loss by learning rate", "paired differences, 95 %"])
    frame, comparisons = found.bench, found.comparisons
    bands, (plain, rescaled) = loss_bands(frame), method_pair(frame)
    for method, color in zip((plain, rescaled), COLORS):
        band, runs = bands[bands["method"] == method], frame[(frame["method"] == method) & np.isfinite(frame["loss"])]
        fig.add_scatter(
            **points_of(runs, "lr", "loss", ["seed"]),
            mode="markers",
            row=1,
            col=1,
            name=f"{method}, seeds",
            legendgroup=method,
            marker={"color": color, "opacity": 0.35, "size": 6},
            hovertemplate=f"{method}, seed %{{customdata[0]}}<br>lr %{{x:.3g}}<br>loss %{{y:.4f}}<extra></extra>",
        )
        fig.add_scatter(
            **points_of(band, "lr", "mean", ["low", "high"]),
            name=method,
            row=1,
            col=1,
            legendgroup=method,
            line={"color": color},
            hovertemplate=f"{method}<br>lr %{{x:.3g}}<br>mean %{{y:.4f}} "
            "[%{customdata[0]:.4f}, %{customdata[1]:.4f}]<extra></extra>",
        )
    shown = comparisons.iloc[::-1]
    names = [fill(name, 24).replace("\n", "<br>") for name in shown["comparison"]]
    symbols = [kind_marker(kind_of(name))[1] for name in shown["comparison"]]
    fig.add_scatter(
        x=float32(shown["difference"]),
        y=names,
        mode="markers",
        row=1,
        col=2,
        showlegend=False,
        customdata=float32(shown[["rescaled_lr", "plain_lr", "seeds", "diverged"]]),
        marker={"color": "#333333", "size": 10, "symbol": symbols},
        error_x=bars_of(shown, "difference"),
        hovertemplate=f"%{{y}}<br>difference %{{x:+.4f}}<br>{rescaled} at lr %{{customdata[0]:.3g}}, {plain} at "
        "%{customdata[1]:.3g}<br>%{customdata[2]} seeds, %{customdata[3]} diverged<extra></extra>",
    )
    fig.add_vline(x=0, line={"color": "grey", "width": 1}, row=1, col=2)
    fig.update_xaxes(type="log", title_text="learning rate of the experts", row=1, col=1)
    fig.update_yaxes(title_text=LOSS, row=1, col=1)
    fig.update_xaxes(title_text=f"{rescaled} minus {plain}", row=1, col=2)
    return arranged(fig, height=520, title={"text": "Rescaling, or a larger learning rate?"})
