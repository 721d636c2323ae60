"""T-REX Fig. 4, interactive: prompts to hover over, to search and to select, clusters with hulls and names."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ...drawing.layout import arranged
from ...drawing.marks import menu_of
from .draw_marks import COLORINGS, EDGE, NAME_WIDTH, by_group, class_marks, hover_prompt, map_title
from .hulls import extent, hulls, middles, name_places
from .measure import SemanticMap

AREA = "rgba(128, 128, 128, 0.13)"  # on light and dark pages
NAME_LETTER, LABEL_LETTER = 0.033, 0.02  # heights of letters in widths of the map, for the names of clusters on a phone
HIDDEN: dict[str, Any] = {"showticklabels": False, "showgrid": False, "zeroline": False, "title": ""}
SELECTION: dict[str, Any] = {"selected": {"marker": {"opacity": 1}}, "unselected": {"marker": {"opacity": 0.07}}}
STAR: dict[str, Any] = {"symbol": "star", "size": 17, "color": "#1A1A1A", "line": {"color": "#FFFFFF", "width": 1}}


def interactive(found: SemanticMap) -> go.Figure:
    """The map only: buttons color it by predefined group, data set or cluster, and a page written by `save` has a search
    and a lasso, which list prompts below the map (`layout.meta["texts"]`).

    There is one trace per category, so that the legend of the groups can hide them; the names of data sets, which are
    many, and of clusters are on the map.
    """
    points = by_group(found.points).reset_index(drop=True)
    told = found.names.set_index("cluster")["name"]
    hover = hover_texts(points, told)
    colorings = {column: title for column, title in COLORINGS.items() if column in points}
    first = next(iter(colorings))
    traces, owner = [], list[tuple[str, ...]]()
    for column in colorings:
        for name, mark in class_marks(points, column).items():
            inside = np.flatnonzero(points[column] == name)
            traces.append(
                go.Scatter(
                    x=points["x"].to_numpy(np.float32)[inside],
                    y=points["y"].to_numpy(np.float32)[inside],
                    mode="markers",
                    name=html.escape(str(told[name] if column == "cluster" else name)),
                    visible=column == first,
                    showlegend=column == "group",
                    marker={"color": mark.color, "symbol": mark.symbol, "size": 7, "opacity": 0.75},
                    customdata=inside.tolist(),  # a page can read a list of numbers; an array would be encoded
                    hovertext=[hover[row] for row in inside],
                    hovertemplate="%{hovertext}<extra></extra>",
                    **SELECTION,
                )
            )
            owner.append((column,))
    for label, columns in name_traces(points, told, colorings):
        traces.append(label.update(visible=first in columns))
        owner.append(columns)
    if found.own is not None:
        traces.append(star_trace(found.own))
        owner.append(tuple(colorings))
    changes = {title: [{"visible": [column in mine for mine in owner]}] for column, title in colorings.items()}
    return arranged(
        go.Figure(traces),
        title=map_title(points),
        height=720,
        legend={"itemsizing": "constant"},
        xaxis=HIDDEN,
        yaxis={**HIDDEN, "scaleanchor": "x"},
        updatemenus=[menu_of("Color by", changes, in_a_row=True)],
        shapes=hull_shapes(points),
        meta={"texts": listed_texts(points, told)},
    )


def hover_texts(points: pd.DataFrame, told: pd.Series) -> list[str]:
    """For every point its prompt, its labels and its cluster, escaped."""
    rows = []
    for row in points.to_dict("records"):
        cluster = f"{row['cluster']}: {told[row['cluster']]}"
        labels = ""
        if "group" in row:
            labels = f"<b>{html.escape(str(row['dataset']))}</b> ({html.escape(str(row['group']))}), "
        rows.append(f"{hover_prompt(row['prompt'])}<br>{labels}cluster {html.escape(cluster)}")
    return rows


def listed_texts(points: pd.DataFrame, told: pd.Series) -> dict[str, Any]:
    """What a page lists of selected points: the word for them, the columns, and one row per point."""
    shown = {"prompt": points["prompt"].astype(str)}
    shown |= {
        name: points[key].astype(str) for key, name in (("dataset", "data set"), ("group", "group")) if key in points
    }
    shown["cluster"] = points["cluster"].map(told)
    called = "prompts" if "group" in points else "texts"
    return {"called": called, "columns": list(shown), "rows": pd.DataFrame(shown).to_numpy(dtype=object).tolist()}


def hull_shapes(points: pd.DataFrame) -> list[dict[str, Any]]:
    """The clusters' areas as closed paths below the points."""
    return [
        {
            "type": "path",
            "path": "M" + " L".join(f"{x:.4f},{y:.4f}" for x, y in corners) + " Z",
            "fillcolor": AREA,
            "line": {"color": EDGE, "width": 1.2},
            "layer": "below",
        }
        for corners in hulls(points).values()
    ]


def name_traces(
    points: pd.DataFrame, told: pd.Series, colorings: Collection[str]
) -> list[tuple[go.Scatter, tuple[str, ...]]]:
    """(a trace of names, the colorings that show it): for the clusters and for the data sets."""
    columns = tuple(column for column in colorings if column != "dataset")
    found = [(written(points, "cluster", told, NAME_LETTER, 14), columns)]
    if "dataset" in colorings:
        found.append((written(points, "dataset", None, LABEL_LETTER, 12), ("dataset",)))
    return found


def written(points: pd.DataFrame, column: str, told: pd.Series | None, letter: float, size: int) -> go.Scatter:
    """The names of a column's classes at their middles; `letter` is in widths of the map, `size` in pixels."""
    places = middles(points, column)
    names = [str(name) if told is None else str(told[name]) for name in places.index]
    names = ["\n".join(textwrap.wrap(name, NAME_WIDTH, break_long_words=False)) for name in names]
    at = name_places(places, names, letter * extent(points))
    return go.Scatter(
        x=at[:, 0].astype(np.float32),
        y=at[:, 1].astype(np.float32),
        mode="text",
        text=[
            "<br>".join(
                f"<b>{html.escape(line)}</b>" if told is not None else html.escape(line) for line in name.split("\n")
            )
            for name in names
        ],
        textfont={"size": size, "shadow": "auto"},
        unselected={"textfont": {"color": "#808080"}},
        hoverinfo="skip",
        showlegend=False,
        name="names",
    )


def star_trace(own: pd.DataFrame) -> go.Scatter:
    """The user's own texts."""
    hover = [
        f"{hover_prompt(text)}<br>your text, cluster {html.escape(name)}<br>nearest: {hover_prompt(near)}"
        for text, name, near in zip(own["text"], own["name"], own["nearest"], strict=True)
    ]
    return go.Scatter(
        x=own["x"].to_numpy(np.float32),
        y=own["y"].to_numpy(np.float32),
        mode="markers",
        name="your texts",
        marker=STAR,
        unselected={"marker": {"opacity": 1}},
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
    )
