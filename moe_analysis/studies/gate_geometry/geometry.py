"""Fig. 1 of "A Stronger Mixture of Low-Rank Experts" (gR) recomputed on a real layer.

How far one step moves an expert's part of the full matrix, how much the manifold of g·s·BA bends there, and a picture
of both in one plane, each as a function of the gate g. A layer is given as the trained `MoeLora` with its inputs
(tokens, in) and the loss gradients at its output (tokens, out) on a batch, as `training.recorders.routing` collects
them. Its routing is replaced by gates that are the same for every token, because only then is an expert's update one
matrix.
All norms are Frobenius norms in the units of the layer's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from ...adapters import MoeLora
from ...theory.fixed_rank import RankPoint, unit
from ...theory.gated_step import RULES, HeldGates, full_matrix_change, predicted_change

GATES = tuple(np.geomspace(0.02, 1.0, 9))
STEP = 5e-3  # of the smallest g·σ_r: differences keep four digits; one step for all gates adds no power of g


def over_layers(measure: Callable[..., pd.DataFrame], layers: Mapping[str, Any], **options: Any) -> pd.DataFrame:
    """`first_order_change` or `curvature` of several layers, {module: LayerBatch}, with module as the first column.

    >>> found = over_layers(first_order_change, layers, gates=(0.1, 0.3))
    >>> found.columns[0], found["module"].nunique()
    ('module', 2)
    """
    frames = [measure(layer.adapter, layer.inputs, layer.gradient, **options) for layer in layers.values()]
    return pd.concat(frames, keys=list(layers), names=["module"]).reset_index("module").reset_index(drop=True)


def first_order_change(layer: MoeLora, inputs: Any, gradient: Any, gates: Sequence[float] = GATES) -> pd.DataFrame:
    """The effect of one Riemannian step on g·s·BA, for every expert, rule and gate.

    Columns expert, rule (those of `theory.gated_step.RULES`), g, change (norm of the change divided by lr), predicted
    (s² g^expected ‖Γ P_A + P_B Γ‖, without damping), slope (fitted exponent of g), expected. Every gate has a real
    forward and backward pass and a step of the real optimizer, with the same gradient at the output.

    >>> found = first_order_change(layer.adapter, layer.inputs, layer.gradient, gates=(0.1, 0.3, 0.9))
    >>> found.groupby("rule", sort=False)[["slope", "expected"]].mean().round(2)
                  slope  expected
    rule
    plain           2.0       2.0
    rescaled        1.5       1.5
    p = 0           1.0       1.0
    exact remedy    1.0       1.0
    """
    x, upstream = (torch.as_tensor(values).double() for values in (inputs, gradient))
    rows, experts = [], layer.config.num_experts
    size = predicted_change(HeldGates(layer, torch.ones(experts)), x, upstream).numpy()
    for name, rule in RULES.items():
        for gate in gates:
            held = HeldGates(layer, torch.full((experts,), float(gate)))
            change = full_matrix_change(held, x, upstream, name).numpy()
            rows += [
                (expert, name, gate, change[expert], size[expert] * gate**rule.exponent, rule.exponent)
                for expert in range(experts)
            ]
    frame = pd.DataFrame(rows, columns=["expert", "rule", "g", "change", "predicted", "expected"])
    return with_slopes(frame, ["expert", "rule"], "change")


def curvature(
    layer: MoeLora,
    inputs: Any,
    gradient: Any,
    gates: Sequence[float] = GATES,
    directions: int = 3,
    experts: Sequence[int] | None = None,
) -> pd.DataFrame:
    """How much the manifold of matrices of rank r bends at W = g·s·BA, for every expert, direction and gate.

    Columns expert, direction ("descent": the loss gradient's tangent part; "random 1", …), g, measured (finite
    differences of the truncated SVD), closed_form (2‖P⊥ ξ W⁺ ξ Q⊥‖), largest (1/σ_r(W), over all unit tangents), slope
    (fitted exponent of g), expected (−1). In 1 / units of the weights. experts: None takes all. Raises ValueError for
    an expert without a manifold of rank r, such as one whose B is still zero.

    >>> found = curvature(layer.adapter, layer.inputs, layer.gradient, gates=(0.1, 0.3), directions=1)
    >>> round(float(found["slope"].mean()), 2), found["expected"].unique().tolist()
    (-1.0, [-1.0])
    """
    rng, rows, descent = np.random.default_rng(0), [], full_gradient(layer, inputs, gradient)
    with threadpool_limits(1):  # for such small matrices, several threads of BLAS only wait for each other
        for expert in range(layer.config.num_experts) if experts is None else experts:
            points = [rank_point(layer, expert, gate) for gate in gates]
            fields = {"descent": descent}
            fields |= {f"random {n}": rng.standard_normal(descent.shape) for n in range(1, directions + 1)}
            step = STEP * min(point.sigma[-1] for point in points)
            for name, field in fields.items():
                xi = unit(points[0].tangent(field))
                rows += [
                    (
                        expert,
                        name,
                        gate,
                        point.measured_curvature(xi, step),
                        np.linalg.norm(point.bend(xi)),
                        1 / point.sigma[-1],
                        -1.0,
                    )
                    for gate, point in zip(gates, points)
                ]
    columns = ["expert", "direction", "g", "measured", "closed_form", "largest", "expected"]
    return with_slopes(pd.DataFrame(rows, columns=columns), ["expert", "direction"], "measured")


def with_slopes(frame: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """The frame with a column slope: the exponent of g in `column`, by least squares on logarithms in each group."""
    logs = frame.assign(x=np.log(frame["g"]), y=np.log(frame[column]))
    centered = logs[["x", "y"]] - logs.groupby(keys)[["x", "y"]].transform("mean")
    sums = (
        centered.assign(xy=centered["x"] * centered["y"], xx=centered["x"] ** 2)
        .groupby([frame[key] for key in keys])[["xy", "xx"]]
        .transform("sum")
    )
    return frame.assign(slope=sums["xy"] / sums["xx"])


def full_gradient(layer: MoeLora, inputs: Any, gradient: Any) -> np.ndarray:
    """∂L/∂W of a full matrix that replaces the layer, Γ (out, in), from its inputs and output gradients."""
    inputs, gradient = np.asarray(inputs, float), np.asarray(gradient, float)
    if inputs.shape != (len(gradient), layer.in_features) or gradient.shape[1] != layer.out_features:
        raise ValueError(
            f"inputs {inputs.shape} and gradient {gradient.shape} do not fit a layer from "
            f"{layer.in_features} to {layer.out_features} features; pass (tokens, in) and (tokens, out)"
        )
    return gradient.T @ inputs


def rank_point(layer: MoeLora, expert: int, gate: float) -> RankPoint:
    """g·s·B_i A_i as a point of its manifold; ValueError for an expert that has none."""
    A, B = (factor[expert].detach().double().cpu().numpy() for factor in (layer.A, layer.B))
    try:
        return RankPoint.from_factors(A, B, gate * layer.scaling)
    except ValueError as error:
        raise ValueError(f"expert {expert}: {error}") from error


@dataclass(frozen=True)
class LocalPicture:
    """The geometric panel of Fig. 1 at one expert, along the tangent ξ of descent; units of the weights.

    curves: columns g, t, tangent, off, bend, curvature; the curve t ↦ P(gW + tξ) relative to gW. steps: columns part, g,
    tangent, off, bend, length, gap; "full step" −lr·Γ, its "projection" onto the tangent space, and per gate the
    "landing" P(gW + projection), whose gap is its distance from the projected step over that step's length.
    tangent: component along ξ. off: distance from the line along ξ, below zero where the component along II(ξ, ξ),
    which is `bend`, is negative: the space is unrolled around ξ, so that lengths stay true and angles around ξ do not.
    cosine: between the step's normal part and II(ξ, ξ). The tangent space is the same for every gate.
    """

    expert: int
    lr: float
    curves: pd.DataFrame
    steps: pd.DataFrame
    cosine: float


def local_picture(
    layer: MoeLora,
    inputs: Any,
    gradient: Any,
    expert: int = 0,
    gates: Sequence[float] = (0.1, 0.4),
    points: int = 81,
    reach: float = 0.8,
) -> LocalPicture:
    """The geometry of one step on the manifolds of several gates.

    lr is chosen for the drawing: the length of the projected step is `reach` radii of curvature of the smallest gate.
    Curves extend to 1.2 radii on both sides.

    >>> picture = local_picture(layer.adapter, layer.inputs, layer.gradient, points=21)
    >>> sorted(picture.curves["g"].unique().tolist())
    [0.1, 0.4]
    """
    at = {gate: rank_point(layer, expert, gate) for gate in sorted(gates)}
    sharpest, descent = at[min(gates)], -full_gradient(layer, inputs, gradient)
    tangent, normal = sharpest.tangent(descent), sharpest.normal(descent)
    xi, bend = unit(tangent), sharpest.bend(unit(tangent))
    radius, across = 1 / float(np.linalg.norm(bend)), unit(bend)
    lr = reach * radius / float(np.linalg.norm(tangent))

    def place(X: np.ndarray) -> tuple[float, float, float]:
        along, up = float((X * xi).sum()), float((X * across).sum())
        return along, float(np.copysign(np.linalg.norm(X - along * xi), up)), up

    lines, steps = [], []
    for part, move in (("full step", lr * descent), ("projection", lr * tangent)):
        steps.append((part, np.nan, *place(move), float(np.linalg.norm(move)), np.nan))
    for gate, point in at.items():
        for t in np.linspace(-1.2, 1.2, points) * radius:
            lines.append((gate, t, *place(point.nearest(t * xi) - point.matrix), np.linalg.norm(point.bend(xi))))
        landing = point.nearest(lr * tangent) - point.matrix
        gap = np.linalg.norm(landing - lr * tangent) / np.linalg.norm(lr * tangent)
        steps.append(("landing", gate, *place(landing), float(np.linalg.norm(landing)), float(gap)))
    columns = ["tangent", "off", "bend"]
    return LocalPicture(
        expert,
        lr,
        pd.DataFrame(lines, columns=["g", "t", *columns, "curvature"]),
        pd.DataFrame(steps, columns=["part", "g", *columns, "length", "gap"]),
        cosine=float((unit(normal) * across).sum()),
    )
