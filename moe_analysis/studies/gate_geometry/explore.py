"""The exponent p of the gate in the backward pass, and its effect on one step of an expert (gR Fig. 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from ...cards.in_words import percent
from ...drawing.explorer import Explorer, View, choice, decimal, stops
from ...drawing.style import FULL_WIDTH, figure, use_style
from ...theory.gated_step import RULES, HeldGates, Rule, full_matrix_change
from .draw import draw_changes, draw_picture, relative_change
from .geometry import LocalPicture, local_picture, with_slopes
from .measure import GateGeometry

REACH = 0.8  # length of the drawn step at g = 1, in radii of curvature
POINTS = 41  # of the drawn manifold
USUAL_GATE = 0.1
CHOSEN = {
    "color": "#1A1A1A",
    "marker": "X",
    "markersize": 5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
    "linewidth": 1.6,
    "zorder": 6,
}


def widget(found: GateGeometry, power: float = 0.5, gate: float | None = None, expert: int = 0) -> Explorer:
    """A slider for the exponent p, one for the gate g, a list of layers, and the effect of one step.

    `power` and `gate` are the first values; the gates are those of `found.changes` (None: the one nearest to 0.1).
    `expert` is the one whose manifold is drawn. An exponent that is not in the table is measured when it is chosen, by
    a real backward pass and a real step at every gate.
    Raises ValueError for an exponent outside 0 … 1, for gates and layers that are not in the table, and for an expert
    that is still zero.
    """
    layers, changes = found.layers, found.changes
    if missing := sorted(set(layers) - set(changes["module"])):
        raise ValueError(f"changes has no rows of {', '.join(missing)}; pass over_layers(first_order_change, layers)")
    gates = sorted(float(value) for value in changes["g"].unique())
    start = min(gates, key=lambda value: abs(value - USUAL_GATE)) if gate is None else gate

    def draw(power: float, gate: float, module: str) -> View:
        layer: Any = layers[module]
        table = changes[changes["module"] == module]
        own = changes_at(layer, table, round(power, 4))
        readable = float(f"{gate:.2g}")  # the drawing's legend shows it
        picture = local_picture(
            layer.adapter, layer.inputs, layer.gradient, expert, [readable], POINTS, REACH * gate**power
        )
        alt = (
            f"Left, the manifold of expert {expert} of {module} at the gate {gate:.2g} with the step that p = "
            f"{power:g} makes. Right, the change by one step against the gate for p = {power:g} and the paper's "
            "rules, both axes logarithmic."
        )
        return View(exponent_figure(picture, table, own, power, gate), alt, exponent_note(picture, own, power, gate))

    controls = {
        "power": decimal(
            "power",
            "Exponent p",
            power,
            0.0,
            1.0,
            0.05,
            "The backward pass scales an expert's gradient by g to this power; 1 is plain, 0.5 is the paper's",
        ),
        "gate": stops("gate", "Gate g", start, gates, "The expert's weight in the mixture"),
        "module": choice("module", "Layer", list(layers)[-1], list(layers), "The trained layer that takes the step"),
    }
    return Explorer(controls, draw)


def changes_at(layer: Any, changes: pd.DataFrame, power: float) -> pd.DataFrame:
    """Rows of `first_order_change` for any exponent: expert, rule, g, change, predicted, expected, slope.

    changes: that table for this layer; if it has the exponent, its rows are returned, else the steps are computed.
    """
    for name, rule in RULES.items():
        if rule == Rule(power):
            return changes[changes["rule"] == name]
    x, upstream = (torch.as_tensor(values).double() for values in (layer.inputs, layer.gradient))
    plain, exponent = changes[changes["rule"] == "plain"], Rule(power).exponent
    frames = []
    for gate in sorted(plain["g"].unique()):
        rows, held = plain[plain["g"] == gate], held_gates(layer.adapter, float(gate), power)
        change = full_matrix_change(held, x, upstream, "plain").numpy()
        size = rows["predicted"] / rows["g"] ** rows["expected"]
        frames.append(
            rows.assign(
                rule=f"p = {power:g}",
                change=change[rows["expert"]],
                expected=exponent,
                predicted=size * rows["g"] ** exponent,
            )
        )
    return with_slopes(pd.concat(frames).drop(columns="slope"), ["expert"], "change")


def held_gates(layer: Any, gate: float, power: float) -> Any:
    """A copy of a MoeLora that gives every expert this gate, and whose backward pass always has this exponent.

    A measured step sets the exponent of a named rule; the hook replaces it by ours before every forward pass.
    """
    held = HeldGates(layer, torch.full((layer.config.num_experts,), gate))
    held.register_forward_pre_hook(lambda module, _: setattr(module.config, "gate_backward_power", power))
    return held


def exponent_figure(
    picture: LocalPicture, changes: pd.DataFrame, own: pd.DataFrame, power: float, gate: float
) -> Figure:
    """The step on the manifold of one gate, and the change by one step for the paper's rules and for `own`."""
    with use_style():
        drawing = figure(FULL_WIDTH, 3.7)
        left, right = np.ravel(drawing.subplots(1, 2, width_ratios=[1.25, 1]))
        draw_picture(left, picture)
        left.set_title(f"(a) one step at g = {gate:.2g}, p = {power:g}")
        draw_changes(right, changes)
        mean = relative_change(own)
        right.axvline(gate, color="0.6", linewidth=0.8, linestyle=(0, (4, 3)))
        right.plot(mean.index, mean, **CHOSEN, label=f"your p = {power:g}: $g^{{{own['slope'].mean():z.2f}}}$")
        right.set_title("(b) change by one step")
        right.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, handletextpad=0.3, columnspacing=1)
    return drawing


def exponent_note(picture: LocalPicture, own: pd.DataFrame, power: float, gate: float) -> str:
    """The effect of a step at this gate, measured and predicted, and how far from the manifold it ends."""
    gap = picture.steps.loc[picture.steps["part"] == "landing", "gap"].iloc[0]
    change, top = relative_change(own), own["g"].max()
    return "\n".join(
        [
            f"p = {power:g}, g = {gate:.2g}: one step moves the expert's matrix {change[gate] / change[top]:.3g} times as "
            f"far as at g = {top:.2g}; predicted {(gate / top) ** (1 + power):.3g}, in proportion to g^(1 + p). Fitted "
            f"exponent {own['slope'].mean():z.3f}.",
            f"The radius of curvature of the manifold is proportional to g, so the length of the step is {REACH:g}·g^p = "
            f"{REACH * gate**power:.3g} of these radii (drawn with {REACH:g} at g = 1), and it lands {percent(gap, 1)} of its "
            "length away from its tip.",
        ]
    )
