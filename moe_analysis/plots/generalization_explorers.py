"""Interactive twins of the figures of generalisation: the radar and the dots of every part, the map of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..analysis.generalization import OUTSIDE
from ..drawing.layout import arranged
from ..drawing.style import method_color
from .generalization import LEVELS, MEASURES, RADAR_METHODS, TITLES, drawn_parts, part_rows, readable

if TYPE_CHECKING:
    import plotly.graph_objects as go


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
    around = [readable(task) for task in [*tasks, *tasks[:1]]]
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
        if column in here:
            fig.add_scatter(
                x=[here[column].mean()] * 2,
                y=ends,
                mode="lines",
                line={"color": color, "dash": dash},
                hovertemplate=f"{label}: %{{x:.4f}}<extra></extra>",
                **common,
            )


def task_explorer(differences: Mapping[str, pd.DataFrame], against: str = "LoRA") -> go.Figure:
    """The heat map with intervals under the pointer; differences: measure -> `task_differences` of it, in a menu.

    >>> from moe_analysis.analysis.generalization import task_differences
    >>> figure = task_explorer({"accuracy": task_differences(scored)})
    >>> figure.data[0].type
    'heatmap'
    """
    import plotly.graph_objects as go

    fig, buttons = go.Figure(), []
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
            customdata=np.stack(grids[1:], axis=-1).astype("float32"),
            colorscale="PuOr",
            zmid=0.0,
            visible=index == 0,
            colorbar={"title": {"text": f"less {against}"}},
            reversescale=measure == "loss",  # purple is better
            hovertemplate="%{y}<br>%{x}: %{z:+.3f}<br>95 %: %{customdata[0]:+.3f} to %{customdata[1]:+.3f}<br>"
            f"{against}: %{{customdata[2]:.3f}}<extra>{measure}</extra>",
        )
        buttons.append(
            {
                "label": MEASURES[measure],
                "method": "restyle",
                "args": [{"visible": [other == measure for other in differences]}],
            }
        )
    fig.update_yaxes(autorange="reversed")
    fig.update_layout(
        template="plotly_white",
        height=200 + 20 * len(order),
        title={"text": f"Every task against {against}"},
        updatemenus=[{"buttons": buttons}],
    )
    return arranged(fig)
