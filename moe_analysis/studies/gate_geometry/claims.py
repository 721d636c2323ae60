"""What gR's Fig. 1 and its argument for gate rescaling say about the powers of g, and whether it holds.

A power holds if the fitted power of every expert and every direction is within 0.01 of it.
"""

from __future__ import annotations

import pandas as pd

from ...evidence import Claim
from .measure import GateGeometry

TOLERANCE = 0.01
STEP, FIGURE = "gR, gate rescaling", "gR Fig. 1"


def claims(found: GateGeometry) -> list[Claim]:
    """The powers of g in the change by one step under each rule, and in the curvature."""
    rules = {str(rule): rows for rule, rows in found.changes.groupby("rule")}
    remedies = pd.concat([rules["exact remedy"], rules["p = 0"]])
    return [
        power(
            "gr_fig1_plain", STEP, "the plain rule moves an expert's matrix in proportion to g²", 2.0, rules["plain"]
        ),
        power(
            "gr_fig1_stands_in",
            STEP,
            "our reading: √g in the backward pass replaces the division by g and moves it in proportion to g",
            1.0,
            rules["rescaled"],
        ),
        power(
            "gr_fig1_half_way",
            STEP,
            "our reading: √g in the backward pass moves it in proportion to g^(3/2), half of the way to g",
            1.5,
            rules["rescaled"],
        ),
        power(
            "gr_fig1_remedy",
            STEP,
            "dividing by the gate moves it in proportion to g, and so does p = 0 at constant gates",
            1.0,
            remedies,
        ),
        power(
            "gr_fig1_curvature",
            FIGURE,
            "our reading: the manifold of g·BA bends in proportion to 1/g",
            -1.0,
            found.curvature,
        ),
    ]


def power(name: str, source: str, statement: str, expected: float, frame: pd.DataFrame) -> Claim:
    """The claim that every fitted power in the frame is the expected one."""
    keys = [key for key in ("module", "expert", "direction", "rule") if key in frame]
    slopes = frame.drop_duplicates(keys)["slope"]
    residual = float((slopes - expected).abs().max(skipna=False))
    return Claim(name, source, statement, float(slopes.mean()), expected, residual, bool(residual <= TOLERANCE))
