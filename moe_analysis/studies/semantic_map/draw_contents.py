"""T-REX Fig. 4: a heat map of the contents of the semantic clusters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...drawing.layout import arranged, width_for
from ...drawing.style import FULL_WIDTH, figure, note_below, use_style
from .measure import ClusterContents

CELL = "share of the data set's prompts"
MANY = 12  # clusters; with more, only their numbers are below them


def plot(found: ClusterContents, ax: Axes | None = None) -> Figure | Axes:
    """The paper figure: share of each data set's prompts in each cluster; data sets are sorted by group."""
    share, entropy = shares(found.profile)
    if ax is not None:
        heat_map(ax, share, entropy, found.groups, found.names)
        return ax
    with use_style():
        drawing = figure(FULL_WIDTH, 2.3 + 0.19 * len(share))
        heat_map(drawing.subplots(), share, entropy, found.groups, found.names)
        note_below(drawing, found.note("A cell is a share in the clusters of one seed."))
    return drawing


def heat_map(axes: Axes, share: pd.DataFrame, entropy: pd.Series, groups: pd.Series, names: pd.Series) -> None:
    """The shares (data sets, clusters) with lines between groups, and a color bar next to the axes."""
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(share)), [f"{name}  ({groups[name]})" for name in share.index])
    told = [str(cluster) if len(names) > MANY else names[cluster].replace(", ", "\n") for cluster in entropy.index]
    axes.set_xticks(range(share.shape[1]), [f"{name}\n{value:.2f}" for name, value in zip(told, entropy, strict=True)])
    axes.set_xlabel("semantic cluster, and below it the evenness of its groups (0: a single group)")
    groups_in_order = [groups[name] for name in share.index]
    for row in range(1, len(share)):
        if groups_in_order[row] != groups_in_order[row - 1]:
            axes.axhline(row - 0.5, color="#5A5A5A", linewidth=0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.figure.colorbar(image, ax=axes, label=CELL, shrink=0.7)


def interactive(found: ClusterContents) -> go.Figure:
    """The same heat map; the hover names data set, group, cluster, share and count."""
    share, _ = shares(found.profile)
    counts = found.profile[share.index].to_numpy().T  # (datasets, clusters)
    names = [f"{name} ({found.groups[name]})" for name in share.index]
    return arranged(
        go.Figure(
            go.Heatmap(
                z=share.to_numpy(np.float32),
                x=[f"{cluster}: {found.names[cluster]}" for cluster in share.columns],
                y=names,
                customdata=np.dstack([counts, 100 * share]).astype(np.float32),
                colorscale="Blues",
                zmin=0,
                zmax=1,
                colorbar={"title": "share"},
                hovertemplate="%{y}<br>cluster %{x}<br>%{customdata[1]:.0f} %, %{customdata[0]} prompts<extra></extra>",
            )
        ),
        title="What each semantic cluster contains",
        height=260 + 20 * len(share),
        yaxis={"autorange": "reversed"},
        xaxis={"dtick": 1},
        meta=width_for(340 + 40 * share.shape[1]),
    )


def shares(profile: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Share of each data set in each cluster (datasets, clusters), and the clusters' group entropy."""
    counts = profile.drop(columns=["size", "dataset_entropy", "group_entropy"])
    return (counts / counts.sum()).T, profile["group_entropy"]
