"""T-REX's Fig. 3 beside dots with intervals: accuracy in and out of distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, figure, method_color, use_style
from .scores import INSIDE, OUTSIDE, PARTS

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

    from .measure import Systems

RADAR_METHODS = ("LoRA", "LoRA-MoE", "SiRA", "T-REX")  # the paper's four
TITLES = {"originals": "originals", "variants": "variants", INSIDE: "in distribution", OUTSIDE: "out of distribution"}
# label, color, dashes of matplotlib and of plotly
LEVELS = {
    "chance": ("chance", "#8A8A8A", ":", "dot"),
    "majority": ("majority", "#8A8A8A", "--", "dash"),
    "untrained": ("untrained backbone", "#1A1A1A", "-", "solid"),
}
MOST_NAMES = 12  # around a radar; more tasks get numbers
MEASURES = {"accuracy": "accuracy", "loss": "loss (nats per token)"}


def plot(found: Systems) -> Figure:
    """The paper figure: the radar of its systems that have runs, and dots of all."""
    shown = [name for name in RADAR_METHODS if name in found.methods]
    return transfer_figure(found.scores, found.summary, found.levels, shown)


def interactive(found: Systems) -> go.Figure:
    """The radar of all systems, and dots by part and measure."""
    return transfer_explorer(found.scores, found.summary, found.levels)


def readable(name: str) -> str:
    return name.replace("_", " ")


def drawn_parts(frame: pd.DataFrame) -> list[str]:
    """The parts a figure shows, in order; originals and variants stand apart, without their union."""
    found = set(frame["part"])
    return [part for part in PARTS if part in found]


def transfer_figure(
    frame: pd.DataFrame, summary: pd.DataFrame, levels: pd.DataFrame, radar_methods: Sequence[str] = RADAR_METHODS
) -> Figure:
    """Fig. 3: accuracy on every out-of-distribution task, beside the mean accuracy of all methods in every part.

    frame: `scores`. summary: `part_summary`. levels: `scores.levels`. Left, a radar of radar_methods, means
    over seeds, gray what the better of chance and the most frequent answer gets. Right, a dot for the mean over tasks
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
    """Accuracy as distance from the center, a direction for each task; `frame` and `levels` of one part."""
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
        if np.isnan(value):
            continue  # a table of results does not hold the untrained backbone
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


def transfer_explorer(frame: pd.DataFrame, summary: pd.DataFrame, levels: pd.DataFrame) -> go.Figure:
    """The interactive twin: the radar of all methods, the paper's four shown first; a menu for the dots.

    The menu chooses part and measure; arguments as of `transfer_figure`.

    >>> figure = transfer_explorer(scored, summary, to_beat)
    >>> sorted({trace.type for trace in figure.data})
    ['scatter', 'scatterpolar']
    """
    from plotly.subplots import make_subplots

    methods = list(dict.fromkeys(frame["method"]))
    fig = make_subplots(rows=1, cols=2, specs=[[{"type": "polar"}, {"type": "xy"}]])
    away = frame[frame["part"] == OUTSIDE]
    tasks = list(dict.fromkeys(away["dataset"]))
    around = [wrapped(task).replace("\n", "<br>") for task in [*tasks, *tasks[:1]]]
    guess = levels[levels["part"] == OUTSIDE].set_index("dataset")["guess"]
    lines = {"guessing": guess} | {
        name: away[away["method"] == name].groupby("dataset")["accuracy"].mean() for name in methods
    }
    for name, values in lines.items():
        color = "#B0B0B0" if name == "guessing" else method_color(name)
        fig.add_scatterpolar(
            r=values.loc[[*tasks, *tasks[:1]]].astype("float32"),
            theta=around,
            name=name,
            line={"color": color},
            fill="toself" if name == "guessing" else None,
            mode="lines" if name == "guessing" else "lines+markers",
            visible=True if name in ("guessing", *RADAR_METHODS) else "legendonly",
            hovertemplate=f"{name}<br>%{{theta}}: %{{r:.3f}}<extra></extra>",
            row=1,
            col=1,
        )
    fixed = [trace.visible for trace in fig.data]
    menu: list[tuple[str, str, int]] = []  # measure, part, traces
    for measure in MEASURES:
        for part in drawn_parts(frame):
            before = len(fig.data)
            add_dots(fig, frame, summary, levels, part, measure)
            menu.append((measure, part, len(fig.data) - before))
    buttons: list[dict[str, Any]] = []
    for chosen in menu:
        shown = [entry is chosen for entry in menu for _ in range(entry[2])]
        buttons.append(
            {
                "label": f"{chosen[0]}, {TITLES[chosen[1]]}",
                "method": "update",
                "args": [{"visible": fixed + shown}, {"xaxis.title.text": MEASURES[chosen[0]]}],
            }
        )
    for trace, visible in zip(fig.data, buttons[0]["args"][0]["visible"]):
        trace.visible = visible
    fig.update_yaxes(categoryorder="array", categoryarray=methods[::-1])
    fig.update_xaxes(title_text="accuracy")
    fig.update_polars(radialaxis={"nticks": 4, "tickfont": {"size": 9}})
    fig.update_layout(
        template="plotly_white",
        height=560,
        title={"text": "Accuracy by task and by part"},
        updatemenus=[{"buttons": buttons}],
    )
    return arranged(fig)


def add_dots(
    fig: go.Figure, frame: pd.DataFrame, summary: pd.DataFrame, levels: pd.DataFrame, part: str, measure: str
) -> None:
    """Means with intervals, seeds, and the levels of that measure, all invisible until a menu shows them."""
    rows = summary[(summary["part"] == part) & (summary["measure"] == measure)]
    colors = [method_color(name) for name in rows["method"]]
    seeds = frame[frame["part"] == part].groupby(["method", "seed"], sort=False)[measure].mean().reset_index()
    common: dict[str, Any] = {"visible": False, "showlegend": False, "row": 1, "col": 2}
    fig.add_scatter(
        x=seeds[measure].astype("float32"),
        y=seeds["method"],
        mode="markers",
        customdata=seeds["seed"],
        marker={"color": [method_color(name) for name in seeds["method"]], "symbol": "line-ns-open", "size": 9},
        hovertemplate="%{y}, seed %{customdata}: %{x:.4f}<extra></extra>",
        **common,
    )
    fig.add_scatter(
        x=rows["mean"].astype("float32"),
        y=rows["method"],
        mode="markers",
        marker={"color": colors, "size": 10},
        error_x={"array": (rows["high"] - rows["mean"]).fillna(0.0), "color": "#5A5A5A", "thickness": 1.2},
        customdata=rows[["low", "high"]],
        hovertemplate="%{y}: %{x:.4f}<br>95 %: %{customdata[0]:.4f} to %{customdata[1]:.4f}<extra></extra>",
        **common,
    )
    ends = [rows["method"].iloc[0], rows["method"].iloc[-1]]
    here = levels[levels["part"] == part]
    for level, (label, color, _, dash) in LEVELS.items():
        column = level if measure == "accuracy" else f"{level}_loss"
        if column in here and here[column].notna().all():
            fig.add_scatter(
                x=[here[column].mean()] * 2,
                y=ends,
                mode="lines",
                line={"color": color, "dash": dash},
                hovertemplate=f"{label}: %{{x:.4f}}<extra></extra>",
                **common,
            )
