"""T-REX Lemma 4.1 drawn: the span of a layer's updates, and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import points_of
from ...drawing.style import BASE, FULL_WIDTH, MARKERS, SYMBOLS, figure, ink_on, method_marks, note_below, use_style
from .measure import Span
from .theorems import LABELS

COUNT_LABELS = {
    "factors": "budget for factors only",
    "factors+gates": "budget for factors and gates",
    "factors+router": "budget for factors and router",
}


def plot(found: Span) -> Figure:
    """The paper figure: spans of all sizes above, spans at equal budgets below.

    (a) span for every I and J with independent vectors; (b) span against I·J for all kinds of factors; then one panel
    per way of counting parameters: span at equal budgets, both axes logarithmic.
    """
    ranks, budgets = found.ranks, found.budgets
    counts = budgets["count"].unique()
    with use_style():
        fig = figure(FULL_WIDTH, 5.4)
        above, below = np.asarray(fig.subfigures(2, 1, height_ratios=[1.12, 1]))
        left, right = np.ravel(above.subplots(1, 2))
        draw_heat(left, ranks[ranks["kind"] == "independent"])
        draw_kinds(right, ranks)
        panels = np.atleast_1d(below.subplots(1, len(counts), sharey=True))
        for letter, panel, count in zip("cdef", panels, counts):
            draw_budget(panel, budgets[budgets["count"] == count])
            panel.set_title(f"({letter}) {COUNT_LABELS[count]}")
        panels[0].set_ylabel("span (dimensions)")
        panels[-1].legend(loc="upper left")
        note_below(fig, found.note("A mark is one size, measured with random whole numbers and exact ranks."))
    return fig


def draw_heat(panel: Any, ranks: pd.DataFrame) -> None:
    """The span of each size as a number on its color."""
    table = ranks.pivot(index="J", columns="I", values="measured")
    image = panel.imshow(
        table, origin="lower", cmap="YlGnBu", vmin=0, vmax=1.15 * table.to_numpy().max(), aspect="auto"
    )
    for row, values in enumerate(table.to_numpy()):
        for column, value in enumerate(values):
            panel.text(
                column,
                row,
                str(value),
                ha="center",
                va="center",
                fontsize=7,
                color=ink_on(image, value),
            )
    panel.set_xticks(range(table.shape[1]), table.columns)
    panel.set_yticks(range(table.shape[0]), table.index)
    panel.set(xlabel="down vectors I", ylabel="up vectors J", title="(a) measured span, independent vectors")


def draw_kinds(panel: Any, ranks: pd.DataFrame) -> None:
    """Span against I·J: on the line for independent vectors, below it for degenerate ones."""
    agree = int((ranks["measured"] == ranks["predicted"]).sum())
    panel.plot([0, ranks["experts"].max()], [0, ranks["experts"].max()], color="0.6", linewidth=0.8, zorder=1)
    for index, (kind, table) in enumerate(ranks.groupby("kind", sort=False)):
        panel.scatter(
            table["experts"],
            table["measured"],
            s=16,
            marker=MARKERS[index % len(MARKERS)],
            alpha=0.65,
            color=BASE[index % len(BASE)],
            linewidths=0,
            label=kind,
            zorder=3 if index == 0 else 2,
        )
    title = f"(b) equals rank(A)·rank(B) in {agree} of {len(ranks)}"
    panel.set(xlabel="experts I·J", ylabel="measured span", title=title)
    panel.legend(loc="upper left", title="vectors", alignment="left", handletextpad=0.2)


def draw_budget(panel: Any, spans: pd.DataFrame) -> None:
    """One line per system: span against parameter budget."""
    marks = method_marks(spans["system"].map(LABELS))
    for system, table in spans.groupby("system", sort=False):
        label = LABELS[str(system)]
        mark = marks[label]
        panel.plot(table["budget"], table["span"], marker=mark.marker, color=mark.color, label=label)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(budgets := sorted(spans["budget"].unique()), [f"{budget:,}" for budget in budgets])
    panel.minorticks_off()
    panel.set_xlabel("trainable parameters of a layer")
    panel.grid(axis="y")


def interactive(found: Span) -> go.Figure:
    """On the left the span against I·J for each kind of factors, on the right the span at equal budgets.

    Hover shows I, J, both ranks, predicted and measured span; budget, size and span.
    """
    ranks, budgets = found.ranks, found.budgets
    counts = budgets["count"].unique()
    fig = make_subplots(1, 1 + len(counts), subplot_titles=["Lemma 4.1", *(COUNT_LABELS[count] for count in counts)])
    columns = ["I", "J", "rank_a", "rank_b", "predicted", "measured"]
    for index, (kind, table) in enumerate(ranks.groupby("kind", sort=False)):
        fig.add_scatter(
            **points_of(table, "experts", "measured", columns),
            mode="markers",
            name=f"{kind} vectors",
            opacity=0.75,
            row=1,
            col=1,
            marker={"color": BASE[index % len(BASE)], "symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8},
            hovertemplate=f"{kind}<br>I = %{{customdata[0]}}, J = %{{customdata[1]}}<br>rank(A) %{{customdata[2]}}, "
            "rank(B) %{customdata[3]}<br>predicted %{customdata[4]}, measured %{customdata[5]}<extra></extra>",
        )
    marks = method_marks(budgets["system"].map(LABELS))
    for column, count in enumerate(counts, start=2):
        for system, table in budgets[budgets["count"] == count].groupby("system", sort=False):
            label = LABELS[str(system)]
            fig.add_scatter(
                **points_of(table, "budget", "span"),
                name=label,
                mode="lines+markers",
                legendgroup=label,
                showlegend=column == 2,
                text=table["size"],
                row=1,
                col=column,
                line={"color": marks[label].color},
                marker={"symbol": marks[label].symbol, "size": 8},
                hovertemplate=f"{label} of size %{{text}}<br>%{{x:,}} parameters<br>span %{{y}}<extra></extra>",
            )
        fig.update_xaxes(type="log", title_text="trainable parameters", row=1, col=column)
        fig.update_yaxes(type="log", row=1, col=column)
    fig.update_xaxes(title_text="experts I·J", row=1, col=1)
    fig.update_yaxes(title_text="measured span", row=1, col=1)
    return arranged(fig, height=560, title={"text": "Directions that updates can span"})
