"""T-REX Fig. 4: the semantic map, and how its clusters agree with data sets and groups."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from ...drawing.style import FULL_WIDTH, METHOD_COLORS, Mark, figure, note_below, use_style
from .draw_interactive import interactive as interactive
from .draw_marks import COLORINGS, EDGE, NAME_WIDTH, by_group, class_marks, map_title
from .hulls import hulls, middles, name_places
from .measure import SemanticMap

LABEL_COLORS = {"dataset": METHOD_COLORS["LoRA-MoE"], "group": "#D55E00"}
TEXT_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")
# sizes that are readable on a phone, where seven inches become four, and from the back of a room
TALK: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.labelsize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}
NAME_SIZE = 12  # points, of a cluster's name on a map of full width
INK, AREA = "#1A1A1A", "#E2E2DD"
LEGEND_MOST = 12  # categories; with more, their names are on the map


def plot(found: SemanticMap) -> Figure:
    """The paper figure.

    Top: the map with a hull and a name for every cluster, colored by predefined group; plain texts, which have no
    further tables, have this map only, colored by cluster. Bottom: AMI of clusters with both labelings against k (mean
    and standard deviation over seeds; gray: 95 % of shuffled labels, dotted: groups assigned to data sets at random),
    and the share of nearest neighbors that agree.
    """
    points, marks = by_group(found.points), "A point is a text."
    with use_style(), matplotlib.rc_context(TALK):
        drawing = figure(FULL_WIDTH, 8.6 if found.labeled else 5.7)
        parts: Any = drawing.subfigures(2, 1, height_ratios=(5.7, 2.9)) if found.labeled else [drawing]
        panel = parts[0].subplots()
        map_panel(panel, points, "group" if found.labeled else "cluster", found.names, found.own)
        panel.set_title(map_title(points))
        if found.labeled:
            ami, near = parts[1].subplots(1, 2)
            _curves(ami, found.agreement)
            _bars(near, found.neighbors)
            handles = _curve_handles(found.agreement)
            parts[1].legend(*handles, loc="outside lower center", ncols=3, fontsize=10, handlelength=1.8)
            marks = (
                "A point is a prompt. Below, dots are means over seeds, bars their standard deviation. Above the line at "
                "0.5, clusters and labels count as aligned."
            )
    with use_style(large=True):
        note_below(drawing, found.note(marks))
    return drawing


def map_panel(
    axes: Axes,
    points: pd.DataFrame,
    column: str,
    names: pd.DataFrame | None = None,
    own: pd.DataFrame | None = None,
    size: float = NAME_SIZE,
    marks: dict[Any, Mark] | None = None,
    shown: np.ndarray | None = None,
) -> None:
    """A map with the hulls and names of its clusters.

    Args:
        axes: the axes to draw in; their size decides the distance between names.
        points: as `map_frame` returns them.
        column: the coloring, one of `COLORINGS`. Up to twelve labels are listed below the map; more are written on it.
        names: cluster and name; None draws neither hulls nor the clusters' names.
        own: x and y of texts that are drawn as stars.
        size: of names, in points.
        marks: how each class of the column looks; None chooses.
        shown: (n,) booleans; the other points are pale.
    """
    marks = marks or class_marks(points, column)
    area = hulls(points) if names is not None else {}
    for cluster, corners in area.items():
        edge = marks[cluster].color if column == "cluster" else EDGE
        axes.fill(*corners.T, facecolor=AREA, alpha=0.6, linewidth=0, zorder=0)
        axes.plot(*np.vstack([corners, corners[:1]]).T, color=edge, linewidth=1.2, zorder=1)
    scatter(axes, points, column, marks, shown)
    if own is not None:
        axes.scatter(own["x"], own["y"], s=170, c=INK, marker="*", edgecolors="white", linewidths=0.9, zorder=4)
    if names is not None:
        told = names.set_index("cluster")["name"]
        write_names(axes, middles(points, "cluster"), told, size)
    if column != "cluster" and len(marks) <= LEGEND_MOST:
        legend_below(axes, marks)
    elif column != "cluster":
        write_names(axes, middles(points, column), None, size * 0.7)


def write_names(axes: Axes, places: pd.DataFrame, told: pd.Series | None, size: float) -> None:
    """Names at their places, or as close to them as possible without overlap.

    Args:
        axes: with the points already drawn.
        places: x and y, by class.
        told: the name of each class; None writes the class itself.
        size: in points.
    """
    names = [str(name) if told is None else str(told[name]) for name in places.index]
    names = ["\n".join(textwrap.wrap(name, NAME_WIDTH, break_long_words=False)) for name in names]
    letter = size / 72 * letters_per_inch(axes)
    for name, (x, y) in zip(names, name_places(places, names, letter), strict=True):
        axes.text(
            x,
            y,
            name,
            ha="center",
            va="center",
            fontsize=size,
            fontweight="bold" if told is not None else "normal",
            linespacing=1.05,
            color=INK,
            zorder=5,
            path_effects=[withStroke(linewidth=3, foreground="white", alpha=0.9)],
        )


def letters_per_inch(axes: Axes) -> float:
    """Units of the map per inch of the panel, before the layout is known exactly."""
    spans = [abs(high - low) for low, high in (axes.get_xlim(), axes.get_ylim())]
    panel = axes.get_position()
    width, height = axes.figure.bbox.width / axes.figure.dpi, axes.figure.bbox.height / axes.figure.dpi
    return max(spans[0] / (panel.width * width), spans[1] / (panel.height * height))


def scatter(
    axes: Axes,
    points: pd.DataFrame,
    column: str,
    marks: dict[Any, Mark],
    shown: np.ndarray | None,
) -> None:
    """The points only; those that are not `shown` (n,) are pale."""
    inside = np.ones(len(points), dtype=bool) if shown is None else shown
    for name, mark in marks.items():
        own = (points[column] == name).to_numpy()
        part = points[own]
        look: dict[str, Any] = {"c": mark.color, "marker": mark.marker, "linewidths": 0}
        look["alpha"] = np.where(inside[own], 0.8, 0.08)
        axes.scatter(part["x"], part["y"], s=14, label=name, zorder=2, **look)
    axes.set_title(f"Colored by {COLORINGS[column]}")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.margins(0.08, 0.04)


def legend_below(axes: Axes, marks: dict[Any, Mark]) -> None:
    """The classes below the map, each name in the color of its points."""
    legend = axes.legend(
        _handles(marks),
        [str(name) for name in marks],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=4,
        fontsize="medium",
        handletextpad=0.1,
        columnspacing=0.9,
        labelspacing=0.3,
    )
    for text, mark in zip(legend.get_texts(), marks.values(), strict=True):
        red, green, blue = (0.75 * part for part in to_rgb(mark.color))
        text.set_color((red, green, blue))  # a little darker, because letters are thin


def _handles(marks: dict[Any, Mark]) -> list[Any]:
    shapes = [(mark.marker, mark.color) for mark in marks.values()]
    return [Line2D([], [], linestyle="", marker=marker, color=color, markersize=7) for marker, color in shapes]


def _curves(axes: Axes, table: pd.DataFrame) -> None:
    for text, style in zip(table["text"].unique(), TEXT_STYLES):
        for labels, color in LABEL_COLORS.items():
            rows = table[(table["text"] == text) & (table["labels"] == labels)].sort_values("k")
            axes.errorbar(
                rows["k"],
                rows["ami"],
                rows["ami_sd"].fillna(0),
                color=color,
                linestyle=style,
                marker="o",
                markersize=4,
                linewidth=1.8,
                elinewidth=1,
            )
    first = table[table["text"] == table["text"].iloc[0]]
    groups = first[first["labels"] == "group"].sort_values("k")
    axes.fill_between(groups["k"], 0, first.groupby("k")["chance_ami_95"].max(), color="#B0B0B0", linewidth=0)
    axes.plot(groups["k"], groups["regrouped_ami"], color=LABEL_COLORS["group"], linestyle=":", linewidth=1.5)
    axes.axhline(0.5, color="#B0B0B0", linewidth=0.6, zorder=0)
    ticks = sorted({int(k) for k in table["k"]})
    axes.set(ylim=(-0.02, 1.02), title="Agreement (AMI)", xlabel="number of clusters k", xscale="log")
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()


def _curve_handles(table: pd.DataFrame) -> tuple[list[Any], list[str]]:
    handles: list[Any] = [Line2D([], [], color=color) for color in LABEL_COLORS.values()]
    names = ["with data sets", "with groups"]
    for text, style in zip(table["text"].unique(), TEXT_STYLES):
        handles.append(Line2D([], [], color="#1A1A1A", linestyle=style))
        names.append(f"{text} prompts")
    handles += [Line2D([], [], color=LABEL_COLORS["group"], linestyle=":", linewidth=1.5), Patch(color="#B0B0B0")]
    return handles, [*names, "groups at random", "labels shuffled (95 %)"]


def _bars(axes: Axes, neighbors: pd.DataFrame) -> None:
    texts, measures = list(neighbors["text"].unique()), list(neighbors["measure"].unique())
    height = 0.8 / len(texts)
    for index, text in enumerate(texts):
        rows = neighbors[neighbors["text"] == text].set_index("measure").loc[measures]
        place = np.arange(len(measures)) + (index - (len(texts) - 1) / 2) * height
        axes.barh(place, rows["share"], height * 0.9, color=("#56B4E9", "#003F63", "#B0B0B0")[index % 3], label=text)
        axes.plot(
            rows["chance"],
            place,
            linestyle="",
            marker="|",
            color="#D55E00",
            markersize=13,
            markeredgewidth=2.4,
            label="at random" if index == len(texts) - 1 else None,
        )
    axes.set_yticks(range(len(measures)), [textwrap.fill(measure, 12) for measure in measures])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of 10 nearest neighbors")
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.02, 0.96),
        ncols=3,
        fontsize=10,
        handlelength=0.8,
        columnspacing=0.7,
        handletextpad=0.3,
    )
