"""A map for notebooks, with a lasso that lists the points inside."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ...drawing.layout import arranged
from ...drawing.page_width import Width, wide_figure
from ...extras import extra
from .draw_interactive import HIDDEN, SELECTION, hover_texts, hull_shapes, name_traces, star_trace
from .draw_marks import class_marks, counted, map_title
from .maps import matching

with extra("notebooks"):
    import ipywidgets

LISTED = 100  # rows of the table
USUAL = "Draw around points with the lasso to list their prompts here."


class Lasso(ipywidgets.VBox):
    """The map (`figure`, a FigureWidget), a line (`told`) and a table (`table`) of the points of a lasso or a search."""

    def __init__(self) -> None:
        self.figure = wide_figure()
        self.told, self.table = (ipywidgets.HTML(layout={"width": "auto"}) for _ in range(2))
        self.points, self.names = pd.DataFrame(), pd.Series(dtype=str)
        super().__init__([self.figure, self.told, self.table, Width()])

    def show(
        self, points: pd.DataFrame, names: pd.DataFrame, column: str, own: pd.DataFrame | None = None, search: str = ""
    ) -> None:
        """Draw a map again, with the points of a search selected.

        Args:
            points: as `map_frame` returns them.
            names: cluster and name.
            column: the coloring of the points, one of `draw.COLORINGS`.
            own: texts that are drawn as stars, as `place` returns them.
            search: words that the selected prompts contain; without words, nothing is selected.
        """
        self.points, self.names = points, names.set_index("cluster")["name"]
        chosen = np.flatnonzero(matching(points["prompt"], search)).tolist() if search.strip() else None
        fresh = lasso_figure(points, self.names, column, own)
        fresh.data[0].selectedpoints = chosen
        with self.figure.batch_update():
            self.figure.data = []
            self.figure.add_traces(fresh.data)
            self.figure.layout = fresh.layout
        dots = self.figure.data[0]
        dots.on_selection(lambda trace, found, selector: self.list(found.point_inds))
        dots.on_deselect(lambda trace, found: self.list(None))
        self.list(chosen)

    def list(self, chosen: Any) -> None:
        """Show the rows of these points in the table; None is no selection."""
        rows = [] if chosen is None else sorted(set(chosen))
        total = counted(len(self.points), "prompt")
        self.told.value = USUAL if chosen is None else f"{len(rows)} of {total} selected."
        if chosen is not None and not rows:
            self.told.value = (
                f"None of the {total} is selected; draw around some points, or search for different words."
            )
        if len(rows) > LISTED:
            self.told.value += f" The first {LISTED} are listed."
        part = self.points.iloc[rows[:LISTED]].assign(cluster=lambda found: found["cluster"].map(self.names))
        self.table.value = listed(part.drop(columns=["x", "y"])[["prompt", *part.columns.drop(["x", "y", "prompt"])]])


def listed(rows: pd.DataFrame) -> str:
    """A table as HTML, every text escaped; empty without rows."""
    if rows.empty:
        return ""
    head = "".join(f"<th style='text-align: left'>{escape(name)}</th>" for name in rows.columns)
    cells = ["".join(f"<td>{escape(str(value))}</td>" for value in row) for row in rows.itertuples(index=False)]
    body = "".join(f"<tr style='vertical-align: top'>{row}</tr>" for row in cells)
    return f"<div style='max-height: 24em; overflow: auto; line-height: 1.4'><table><tr>{head}</tr>{body}</table></div>"


def lasso_figure(points: pd.DataFrame, names: pd.Series, column: str, own: pd.DataFrame | None) -> Any:
    """The map as one trace of points, so that a selection is reported only once, with hulls, names and stars."""
    marks = class_marks(points, column)
    dots = go.Scatter(
        x=points["x"].to_numpy(np.float32),
        y=points["y"].to_numpy(np.float32),
        mode="markers",
        marker={
            "color": [marks[name].color for name in points[column]],
            "symbol": [marks[name].symbol for name in points[column]],
            "size": 7,
            "opacity": 0.8,
        },
        hovertext=hover_texts(points, names),
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
        **SELECTION,
    )
    labels = [trace for trace, columns in name_traces(points, names, [column]) if column in columns]
    stars = [star_trace(own)] if own is not None else []
    layout = go.Layout(
        title=map_title(points),
        height=560,
        dragmode="lasso",
        xaxis=HIDDEN,
        yaxis={**HIDDEN, "scaleanchor": "x"},
        shapes=hull_shapes(points),
    )
    return arranged(go.Figure([dots, *labels, *stars], layout))
