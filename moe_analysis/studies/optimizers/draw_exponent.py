"""The exponent of gate rescaling drawn against the entropy of the gates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib import colormaps
from matplotlib.colors import TwoSlopeNorm, to_hex
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...cards.in_words import signed
from ...drawing.layout import arranged
from ...drawing.marks import bars_of, float32, points_of
from ...drawing.style import FULL_WIDTH, MARKERS, SYMBOLS, figure, ink_on, note_below, use_style
from .bench import Exponent

LINES, DIVERGING = "viridis", "RdBu_r"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0)


def plot(found: Exponent) -> Figure:
    """The paper figure.

    (a) validation error against p, one line per temperature with its measured entropy, with 95 % intervals of the means
    as shades. (b) the paired difference to p = 1 for every p and entropy; a dot marks an interval without zero.
    """
    with use_style():
        fig = figure(FULL_WIDTH, 3.0)
        first, second = fig.subplots(1, 2, width_ratios=[1, 1.15])
        draw_powers(first, found.table)
        draw_differences(second, found.table)
        note_below(fig, found.note("(a) Means with 95 % intervals over seeds; (b) differences paired by seed."))
    return fig


def draw_powers(panel: Any, table: pd.DataFrame) -> None:
    for index, (color, (entropy, line)) in enumerate(zip(line_colors(table), table.groupby("entropy"))):
        panel.fill_between(line["power"], line["low"], line["high"], color=color, alpha=0.1, linewidth=0)
        panel.plot(
            line["power"],
            line["mean"],
            color=color,
            marker=MARKERS[index % len(MARKERS)],
            label=f"{entropy:.2f}  (T = {line['temperature'].iloc[0]:g})",
        )
    panel.set_xticks(sorted(table["power"].unique()))
    panel.set_xlabel("exponent p of the backward factor $g^p$")
    panel.set_ylabel("validation error (untrained: 1)")
    panel.set_yscale("log")  # p = 0 can fail outright
    low, high = panel.get_ylim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_title("(a) error by exponent")
    panel.grid(axis="y")
    panel.legend(title="gate entropy", loc="best")


def line_colors(table: pd.DataFrame) -> list[Any]:
    """One color per entropy, dark for uneven gates; the end of the color map is too pale for a line."""
    return [tuple(color) for color in colormaps[LINES](np.linspace(0, 0.85, table["entropy"].nunique()))]


def draw_differences(panel: Any, table: pd.DataFrame) -> None:
    rescaled = table[table["power"] != 1.0]
    wide = rescaled.pivot(index="entropy", columns="power", values="difference")
    decided = rescaled.pivot(index="entropy", columns="power", values="decided").reindex_like(wide)
    limit = color_limit(wide)
    image = panel.imshow(
        wide.to_numpy(), origin="lower", aspect="auto", cmap=DIVERGING, norm=TwoSlopeNorm(0, -limit, limit)
    )
    for (row, column), value in np.ndenumerate(wide.to_numpy()):
        text = "diverged" if not np.isfinite(value) else signed(value, 3) + (" •" if decided.iat[row, column] else "")
        panel.text(column, row, text, ha="center", va="center", fontsize=7, color=ink_on(image, value))
    panel.set_xticks(range(wide.shape[1]), [f"{power:g}" for power in wide.columns])
    panel.set_yticks(range(wide.shape[0]), [f"{entropy:.2f}" for entropy in wide.index])
    panel.set_xlabel("exponent p")
    panel.set_ylabel("measured gate entropy")
    panel.set_title("(b) difference to p = 1,  •: interval excludes 0")
    bar = panel.figure.colorbar(image, ax=panel, fraction=0.06, extend="both")
    bar.set_label("lower is better")


def color_limit(wide: pd.DataFrame) -> float:
    """The range of the colors: the median over temperatures of the largest difference, so that one extreme temperature
    does not make the others pale; larger values have the color of the end."""
    largest = np.sort(wide.abs().max(axis=1).dropna().to_numpy())
    return float(largest[max(0, len(largest) // 2)]) if len(largest) and largest[len(largest) // 2] > 0 else 1e-12


def interactive(found: Exponent) -> go.Figure:
    """The same two panels; hover shows p, entropy, temperature, error and the difference to p = 1."""
    table = found.table
    fig = make_subplots(1, 2, subplot_titles=["error by exponent", "difference to p = 1"])
    told = ["temperature", "difference", "difference_low", "difference_high", "seeds"]
    for index, (color, (entropy, line)) in enumerate(zip(line_colors(table), table.groupby("entropy"))):
        fig.add_scatter(
            **points_of(line, "power", "mean", told),
            name=f"entropy {entropy:.2f}",
            row=1,
            col=1,
            line={"color": to_hex(color)},
            marker={"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8},
            error_y=bars_of(line),
            hovertemplate=f"entropy {entropy:.2f}, T = %{{customdata[0]}}<br>p = %{{x}}<br>error %{{y:.4f}}"
            "<br>to p = 1: %{customdata[1]:+.4f} [%{customdata[2]:+.4f}, %{customdata[3]:+.4f}]"
            "<br>%{customdata[4]} seeds<extra></extra>",
        )
    rescaled = table[table["power"] != 1.0]
    wide = rescaled.pivot(index="entropy", columns="power", values="difference")
    limit = color_limit(wide)
    fig.add_heatmap(
        z=float32(wide),
        x=[f"p = {power:g}" for power in wide.columns],
        y=[f"{entropy:.2f}" for entropy in wide.index],
        zmin=-limit,
        zmax=limit,
        colorscale="RdBu_r",
        row=1,
        col=2,
        hovertemplate="%{x}, entropy %{y}<br>difference %{z:+.4f}<extra></extra>",
    )
    fig.update_xaxes(title_text="exponent p", row=1, col=1)
    fig.update_yaxes(title_text="validation error (untrained: 1)", row=1, col=1)
    fig.update_yaxes(title_text="measured gate entropy", type="category", row=1, col=2)
    return arranged(fig, height=520, title={"text": "The exponent of gate rescaling"})
