"""T-REX's Fig. 3: accuracy above guessing, by system and by task, and its radar."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import commonprefix
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...drawing.layout import arranged
from ...drawing.marks import float32, menu_of
from ...drawing.style import (
    FULL_WIDTH,
    NOTE,
    figure,
    method_color,
    method_marks,
    note_below,
    use_style,
)
from ...evidence import counted
from .draw_radar import draw_radar
from .endpoints import versions
from .measure import Systems
from .scores import INSIDE, OUTSIDE, PARTS, above_guessing, tasks_above_guessing

RADAR_METHODS = ("LoRA", "LoRA-MoE", "SiRA", "T-REX")  # the paper's four
TITLES = {"originals": "originals", "variants": "variants", INSIDE: "in distribution", OUTSIDE: "out of distribution"}
ABOVE = "accuracy above guessing (points)"
MEASURES = {"accuracy": "accuracy", "loss": "loss (nats per token)"}
AXES = MEASURES | {"accuracy": ABOVE}
UNTRAINED, GUESSING = "#1A1A1A", "#8A8A8A"
BARS = "Bars: 95 % intervals over seeds; small marks: seeds; black line: the backbone before training"


def plot(found: Systems) -> Figure:
    """The paper figure: dots of all systems, and of the radar's systems that have runs the tasks and the radar."""
    shown = [label for name in RADAR_METHODS for label in versions(found.methods, name)]
    with use_style(large=True):
        fig = transfer_figure(found.scores, found.summary, found.levels, shown)
        grounds = "gray: worse than guessing, the better of chance and the most frequent answer"
        note_below(fig, found.note(f"{BARS}; {grounds}."))
    return fig


def interactive(found: Systems) -> go.Figure:
    """Dots of all systems by part and measure, and their tasks and the radar."""
    return transfer_explorer(found.scores, found.summary, found.levels)


def readable(name: str) -> str:
    return name.replace("_", " ")


def drawn_parts(frame: pd.DataFrame) -> list[str]:
    """The parts a figure shows, in order; originals and variants are separate, without their union."""
    found = set(frame["part"])
    return [part for part in PARTS if part in found]


def transfer_figure(
    frame: pd.DataFrame, summary: pd.DataFrame, levels: pd.DataFrame, radar_methods: Sequence[str] = RADAR_METHODS
) -> Figure:
    """Fig. 3: accuracy above guessing of all methods in every part, and of some on every out-of-distribution task,
    or, where there is none, on every task of the first part.

    frame: `scores`. summary: `part_summary`. levels: `scores.levels`. Above, one row per method: a dot for the mean over
    tasks and seeds, its 95 % t interval over seeds, a small mark for each seed, and a line for the backbone before
    training. Below, one row per task with a mark for each of radar_methods, and their radar, whose
    numbers are those of the rows. Guessing is the better of chance and the most frequent answer. Raises ValueError for
    a method of the radar that has no runs.

    >>> figure = transfer_figure(scored, summary, to_beat)
    >>> [" ".join(panel.get_title(loc="left").split()) for panel in figure.axes[:3]]
    ['originals (2 tasks)', 'variants (2 tasks)', 'out of distribution (2 tasks)']
    """
    methods, parts = list(dict.fromkeys(frame["method"])), drawn_parts(frame)
    if missing := [name for name in radar_methods if name not in methods]:
        raise ValueError(
            f"radar_methods names {', '.join(missing)}, which have no runs; choose from {', '.join(methods)}"
        )
    part_of_tasks = by_task_part(frame)
    gains, by_task = above_guessing(summary, levels), tasks_above_guessing(frame, levels, part_of_tasks)
    by_task = by_task[by_task["method"].isin(list(radar_methods))]
    of_row = max(0.225, 0.06 * len(radar_methods))  # inches: marks of many methods need room
    legend = 0.17 * max(0, len(radar_methods) - 4)
    high = 0.9 + 0.21 * len(methods), 0.9 + legend + of_row * by_task["dataset"].nunique()
    with use_style(large=True):
        fig = figure(FULL_WIDTH, 0.5 + sum(high))
        halves: Any = fig.subfigures(2, 1, height_ratios=high)
        above, below = halves
        panels = np.atleast_1d(above.subplots(1, len(parts), sharey=True))
        for panel, part in zip(panels, parts):
            draw_dots(panel, frame, gains, levels, part, methods)
        panels[0].set_yticks(range(len(methods)), methods)
        notes = max(len(panel.texts) for panel in panels)
        panels[0].set_ylim(len(methods) - 0.4 + 0.8 * notes, -0.6)  # the first method on top, notes below the last
        above.supxlabel(ABOVE, fontsize=10)
        left, right = below.subfigures(1, 2, width_ratios=[1.9, 1.0])
        draw_tasks(left.subplots(), by_task, TITLES[part_of_tasks])
        radar = right.add_subplot(projection="polar")
        draw_radar(radar, by_task)
        named = radar.get_legend_handles_labels()
        right.legend(*named, loc="outside lower center", ncols=2, handlelength=1.0, columnspacing=0.8, borderaxespad=0)
    return fig


def by_task_part(frame: pd.DataFrame) -> str:
    """The part that is drawn task by task: tasks that nobody trained on, where there are some."""
    parts = drawn_parts(frame)
    return OUTSIDE if OUTSIDE in parts else parts[0]


def draw_tasks(panel: Any, by_task: pd.DataFrame, title: str) -> None:
    """One row per task, a mark per method; worse than guessing is shaded."""
    tasks, marks = list(dict.fromkeys(by_task["dataset"])), method_marks(by_task["method"])
    for number, (method, mark) in enumerate(marks.items()):
        own = by_task[by_task["method"] == method].set_index("dataset").loc[tasks]
        places = np.arange(len(tasks)) + min(0.15, 0.8 / len(marks)) * (number - (len(marks) - 1) / 2)
        look = {"color": mark.color, "marker": mark.marker}
        panel.plot(own["mean"], places, linestyle="", markersize=5.5, label=method, zorder=3, **look)
    panel.axvline(0, color=GUESSING, linewidth=1.4, zorder=1)
    shade_below_guessing(panel)
    panel.set_yticks(range(len(tasks)), numbered(tasks))
    panel.set_ylim(len(tasks) - 0.45, -0.55)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel(ABOVE)
    panel.set_title(f"task by task, {title}")
    panel.grid(axis="both")


def shade_below_guessing(panel: Any) -> None:
    """Gray where a system is worse than guessing; the limits stay."""
    low, high = panel.get_xlim()
    if low < 0:
        panel.axvspan(low, min(high, 0.0), color="#EBEBEB", linewidth=0, zorder=0)
    panel.set_xlim(low, high)


def draw_dots(
    panel: Any, frame: pd.DataFrame, gains: pd.DataFrame, levels: pd.DataFrame, part: str, methods: Sequence[str]
) -> None:
    """One part: methods on the vertical axis, points above guessing on the horizontal one."""
    rows, seeds = gains[gains["part"] == part].set_index("method"), seeds_above_guessing(frame, levels, part)
    for place, method in enumerate(methods):
        color, row, own = method_color(method), rows.loc[method], seeds.loc[method]
        panel.plot(own, [place + 0.3] * len(own), "|", color=color, markersize=4, markeredgewidth=0.9)
        if np.isfinite(row["low"]):
            panel.plot([row["low"], row["high"]], [place] * 2, color=color, linewidth=2)
        panel.plot(row["mean"], place, "o", color=color, markersize=6.5, markeredgecolor="white", markeredgewidth=0.6)
    drawn = np.concatenate([seeds, rows["low"].dropna(), rows["high"].dropna()])
    draw_levels(panel, levels[levels["part"] == part], float(drawn.min()), float(drawn.max()))
    panel.margins(x=0.09)
    shade_below_guessing(panel)
    panel.locator_params(axis="x", nbins=4)
    panel.set_title(f"{TITLES[part]}\n({int(rows['tasks'].iloc[0])} tasks)", fontsize=10)
    panel.grid(axis="x")
    panel.tick_params(axis="y", length=0)


def seeds_above_guessing(frame: pd.DataFrame, levels: pd.DataFrame, part: str) -> pd.Series:
    """Points by method and seed, means over the tasks of a part."""
    guess = levels.loc[levels["part"] == part, "guess"].mean()
    own = frame[frame["part"] == part].groupby(["method", "seed"], sort=False)["accuracy"].mean()
    return 100 * (own - guess)


def untrained_above_guessing(levels: pd.DataFrame) -> float:
    """Points of the backbone before training, mean over tasks; NaN for a table of results without its base model."""
    return float(100 * (levels["untrained"] - levels["guess"]).mean(skipna=False))


def near_levels(levels: pd.DataFrame, low: float, high: float) -> dict[str, tuple[float, str]]:
    """What to beat, in points, and its color: guessing and the untrained backbone, unless so far from [low, high] that
    a line there would squeeze the dots."""
    reach = max(high - low, 5.0)
    found = {"guessing": (0.0, GUESSING), "untrained backbone": (untrained_above_guessing(levels), UNTRAINED)}
    return {label: one for label, one in found.items() if low - reach <= one[0] <= high + reach}


def draw_levels(panel: Any, levels: pd.DataFrame, low: float, high: float) -> None:
    """Lines for `near_levels`, and a note for a backbone that is further away."""
    near, untrained = near_levels(levels, low, high), untrained_above_guessing(levels)
    for label, (value, color) in near.items():
        panel.axvline(value, color=color, linewidth=1.4, label=label, zorder=1)
    if "untrained backbone" not in near and np.isfinite(untrained):
        arrow = "←" if untrained < low else "→"
        panel.text(
            0.03, 0.01, f"untrained {arrow} {untrained:.0f}", transform=panel.transAxes, fontsize=8.5, color=NOTE
        )


def transfer_explorer(frame: pd.DataFrame, summary: pd.DataFrame, levels: pd.DataFrame) -> go.Figure:
    """The interactive twin: dots of all methods, with a menu for part and measure; below, tasks and radar.

    The legend chooses whose tasks are shown, the paper's four first. Arguments as of `transfer_figure`.

    >>> figure = transfer_explorer(scored, summary, to_beat)
    >>> sorted({trace.type for trace in figure.data})
    ['scatter', 'scatterpolar']
    """
    methods = list(dict.fromkeys(frame["method"]))
    part_of_tasks = by_task_part(frame)
    by_task, gains = tasks_above_guessing(frame, levels, part_of_tasks), above_guessing(summary, levels)
    specs: Any = [[{"type": "xy", "colspan": 2}, None], [{"type": "xy"}, {"type": "polar"}]]
    fig = make_subplots(rows=2, cols=2, specs=specs, column_widths=[0.6, 0.4], vertical_spacing=0.14)
    add_tasks(fig, by_task, methods)
    fixed = [trace.visible for trace in fig.data]
    views = [(measure, part) for measure in MEASURES for part in drawn_parts(frame)]
    owners: list[tuple[str, str]] = []  # of the traces after the fixed ones
    for measure, part in views:
        rows = gains if measure == "accuracy" else summary[summary["measure"] == "loss"]
        add_dots(fig, frame, rows[rows["part"] == part], levels, part, measure)
        owners += [(measure, part)] * (len(fig.data) - len(fixed) - len(owners))
    for trace, owner in zip(fig.data[len(fixed) :], owners):
        trace.visible = owner == views[0]
    menu = {
        f"{view[0]}, {TITLES[view[1]]}": [
            {"visible": fixed + [owner == view for owner in owners]},
            {"xaxis.title.text": AXES[view[0]]},
        ]
        for view in views
    }
    tasks = list(dict.fromkeys(by_task["dataset"]))
    fig.update_yaxes(categoryorder="array", categoryarray=methods[::-1], row=1, col=1)
    fig.update_yaxes(
        tickvals=list(range(len(tasks))), ticktext=numbered(tasks), autorange="reversed", zeroline=False, row=2, col=1
    )
    fig.update_xaxes(title_text=ABOVE, row=1, col=1)
    fig.update_xaxes(title_text=f"points above guessing, {TITLES[part_of_tasks]}", row=2, col=1)
    fig.update_polars(
        radialaxis={"nticks": 4, "tickfont": {"size": 9}},
        angularaxis={"type": "category", "direction": "clockwise", "rotation": 90},
    )
    return arranged(
        fig,
        f"{counted(summary['seeds'], 'seed')}. {BARS}",
        height=360 + 26 * (len(methods) + len(tasks)),
        title={"text": "Accuracy above guessing, by system and by task"},
        updatemenus=[menu_of("Measure and tasks", menu)],
    )


def numbered(tasks: Sequence[str]) -> list[str]:
    """Names of rows without what all have in common, and the numbers that the radar has.

    >>> numbered(["bbh_navigate", "bbh_web_of_lies"])
    ['navigate 1', 'web of lies 2']
    """
    start = commonprefix(list(tasks)).rfind("_") + 1 if len(tasks) > 1 else 0
    return [f"{readable(task[start:])} {number}" for number, task in enumerate(tasks, 1)]


def first_shown(method: str) -> bool:
    return any(versions([method], name) for name in RADAR_METHODS)


def add_tasks(fig: go.Figure, by_task: pd.DataFrame, methods: Sequence[str]) -> None:
    """Marks by task and lines of the radar, both under one name of the legend."""
    tasks = list(dict.fromkeys(by_task["dataset"]))
    around = [str(number) for number in (*range(1, len(tasks) + 1), 1)]
    names = numbered(tasks)
    names.append(names[0])
    guess = by_task.drop_duplicates("dataset")["guess"].to_list()
    fig.add_scatterpolar(
        r=np.array([*guess, guess[0]], np.float32),
        theta=around,
        text=names,
        name="guessing",
        line={"color": "#B0B0B0"},
        fill="toself",
        mode="lines",
        visible=True,
        hovertemplate="guessing<br>%{text}: %{r:.3f}<extra></extra>",
        row=2,
        col=2,
    )
    for method, mark in method_marks(methods).items():
        own = by_task[by_task["method"] == method].set_index("dataset").loc[[*tasks, tasks[0]]]
        common: dict[str, Any] = {
            "name": method,
            "legendgroup": method,
            "visible": True if first_shown(method) else "legendonly",
            "marker": {"color": mark.color, "symbol": mark.symbol, "size": 8},
        }
        fig.add_scatterpolar(
            r=float32(own["accuracy"]),
            theta=around,
            text=names,
            mode="lines+markers",
            line={"color": mark.color},
            hovertemplate=f"{method}<br>%{{text}}: %{{r:.3f}}<extra></extra>",
            **common,
            row=2,
            col=2,
        )
        own = own.iloc[:-1]
        fig.add_scatter(
            x=float32(own["mean"]),
            y=list(range(len(tasks))),
            mode="markers",
            text=numbered(tasks),
            customdata=float32(own[["low", "high", "accuracy", "guess"]]),
            hovertemplate=f"{method}, %{{text}}<br>%{{x:+.1f}} points [%{{customdata[0]:+.1f}}, %{{customdata[1]:+.1f}}]"
            "<br>accuracy %{customdata[2]:.3f}, guessing %{customdata[3]:.3f}<extra></extra>",
            showlegend=False,
            **common,
            row=2,
            col=1,
        )


def add_dots(
    fig: go.Figure, frame: pd.DataFrame, rows: pd.DataFrame, levels: pd.DataFrame, part: str, measure: str
) -> None:
    """Means with intervals, seeds, and the levels of that measure, all invisible until a menu shows them.

    rows: of `above_guessing` or `part_summary`, of that part and measure.
    """
    here = levels[levels["part"] == part]
    if measure == "accuracy":
        seeds = seeds_above_guessing(frame, levels, part)
        lines = near_levels(here, float(seeds.min()), float(seeds.max()))
    else:
        seeds = frame[frame["part"] == part].groupby(["method", "seed"], sort=False)[measure].mean()
        lines = {"untrained backbone": (here[f"untrained_{measure}"].mean(skipna=False), UNTRAINED)}
    colors = [method_color(name) for name in rows["method"]]
    names = seeds.index.get_level_values("method")
    common: dict[str, Any] = {"visible": False, "showlegend": False, "row": 1, "col": 1}
    fig.add_scatter(
        x=float32(seeds),
        y=names,
        mode="markers",
        customdata=seeds.index.get_level_values("seed"),
        marker={"color": [method_color(name) for name in names], "symbol": "line-ns-open", "size": 9},
        hovertemplate="%{y}, seed %{customdata}: %{x:.4g}<extra></extra>",
        **common,
    )
    fig.add_scatter(
        x=float32(rows["mean"]),
        y=rows["method"],
        mode="markers",
        marker={"color": colors, "size": 10},
        error_x={"array": (rows["high"] - rows["mean"]).fillna(0.0), "color": "#5A5A5A", "thickness": 1.2},
        customdata=rows[["low", "high"]],
        hovertemplate="%{y}: %{x:.4g}<br>95 %: %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>",
        **common,
    )
    ends = [rows["method"].iloc[0], rows["method"].iloc[-1]]
    for label, (value, color) in lines.items():
        if np.isfinite(value):
            fig.add_scatter(
                x=[value] * 2,
                y=ends,
                mode="lines",
                line={"color": color},
                hovertemplate=f"{label}: %{{x:.4g}}<extra></extra>",
                **common,
            )
