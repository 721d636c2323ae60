"""T-REX Fig. 4: the semantic map, and how its clusters agree with data sets and groups."""

from __future__ import annotations

import html
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...drawing.layout import arranged
from ...drawing.style import FULL_WIDTH, METHOD_COLORS, Mark, category_marks, figure, use_style

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .measure import SemanticMap

COLORINGS = {"dataset": "data set", "group": "predefined group", "cluster": "semantic cluster"}
LABEL_COLORS = {"dataset": METHOD_COLORS["LoRA-MoE"], "group": "#D55E00"}
TEXT_STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")
PROMPT_LENGTH, PROMPT_WIDTH = 180, 60  # characters of a prompt that a hover shows, and of one of its lines


def plot(found: SemanticMap) -> Figure:
    """The paper figure: the map above, agreement of clusters and neighbors below."""
    return semantic_map(found.points, found.agreement, found.neighbours)


def interactive(found: SemanticMap) -> go.Figure:
    """The map alone, with the prompts to hover over."""
    return semantic_map_interactive(found.points)


def semantic_map(points: pd.DataFrame, table: pd.DataFrame, neighbours: pd.DataFrame) -> Figure:
    """The paper figure, from the tables `points`, `agreement` and `neighbours` of the result.

    Top: the map colored by data set and by predefined group. Bottom: AMI and NMI of clusters with both labellings
    against k (mean and deviation over seeds; gray: 95 % of shuffled labels, dotted: groups dealt anew to data sets),
    and the share of nearest neighbors that agree.

    >>> figure = semantic_map(points, table, neighbours)
    >>> [panel.get_title(loc="left") for panel in figure.axes][:2]
    ['Colored by data set', 'Colored by predefined group']
    """
    points = by_group(points)
    with use_style():
        drawing = figure(FULL_WIDTH, 7.0)
        parts: Any = drawing.subfigures(2, 1, height_ratios=(4.6, 2.5))
        top, bottom = parts
        for column, axes in zip(("dataset", "group"), top.subplots(1, 2)):
            scatter(axes, points, column)
        ami, nmi, near = bottom.subplots(1, 3, width_ratios=(1, 1, 0.9))
        _curves(ami, table, "ami", "AMI")
        _curves(nmi, table, "nmi", "NMI")
        _bars(near, neighbours)
        bottom.legend(*_curve_handles(table), loc="outside lower center", ncols=3, handlelength=2.6)
        return drawing


def semantic_map_interactive(points: pd.DataFrame) -> go.Figure:
    """The map to explore: hover shows the prompt, buttons color it by data set, predefined group or cluster.

    In: what `map_frame` returned. One trace for each category, so that the legend switches single categories.

    >>> figure = semantic_map_interactive(points)
    >>> [trace.name for trace in figure.data][:4]
    ['add_small', 'add_small_one_over', 'where_is', 'where_is_one_step_late']
    """
    import plotly.graph_objects as go

    points = by_group(points)
    shown = pd.DataFrame({name: points[name].astype(str).map(html.escape) for name in COLORINGS})
    shown["prompt"] = points["prompt"].map(hover_prompt)
    traces, owner = [], []
    for column in COLORINGS:
        for name, mark in _marks(points, column).items():
            inside = (points[column] == name).to_numpy()
            traces.append(
                go.Scatter(
                    x=points.loc[inside, "x"].to_numpy(np.float32),
                    y=points.loc[inside, "y"].to_numpy(np.float32),
                    mode="markers",
                    name=html.escape(str(name)),
                    visible=column == "dataset",
                    marker={"color": mark.color, "symbol": mark.symbol, "size": 6, "opacity": 0.75},
                    customdata=shown.loc[inside].to_numpy(dtype=object),
                    hovertemplate="%{customdata[3]}<br><b>%{customdata[0]}</b> (%{customdata[1]}), "
                    "cluster %{customdata[2]}<extra></extra>",
                )
            )
            owner.append(column)
    buttons = [
        {
            "label": title,
            "method": "update",
            "args": [{"visible": [column == mine for mine in owner]}, {"legend.title.text": title}],
        }
        for column, title in COLORINGS.items()
    ]
    blank = {"showticklabels": False, "showgrid": False, "zeroline": False, "title": ""}
    return arranged(
        go.Figure(
            traces,
            go.Layout(
                template="plotly_white",
                title="Semantic map of the prompts",
                height=720,
                legend={"title": {"text": COLORINGS["dataset"]}, "itemsizing": "constant"},
                xaxis=blank,
                yaxis={**blank, "scaleanchor": "x"},
                updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons}],
            ),
        )
    )


def hover_prompt(prompt: str) -> str:
    """A prompt for a hover box: one paragraph, shortened, in lines, and escaped so that none of it is markup."""
    text = " ".join(prompt.split())
    text = text if len(text) <= PROMPT_LENGTH else text[: PROMPT_LENGTH - 1].rstrip() + "…"
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, PROMPT_WIDTH))


def by_group(points: pd.DataFrame) -> pd.DataFrame:
    """Points ordered by group, so that legends list the data sets of a group side by side."""
    return points.iloc[np.argsort(pd.factorize(points["group"])[0], kind="stable")]


def _marks(points: pd.DataFrame, column: str) -> dict[Any, Mark]:
    names = points[column].unique()
    return category_marks(sorted(names) if column == "cluster" else names)


def scatter(axes: Axes, points: pd.DataFrame, column: str, marks: dict[Any, Mark] | None = None) -> None:
    marks = marks or _marks(points, column)
    for name, mark in marks.items():
        part = points[points[column] == name]
        axes.scatter(part["x"], part["y"], s=6, c=mark.color, marker=mark.marker, alpha=0.75, linewidths=0, label=name)
    axes.set_title(f"Colored by {COLORINGS[column]}")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.legend(
        _handles(marks),
        [str(name) for name in marks],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=2,
        handletextpad=0.2,
        columnspacing=0.8,
        labelspacing=0.25,
    )


def _handles(marks: dict[Any, Mark]) -> list[Any]:
    from matplotlib.lines import Line2D

    shapes = [(mark.marker, mark.color) for mark in marks.values()]
    return [Line2D([], [], linestyle="", marker=marker, color=color, markersize=4.5) for marker, color in shapes]


def _curves(axes: Axes, table: pd.DataFrame, score: str, title: str) -> None:
    for text, style in zip(table["text"].unique(), TEXT_STYLES):
        for labels, color in LABEL_COLORS.items():
            rows = table[(table["text"] == text) & (table["labels"] == labels)].sort_values("k")
            axes.errorbar(
                rows["k"],
                rows[score],
                rows[f"{score}_sd"].fillna(0),
                color=color,
                linestyle=style,
                marker="o",
                markersize=2.5,
                linewidth=1.2,
                elinewidth=0.8,
            )
    first = table[table["text"] == table["text"].iloc[0]]
    groups = first[first["labels"] == "group"].sort_values("k")
    axes.fill_between(groups["k"], 0, first.groupby("k")[f"chance_{score}_95"].max(), color="#B0B0B0", linewidth=0)
    axes.plot(groups["k"], groups[f"regrouped_{score}"], color=LABEL_COLORS["group"], linestyle=":", linewidth=1)
    axes.axhline(0.5, color="#B0B0B0", linewidth=0.6, zorder=0)
    ticks = sorted({int(k) for k in table["k"]})
    axes.set(ylim=(-0.02, 1.02), ylabel=title, xlabel="number of clusters k", xscale="log")
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()


def _curve_handles(table: pd.DataFrame) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=color) for color in LABEL_COLORS.values()]
    names = ["with data sets", "with groups"]
    for text, style in zip(table["text"].unique(), TEXT_STYLES):
        handles.append(Line2D([], [], color="#1A1A1A", linestyle=style))
        names.append(f"{text} prompts")
    handles += [Line2D([], [], color=LABEL_COLORS["group"], linestyle=":", linewidth=1), Patch(color="#B0B0B0")]
    return handles, [*names, "groups dealt anew", "labels shuffled (95 %)"]


def _bars(axes: Axes, neighbours: pd.DataFrame) -> None:
    texts, measures = list(neighbours["text"].unique()), list(neighbours["measure"].unique())
    height = 0.8 / len(texts)
    for index, text in enumerate(texts):
        rows = neighbours[neighbours["text"] == text].set_index("measure").loc[measures]
        place = np.arange(len(measures)) + (index - (len(texts) - 1) / 2) * height
        axes.barh(place, rows["share"], height * 0.9, color=("#56B4E9", "#003F63", "#B0B0B0")[index % 3], label=text)
        axes.plot(
            rows["chance"],
            place,
            linestyle="",
            marker="|",
            color="#D55E00",
            markersize=8,
            markeredgewidth=1.6,
            label="at random" if index == len(texts) - 1 else None,
        )
    axes.set_yticks(range(len(measures)), [textwrap.fill(measure, 12) for measure in measures])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of 10 nearest neighbors")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.22), ncols=3, handlelength=1, columnspacing=0.8)
