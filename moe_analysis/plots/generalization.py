"""Accuracy in and out of distribution: T-REX's Fig. 3 beside dots with intervals, and differences task by task."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..analysis.generalization import INSIDE, OUTSIDE, PARTS
from ..drawing.style import FULL_WIDTH, figure, method_color, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RADAR_METHODS = ("LoRA", "LoRA-MoE", "SiRA", "T-REX")  # the paper's four
TITLES = {"originals": "originals", "variants": "variants", INSIDE: "in distribution", OUTSIDE: "out of distribution"}
# label, colour, dashes of matplotlib and of plotly
LEVELS = {
    "chance": ("chance", "#8A8A8A", ":", "dot"),
    "majority": ("majority", "#8A8A8A", "--", "dash"),
    "untrained": ("untrained backbone", "#1A1A1A", "-", "solid"),
}
MOST_NAMES = 12  # around a radar; more tasks get numbers
MEASURES = {"accuracy": "accuracy", "loss": "loss (nats a token)"}


def readable(name: str) -> str:
    return name.replace("_", " ")


def drawn_parts(frame: pd.DataFrame) -> list[str]:
    """The parts a figure shows, in order; originals and variants stand apart, without their union."""
    found = set(frame["part"])
    return [part for part in PARTS if part in found]


def part_rows(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """(part, data set) of a frame, part after part."""
    keys = frame[["part", "dataset"]].drop_duplicates()
    return [(part, dataset) for part in drawn_parts(frame) for dataset in keys.loc[keys["part"] == part, "dataset"]]


def transfer_figure(
    frame: pd.DataFrame, summary: pd.DataFrame, levels: pd.DataFrame, radar_methods: Sequence[str] = RADAR_METHODS
) -> Figure:
    """Fig. 3: accuracy on every out-of-distribution task, beside the mean accuracy of all methods in every part.

    frame: `scores`. summary: `part_summary`. levels: `generalization.levels`. Left, a radar of radar_methods, means
    over seeds, grey what the better of chance and the most frequent answer gets. Right, a dot for the mean over tasks
    and seeds, its 95 % t interval over seeds, a small mark for each seed, and lines for the levels to beat. Raises
    ValueError for a method of the radar that has no runs, and without out-of-distribution tasks.

    >>> figure = transfer_figure(scored, summary, to_beat)
    >>> [" ".join(panel.get_title(loc="left").split()) for panel in figure.axes[1:]]
    ['originals (2 tasks)', 'variants (2 tasks)', 'out of distribution (2 tasks)']
    """
    methods, parts = list(dict.fromkeys(frame["method"])), drawn_parts(frame)
    if missing := [name for name in radar_methods if name not in methods]:
        raise ValueError(
            f"radar_methods names {', '.join(missing)}, which have no runs; choose from {', '.join(methods)}"
        )
    if OUTSIDE not in parts:
        raise ValueError("the frame has no out-of-distribution tasks; pass scores(runs, transferred)")
    with use_style():
        # the radar's names stand outside of its circle, so it gets a grid of its own
        tasks = list(dict.fromkeys(frame.loc[frame["part"] == OUTSIDE, "dataset"]))
        numbered = len(tasks) > MOST_NAMES
        fig = figure(FULL_WIDTH, 4.6 if numbered else 3.4)
        halves: Any = fig.subfigures(1, 2, width_ratios=[0.72, 1.0])
        left, right = halves
        if numbered:
            left, key = left.subfigures(2, 1, height_ratios=[1.0, 0.02 + 0.025 * len(tasks) / 2])
            write_key(key, tasks)
        left.suptitle("accuracy by task, out of distribution", fontsize=8)
        radar = left.add_subplot(projection="polar")
        draw_radar(radar, frame[frame["part"] == OUTSIDE], levels[levels["part"] == OUTSIDE], radar_methods)
        handles, names = radar.get_legend_handles_labels()
        left.legend(handles, names, loc="outside lower center", ncols=3, handlelength=1.4, columnspacing=1.0)
        panels = np.atleast_1d(right.subplots(1, len(parts), sharey=True))
        for panel, part in zip(panels, parts):
            draw_dots(panel, frame, summary, levels, part, methods)
        panels[0].set_yticks(range(len(methods)), methods)
        notes = max(len(panel.texts[0].get_text().splitlines()) if panel.texts else 0 for panel in panels)
        panels[0].set_ylim(len(methods) - 0.4 + 0.4 * notes, -0.6)  # the first method on top, the notes below the last
        handles, names = panels[0].get_legend_handles_labels()
        right.legend(handles, names, loc="outside lower center", ncols=len(handles), handlelength=1.8)
    return fig


def draw_radar(panel: Any, frame: pd.DataFrame, levels: pd.DataFrame, methods: Sequence[str]) -> None:
    """Accuracy as distance from the centre, a direction for each task; `frame` and `levels` of one part."""
    tasks = list(dict.fromkeys(frame["dataset"]))
    angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
    guess = levels.set_index("dataset").loc[tasks, "guess"].to_numpy()
    panel.fill(angles, guess, color="#B0B0B0", alpha=0.45, linewidth=0, label="guessing")
    for method in methods:
        means = frame[frame["method"] == method].groupby("dataset")["accuracy"].mean().loc[tasks].to_numpy()
        panel.plot(
            [*angles, angles[0]],
            [*means, means[0]],
            color=method_color(method),
            linewidth=1.1,
            label=method,
            marker="o",
            markersize=2,
        )
    panel.set_theta_zero_location("N")
    panel.set_theta_direction(-1)
    panel.set_xticks(angles, [])
    top = radar_top(frame[frame["method"].isin(methods)], guess)
    panel.set_ylim(0, top)
    ticks = np.arange(0.25, top + 1e-9, 0.25)
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=6, color="#5A5A5A")
    panel.set_rlabel_position(180 / len(tasks))  # between two directions
    panel.spines["polar"].set_visible(False)
    panel.grid(linewidth=0.5, alpha=0.5)
    for number, (angle, task) in enumerate(zip(angles, tasks), 1):
        side = np.sin(angle)
        align = "center" if abs(side) < 0.2 else "left" if side > 0 else "right"
        vertical = "center" if abs(np.cos(angle)) < 0.8 else "bottom" if np.cos(angle) > 0 else "top"
        name = wrapped(task) if len(tasks) <= MOST_NAMES else str(number)
        panel.annotate(name, (angle, top * 1.06), ha=align, va=vertical, fontsize=6, annotation_clip=False)


def write_key(part: Any, tasks: Sequence[str]) -> None:
    """What the numbers around a radar stand for, in two columns."""
    lines = [f"{number} {readable(task)}" for number, task in enumerate(tasks, 1)]
    half, place = (len(lines) + 1) // 2, 0.02
    for column in (lines[:half], lines[half:]):
        words = part.text(place, 0.98, "\n".join(column), fontsize=5, va="top", color="#1A1A1A", linespacing=1.1)
        place += words.get_window_extent().width / part.bbox.width + 0.05  # names are of any length


def radar_top(frame: pd.DataFrame, guess: np.ndarray) -> float:
    """The radius: the next quarter above what is drawn."""
    highest = max(frame.groupby(["method", "dataset"])["accuracy"].mean().max(), guess.max())
    return min(1.0, np.ceil(4 * highest) / 4) or 0.25


def wrapped(task: str) -> str:
    """A task's name on at most two lines."""
    words = readable(task).split()
    half = (len(words) + 1) // 2
    return " ".join(words[:half]) + ("\n" + " ".join(words[half:]) if len(words) > 1 else "")


def draw_dots(
    panel: Any, frame: pd.DataFrame, summary: pd.DataFrame, levels: pd.DataFrame, part: str, methods: Sequence[str]
) -> None:
    """One part: methods on the vertical axis, accuracy on the horizontal one."""
    rows = summary[(summary["part"] == part) & (summary["measure"] == "accuracy")].set_index("method")
    seeds = frame[frame["part"] == part].groupby(["method", "seed"])["accuracy"].mean()
    for place, method in enumerate(methods):
        color, row = method_color(method), rows.loc[method]
        panel.plot(
            seeds.loc[method],
            [place + 0.26] * len(seeds.loc[method]),
            "|",
            color=color,
            markersize=3.5,
            markeredgewidth=0.7,
        )
        if np.isfinite(row["low"]):
            panel.plot([row["low"], row["high"]], [place] * 2, color=color, linewidth=1.3)
        panel.plot(row["mean"], place, "o", color=color, markersize=4.5, markeredgecolor="white", markeredgewidth=0.5)
    drawn = np.concatenate([seeds, rows["low"].dropna(), rows["high"].dropna()])
    draw_levels(panel, levels[levels["part"] == part], float(drawn.min()), float(drawn.max()))
    panel.margins(x=0.09)
    panel.locator_params(axis="x", nbins=4)
    panel.set_xlabel("accuracy")
    panel.set_title(f"{TITLES[part]}\n({int(rows['tasks'].iloc[0])} tasks)", fontsize=8)
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)


def draw_levels(panel: Any, levels: pd.DataFrame, low: float, high: float) -> None:
    """Lines for the means of the levels; one so far from [low, high] that it would squeeze the dots gets a note."""
    reach, notes = max(high - low, 0.05), []
    for level, (label, color, dashes, _) in LEVELS.items():
        value = levels[level].mean()
        if low - reach <= value <= high + reach:
            panel.axvline(value, color=color, linestyle=dashes, linewidth=0.9, label=label, zorder=1)
        else:
            panel.plot([], [], color=color, linestyle=dashes, linewidth=0.9, label=label)  # for the legend
            notes.append(f"{label} {value:.2f}")
    if notes:
        panel.text(
            0.03,
            0.01,
            "beyond: " + "\n".join(notes),
            transform=panel.transAxes,
            fontsize=5.5,
            color="#5A5A5A",
            va="bottom",
            linespacing=1.15,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def task_figure(differences: pd.DataFrame, against: str = "LoRA") -> Figure:
    """Heat map of accuracy less that of `against`, in points: tasks by methods; `differences`: `task_differences`.

    Bold: the 95 % interval over paired seeds leaves out zero (uncorrected: one of twenty does by chance). The first
    column is the accuracy of `against` itself, in percent.

    >>> from moe_analysis.analysis.generalization import task_differences
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
        fig = figure(FULL_WIDTH, 1.1 + 0.165 * len(order))
        panel = fig.add_subplot()
        image = panel.imshow(gaps, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
        for (row, column), gap in np.ndenumerate(gaps):
            clear = low[row, column] > 0 or high[row, column] < 0
            panel.text(
                column,
                row,
                f"{gap:+.0f}" if round(gap) else "0",
                ha="center",
                va="center",
                fontsize=6,
                fontweight="bold" if clear else "normal",
                color="white" if abs(gap) > 0.72 * limit else "#1A1A1A",
            )
        for row, value in enumerate(base):
            panel.text(-0.95, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color="#5A5A5A")
        panel.set_xlim(-1.4, len(methods) - 0.5)
        names = [f"{against}, %", *(fill(name, 9) for name in methods)]
        panel.set_xticks([-0.95, *range(len(methods))], names, fontsize=6.5)
        panel.set_yticks(range(len(order)), [readable(dataset) for _, dataset in order], fontsize=6)
        panel.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        for edge in panel.spines.values():
            edge.set_visible(False)
        label_parts(panel, [part for part, _ in order])
        bar = fig.colorbar(image, ax=panel, fraction=0.025, pad=0.055, aspect=40)
        bar.set_label(f"accuracy less that of {against}, points; bold: interval over seeds leaves out 0", fontsize=7)
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
