"""Fig. 1 of "A Stronger Mixture of Low-Rank Experts" recomputed: the manifolds of two gates, their bending, the steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from plotly.subplots import make_subplots

from ...cards.in_words import percent
from ...drawing.layout import arranged
from ...drawing.marks import points_of
from ...drawing.style import FULL_WIDTH, MARKERS, SYMBOLS, figure, note_below, use_style
from .geometry import LocalPicture
from .measure import GateGeometry

RULE_COLORS = {"plain": "#0072B2", "rescaled": "#D55E00", "p = 0": "#009E73", "exact remedy": "#CC79A7"}
RULE_LABELS = {
    "plain": "plain, p = 1",
    "rescaled": "rescaled, p = 1/2",
    "p = 0": "p = 0",
    "exact remedy": "exact remedy",
}
GATE_COLORS = ("#E69F00", "#56B4E9", "#8A3D68", "#6B6200")
STEP_COLOR, PROJECTION_COLOR = "#3A3A3A", "#009E73"
KINDS = {"descent": ("the layer's descent", "#0072B2"), "random": ("random tangents", "#B0B0B0")}


def plot(found: GateGeometry) -> Figure:
    """The paper figure: one step at two gates, the bending and the change by one step.

    (a) the manifolds of two gates along the tangent of descent, with the full step, its projection and the point where
    the projection lands on each manifold; all distances from the tangent line are true. (b) curvature against the gate:
    dots are measured, lines are the closed form, shades cover all experts. (c) first-order change of an expert's part
    of the full matrix, and the predictions.
    """
    with use_style():
        fig = figure(FULL_WIDTH, 3.9)
        first, second, third = fig.subplots(1, 3, width_ratios=[1.3, 1, 1])
        draw_picture(first, found.picture)
        draw_curvature(second, found.curvature)
        draw_changes(third, found.changes)
        note_below(fig, found.note(reading_of(found)))
    return fig


def reading_of(found: GateGeometry) -> str:
    """The note: which experts and layers are drawn, and what the marks mean."""
    layers, experts = (found.changes[name].nunique() for name in ("module", "expert"))
    return (
        f"(a) Expert {found.picture.expert} of {found.module}. (b, c) {experts} experts of {layers} layers: dots are (b) medians, "
        "shaded from the smallest to the largest, and (c) means; lines are the closed form."
    )


def draw_picture(panel: Any, picture: LocalPicture) -> None:
    """Curves, arrows and landing points in true proportion: one unit has the same length on both axes."""
    for color, (gate, line) in zip(GATE_COLORS, picture.curves.groupby("g")):
        gap = landings(picture).set_index("g")["gap"][gate]
        label = f"g = {gate:g}: it lands {percent(gap)} off"
        panel.plot(line["tangent"], line["off"], color=color, linewidth=1.8, zorder=2, label=label)
    panel.axhline(0, color="0.6", linewidth=0.8, linestyle=(0, (4, 3)), zorder=1, label="tangent space")
    full, projection = (
        picture.steps.set_index("part").loc[part, ["tangent", "off"]].to_numpy(float)
        for part in ("full step", "projection")
    )
    arrow = {"arrowstyle": "-|>", "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
    for tip, color, label in ((full, STEP_COLOR, "full step −lr·Γ"), (projection, PROJECTION_COLOR, "its projection")):
        panel.annotate("", tip, (0, 0), zorder=4, arrowprops={**arrow, "color": color})
        panel.plot([], [], color=color, label=label)
    panel.plot(*np.transpose([full, projection]), color=STEP_COLOR, linewidth=0.8, linestyle=":", zorder=1)
    for color, (_, row) in zip(GATE_COLORS, landings(picture).iterrows()):
        across, up = [projection[0], row["tangent"]], [projection[1], row["off"]]
        panel.plot(across, up, color=color, linewidth=1, linestyle=":", zorder=3)
        panel.plot(row["tangent"], row["off"], "o", color=color, markeredgecolor="black", markersize=5, zorder=5)
    panel.plot(0, 0, "o", color="black", markersize=3.5, zorder=6)
    panel.set_aspect("equal", adjustable="datalim")
    panel.set(xlabel="along the tangent of descent", ylabel="distance from that tangent")
    panel.set_title("(a) one step, two gates")
    panel.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, columnspacing=1, handlelength=1.6)


def landings(picture: LocalPicture) -> pd.DataFrame:
    """The rows of `picture.steps` with the points where the projected step lands, by increasing gate."""
    return picture.steps[picture.steps["part"] == "landing"].sort_values("g")


def draw_curvature(panel: Any, bends: pd.DataFrame) -> None:
    """For descent and for random tangents: the median over experts, shaded from the smallest to the largest."""
    kind = bends["direction"].str.split().str[0]
    for index, (name, (label, color)) in enumerate(KINDS.items()):
        table = bends[kind == name]
        if table.empty:
            continue
        by_gate = table.groupby("g")
        middle, closed = by_gate["measured"].median(), by_gate["closed_form"].median()
        panel.fill_between(
            middle.index, by_gate["measured"].min(), by_gate["measured"].max(), color=color, alpha=0.2, linewidth=0
        )
        panel.plot(closed.index, closed, color=color, linewidth=1)
        panel.plot(middle.index, middle, MARKERS[index], color=color, label=f"{label}: {power(table['slope'])}")
    log_axes(panel, "curvature (1 / weight norm)")
    panel.set_title("(b) bending")
    panel.legend(
        loc="upper center", bbox_to_anchor=(0.45, -0.2), title="median (shaded: all experts)", alignment="left"
    )


def draw_changes(panel: Any, changes: pd.DataFrame) -> None:
    """Dots are measured (means over experts), lines predicted; rings belong to a rule that coincides with another."""
    for index, (rule, rows) in enumerate(changes.groupby("rule", sort=False)):
        color, mean = RULE_COLORS[str(rule)], relative_change(rows)
        panel.plot(mean.index, mean.index ** rows["expected"].iloc[0], color=color, linewidth=1)
        ring = rule == "p = 0"
        panel.plot(
            mean.index,
            mean,
            MARKERS[index],
            color=color,
            markersize=7 if ring else 3.6,
            markerfacecolor="none" if ring else color,
            label=f"{RULE_LABELS[str(rule)]}: {power(rows['slope'])}",
        )
    log_axes(panel, "change of g·s·BA, relative to g = 1")
    panel.set_title("(c) change by one step")
    panel.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), handletextpad=0.2)


def relative_change(changes: pd.DataFrame) -> pd.Series:
    """Change by one step, divided by the closed form at g = 1, mean over experts, by gate."""
    size = changes["predicted"] / changes["g"] ** changes["expected"]
    return (changes["change"] / size).groupby(changes["g"]).mean()


def power(slopes: pd.Series) -> str:
    """The mean exponent as a power of g in mathtext, $g^{1.50}$."""
    return f"$g^{{{slopes.mean():z.2f}}}$".replace("-", "\u2212")


def log_axes(panel: Any, label: str) -> None:
    panel.set(xscale="log", yscale="log", xlabel="gate g", ylabel=label)
    panel.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1.0], ["0.02", "0.05", "0.1", "0.2", "0.5", "1"])
    panel.minorticks_off()
    panel.grid(alpha=0.35)


def interactive(found: GateGeometry) -> go.Figure:
    """The same three panels; every expert's own curve, hover shows measured and predicted."""
    titles = ["one step, two gates", "bending of the manifold", "change by one step"]
    fig = make_subplots(1, 3, column_widths=[0.4, 0.3, 0.3], subplot_titles=titles)
    add_picture(fig, found.picture)
    for index, (name, (label, color)) in enumerate(KINDS.items()):
        table = found.curvature[found.curvature["direction"].str.startswith(name)]
        if len(table):
            add_experts(fig, table, "measured", "closed_form", label, color, SYMBOLS[index], column=2)
    for index, (rule, table) in enumerate(found.changes.groupby("rule", sort=False)):
        label = f"{RULE_LABELS[str(rule)]}, exponent {table['slope'].mean():z.2f}"
        add_experts(fig, table, "change", "predicted", label, RULE_COLORS[str(rule)], SYMBOLS[index], column=3)
    for column, title in ((2, "curvature (1 / weight norm)"), (3, "change of g·s·BA / lr (weight norm)")):
        fig.update_xaxes(type="log", title_text="gate g", row=1, col=column)
        fig.update_yaxes(type="log", title_text=title, exponentformat="power", row=1, col=column)
    fig.update_xaxes(title_text="along the tangent of descent", row=1, col=1)
    fig.update_yaxes(title_text="distance from that tangent", scaleanchor="x", row=1, col=1)
    return arranged(fig, height=600, title={"text": "The geometry of one step at a small gate"})


def add_picture(fig: go.Figure, picture: LocalPicture) -> None:
    for color, (gate, line) in zip(GATE_COLORS, picture.curves.groupby("g")):
        fig.add_scatter(
            **points_of(line, "tangent", "off", ["t", "curvature"]),
            row=1,
            col=1,
            name=f"manifold at g = {gate:g}",
            line={"color": color, "width": 3},
            hovertemplate=f"g = {gate:g}<br>t = %{{customdata[0]:.3g}}<br>"
            "curvature %{customdata[1]:.3g}<extra></extra>",
        )
    fig.add_hline(y=0, line={"color": "gray", "dash": "dash", "width": 1}, row=1, col=1)
    arrows = picture.steps[picture.steps["part"] != "landing"]
    for color, (_, row) in zip((STEP_COLOR, PROJECTION_COLOR), arrows.iterrows()):
        fig.add_scatter(
            x=[0, row["tangent"]],
            y=[0, row["off"]],
            name=row["part"],
            row=1,
            col=1,
            mode="lines+markers",
            line={"color": color},
            marker={"symbol": ["circle", "arrow"], "angleref": "previous", "size": [4, 14]},
            hovertemplate=f"{row['part']}<br>length {row['length']:.3g} at lr = {picture.lr:.3g}<extra></extra>",
        )
    for color, (_, row) in zip(GATE_COLORS, landings(picture).iterrows()):
        fig.add_scatter(
            x=[row["tangent"]],
            y=[row["off"]],
            mode="markers",
            showlegend=False,
            row=1,
            col=1,
            name=f"landing at g = {row['g']:g}",
            marker={"color": color, "size": 11, "line": {"color": "black", "width": 1}},
            hovertemplate=f"the projected step lands here at g = {row['g']:g}<br>{percent(row['gap'], 1)} of its "
            "length off<extra></extra>",
        )


def add_experts(
    fig: go.Figure, table: pd.DataFrame, measured: str, predicted: str, label: str, color: str, symbol: str, column: int
) -> None:
    """One trace per kind or rule: the points of every expert (and direction), with gaps between experts."""
    keys = [key for key in ("module", "expert", "direction") if key in table]
    ordered = table.sort_values([*keys, "g"])
    last = ordered.groupby(keys).tail(1)
    broken = pd.concat([ordered, last.assign(**{measured: np.nan})]).sort_values([*keys, "g"], kind="stable")
    names = broken[keys].astype(str).agg(", ".join, axis=1)
    fig.add_scatter(
        **points_of(broken, "g", measured, [predicted, "slope"]),
        name=label,
        mode="lines+markers",
        opacity=0.7,
        line={"color": color, "width": 1},
        row=1,
        col=column,
        marker={"symbol": symbol, "size": 5},
        text=names,
        hovertemplate=f"{label}<br>expert %{{text}}<br>g = %{{x:.3g}}<br>measured %{{y:.4g}}, closed form "
        "%{customdata[0]:.4g}<br>exponent %{customdata[1]:.3f}<extra></extra>",
    )
