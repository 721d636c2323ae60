"""The first training steps: loss and routers above, the experts of a sentence below."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...drawing.layout import arranged, width_for
from ...drawing.marks import menu_of
from ...drawing.style import BASE, FULL_WIDTH, PALETTE, figure, note_below, text_on, use_style
from ..records import layer_of
from .measure import AFTER, BEFORE, FirstSteps

MOST_NUMBERED = 40  # tokens in a row; with more, the numbers do not fit into the cells
DASHES = ("-", "--", ":", "-.")


def plot(found: FirstSteps) -> Figure:
    """Three panels: loss, distance of the routers, and the sentence."""
    with use_style():
        fig = figure(FULL_WIDTH, 4.4)
        axes = fig.subplot_mosaic([["loss", "moved"], ["words", "words"]], height_ratios=[1.5, 1.0])
        axes["loss"].plot(found.losses["step"], found.losses["loss"], color=BASE[0], marker="o")
        axes["loss"].set(title="(a) loss", xlabel="training step", ylabel="nats per answer token", ylim=(0, None))
        draw_moved(axes["moved"], found.moved)
        draw_sentence(axes["words"], found)
        note_below(fig, found.note("A line in (b) is one router; a color in (c) is one expert."))
    return fig


def draw_moved(ax: Axes, moved: pd.DataFrame) -> None:
    """One line per router: the color is the layer, the dash the projection."""
    layers = list(dict.fromkeys(map(layer_of, moved["module"])))
    kinds = list(dict.fromkeys(module.rpartition(".")[2] for module in moved["module"]))
    for module, rows in moved.groupby("module", sort=False):
        layer, kind = layer_of(str(module)), str(module).rpartition(".")[2]
        color, dash = PALETTE[layers.index(layer) % len(PALETTE)], DASHES[kinds.index(kind) % len(DASHES)]
        ax.plot(rows["step"], rows["distance"], dash, color=color, label=f"{layer} {kind}")
    ax.set(
        title="(b) how far each router moved", xlabel="training step", ylabel="distance from its start", ylim=(0, None)
    )
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=1 + (moved["module"].nunique() > 12))


def draw_sentence(ax: Axes, found: FirstSteps) -> None:
    """Two rows of cells, one cell per token, in the color of its expert."""
    table = found.sentence
    for row, when in enumerate((BEFORE, AFTER)):
        for position, expert in enumerate(table[when]):
            color = PALETTE[int(expert) % len(PALETTE)]
            ax.add_patch(Rectangle((position - 0.46, row - 0.42), 0.92, 0.84, color=color, linewidth=0))
            if len(table) <= MOST_NUMBERED:
                ax.text(position, row, str(expert), ha="center", va="center", color=text_on(color))
    for position in table.reset_index(drop=True).query("changed").index:
        ax.add_patch(Rectangle((position - 0.5, 0.53), 1.0, 0.94, fill=False, edgecolor="black", linewidth=1.2))
    ax.set(title=f"(c) the expert of each token in {found.module}", xlim=(-0.6, len(table) - 0.4), ylim=(1.6, -0.6))
    ax.set_yticks([0, 1], ["before", "after"])
    ax.set_xticks(range(len(table)), table["token"], rotation=45, ha="right")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def interactive(found: FirstSteps) -> go.Figure:
    """The experts of the sentence in any router; hover shows the size of their gates."""
    modules = [found.module, *(name for name in dict.fromkeys(found.words["module"]) if name != found.module)]
    tokens = len(found.sentence)
    fig = go.Figure([cells(found.words, module, module == found.module) for module in modules])
    names = [f"{place} {token}" for place, token in enumerate(found.sentence["token"])]
    fig.update_xaxes(tickmode="array", tickvals=list(range(tokens)), ticktext=names, showgrid=False)
    fig.update_yaxes(autorange="reversed", showgrid=False)
    menu = menu_of("Router", {module: [{"visible": [module == one for one in modules]}] for module in modules})
    return arranged(
        fig,
        title="The expert of each token, before and after training",
        height=320,
        updatemenus=[menu],
        meta=width_for(28 * tokens),
    )


def cells(words: pd.DataFrame, module: str, visible: bool) -> go.Scatter:
    """One square per token and time, in the color of its expert."""
    own = words[words["module"] == module]
    return go.Scatter(
        x=own["position"],
        y=own["when"],
        mode="markers+text",
        marker={"symbol": "square", "size": 24, "color": [PALETTE[expert % len(PALETTE)] for expert in own["expert"]]},
        text=own["expert"].astype(str),
        customdata=own[["token", "gate"]].to_numpy(),
        hovertemplate="%{customdata[0]}, %{y}<br>expert %{text}, gate %{customdata[1]:.2f}<extra></extra>",
        visible=visible,
        showlegend=False,
    )
