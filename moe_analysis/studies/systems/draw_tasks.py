"""Every task of every system against one of them: a heat map of differences in points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure

from ...cards.in_words import signed
from ...drawing.layout import arranged
from ...drawing.marks import menu_of
from ...drawing.style import FULL_WIDTH, figure, ink_on, note_below, use_style
from .draw import MEASURES, TITLES, drawn_parts, readable
from .measure import SystemTasks

FIT = 9  # columns whose names have room beside each other
LETTERS = 16  # per inch, of the colors' label, which is longer than the map of few tasks is high


def plot(found: SystemTasks) -> Figure:
    """The heat map of accuracy."""
    with use_style():
        fig = task_figure(found.differences["accuracy"], found.reference)
        note_below(
            fig,
            found.note(
                f"A cell is a mean over seeds minus {found.reference}'s; bold: its 95 % interval over paired seeds "
                "excludes 0, uncorrected."
            ),
        )
    return fig


def interactive(found: SystemTasks) -> go.Figure:
    """The heat map with intervals under the pointer, of accuracy or loss."""
    return task_explorer(found.differences, found.reference)


def part_rows(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(part, data set) of a frame, part after part."""
    keys = frame[["part", "dataset"]].drop_duplicates()
    return [(part, dataset) for part in drawn_parts(frame) for dataset in keys.loc[keys["part"] == part, "dataset"]]


def task_figure(differences: pd.DataFrame, against: str = "LoRA") -> Figure:
    """Heat map of accuracy minus that of `against`, in points: tasks by methods; `differences`: `task_differences`.

    Bold: the 95 % interval over paired seeds leaves out zero (uncorrected: one of twenty does by chance). The first
    column is the accuracy of `against` itself, in percent.

    >>> from moe_analysis.studies.systems.scores import task_differences
    >>> figure = task_figure(task_differences(scored))
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()][:3]
    ['LoRA, %', 'LoRA-MoE', 'SiRA']
    """
    methods = list(dict.fromkeys(differences["method"]))
    tables = {
        name: differences.pivot(index=["part", "dataset"], columns="method", values=name)[methods]
        for name in ("difference", "low", "high")
    }
    order = part_rows(differences)
    gaps, low, high = (100 * tables[name].loc[order].to_numpy() for name in ("difference", "low", "high"))
    base = 100 * differences.drop_duplicates(["part", "dataset"]).set_index(["part", "dataset"])["base"].loc[order]
    limit = max(float(np.nanmax(np.abs(gaps))), 1.0)
    with use_style():
        fig = figure(min(FULL_WIDTH, 3.1 + 0.55 * len(methods)), 1.1 + 0.165 * len(order))
        panel = fig.add_subplot()
        image = panel.imshow(gaps, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        for (row, column), gap in np.ndenumerate(gaps):
            clear = low[row, column] > 0 or high[row, column] < 0
            panel.text(
                column,
                row,
                signed(gap, 0),
                ha="center",
                va="center",
                fontsize=6,
                fontweight="bold" if clear else "normal",
                color=ink_on(image, gap),
            )
        for row, value in enumerate(base):
            panel.text(-0.95, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color="#5A5A5A")
        panel.set_xlim(-1.4, len(methods) - 0.5)
        names = [f"{against}, %", *(fill(name, 9) for name in methods)]
        panel.set_xticks([-0.95, *range(len(methods))], names, fontsize=6.5 * min(1.0, FIT / len(methods)))
        panel.set_yticks(range(len(order)), [readable(dataset) for _, dataset in order], fontsize=6)
        panel.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        for edge in panel.spines.values():
            edge.set_visible(False)
        label_parts(panel, [part for part, _ in order])
        bar = fig.colorbar(image, ax=panel, fraction=0.025, pad=0.055, aspect=40)
        label = f"accuracy minus {against}'s, in points; bold: interval over seeds excludes 0"
        bar.set_label(fill(label, int(LETTERS * fig.get_figheight())), fontsize=7)
        bar.outline.set_visible(False)
    return fig


def label_parts(panel: Any, parts: Sequence[str]) -> None:
    """A line between the parts, and their names on the right."""
    starts = [0, *(row for row in range(1, len(parts)) if parts[row] != parts[row - 1]), len(parts)]
    for start, stop in zip(starts, starts[1:]):
        if start:
            panel.axhline(start - 0.5, color="white", linewidth=3)
        panel.annotate(
            TITLES[parts[start]],
            (1.01, (start + stop - 1) / 2),
            xycoords=("axes fraction", "data"),
            rotation=-90,
            ha="left",
            va="center",
            fontsize=7,
            annotation_clip=False,
        )


def task_explorer(differences: Mapping[str, pd.DataFrame], against: str = "LoRA") -> go.Figure:
    """The heat map with intervals under the pointer; differences: measure -> `task_differences` of it, in a menu.

    >>> from moe_analysis.studies.systems.scores import task_differences
    >>> figure = task_explorer({"accuracy": task_differences(scored)})
    >>> figure.data[0].type
    'heatmap'
    """
    fig = go.Figure()
    for index, (measure, table) in enumerate(differences.items()):
        order, methods = part_rows(table), list(dict.fromkeys(table["method"]))
        grids = [
            table.pivot(index=["part", "dataset"], columns="method", values=name).loc[order, methods].to_numpy()
            for name in ("difference", "low", "high", "base")
        ]
        fig.add_heatmap(
            z=grids[0].astype("float32"),
            x=methods,
            y=[f"{TITLES[part]}: {readable(name)}" for part, name in order],
            customdata=grids[3].astype("float32"),
            colorscale="PuOr",
            zmid=0.0,
            visible=index == 0,
            colorbar={"title": {"text": f"minus {against}"}},
            reversescale=measure == "loss",  # purple is better
            text=[[told(*cell) for cell in row] for row in np.stack(grids[:3], axis=-1)],
            hovertemplate="%{y}<br>%{x}: %{text}<br>" + f"{against}: %{{customdata:.3f}}<extra>{measure}</extra>",
        )
    menu = {MEASURES[measure]: [{"visible": [other == measure for other in differences]}] for measure in differences}
    return arranged(
        fig,
        height=200 + 20 * len(order),
        title={"text": f"Every task against {against}"},
        yaxis={"autorange": "reversed"},
        updatemenus=[menu_of("Measure", menu, "restyle")],
    )


def told(gap: float, low: float, high: float) -> str:
    """A difference and its interval; one seed has none.

    >>> told(0.0512, -0.0001, 0.1024), told(-0.0512, float("nan"), float("nan"))
    ('+0.051<br>95 %: 0.000 to +0.102', '-0.051')
    """
    interval = f"<br>95 %: {signed(low, 3)} to {signed(high, 3)}" if np.isfinite(low) else ""
    return signed(gap, 3) + interval
