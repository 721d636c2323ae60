"""Paths of router weights as plotly's lines in three dimensions, for the page and for the widget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ...drawing.style import method_color
from .paths import PATH_COLUMNS


def bundle_trace(bundles: pd.DataFrame, method: str, visible: bool) -> go.Scatter3d:
    """ "×8" at the ends of the paths that several experts of one run share."""
    x, y, z = bundles[list(PATH_COLUMNS)].to_numpy(np.float32).T
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="markers+text",
        text=[f"×{count}" for count in bundles["experts"]],
        textposition="top center",
        textfont={"size": 16},
        marker={"color": method_color(method), "size": 4},
        visible=visible,
        name=method,
        legendgroup=method,
        showlegend=False,
        hoverinfo="skip",
    )


def path_trace(lines: pd.DataFrame, method: str, seed: Any, ways: str, leading: bool, visible: bool) -> go.Scatter3d:
    """Several experts of one run as one trace, with a gap after each expert."""
    experts = lines["expert"].nunique()
    columns = [*PATH_COLUMNS, "expert", "step", "loss"]
    rows = lines[columns].to_numpy(np.float32).reshape(experts, -1, len(columns))
    gap = np.full((experts, 1, len(columns)), np.nan, np.float32)
    values = np.concatenate([rows, gap], axis=1).reshape(-1, len(columns))  # (experts*(points+1), columns)
    return go.Scatter3d(
        x=values[:, 0],
        y=values[:, 1],
        z=values[:, 2],
        customdata=values[:, 3:],
        mode="lines",
        visible=visible,
        name=f"{method}<br>{ways}",
        legendgroup=method,
        showlegend=leading,
        connectgaps=False,
        opacity=1.0 if leading else 0.3,
        line={"color": method_color(method), "width": 5 if leading else 2},
        hovertemplate=(
            f"{method}, seed {seed}<br>expert %{{customdata[0]:.0f}}<br>step %{{customdata[1]:.0f}}"
            "<br>loss %{customdata[2]:.3f}<extra></extra>"
        ),
    )
