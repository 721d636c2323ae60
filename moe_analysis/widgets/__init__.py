"""Figures with knobs for notebooks: what a slider changes is computed by `analysis` and drawn by `plots`.

Each function takes what a notebook has computed already and returns an ipywidgets box; nothing is computed before a
knob is moved.
"""

from __future__ import annotations

from ..drawing.explorer import Explorer, View
from ..studies.flexibility.explore import flexibility_widget
from ..studies.router_paths.explore import trajectory_widget
from .clusters import cluster_widget
from .gate_geometry import exponent_widget
from .subspace import rank_widget

__all__ = [
    "Explorer",
    "View",
    "cluster_widget",
    "flexibility_widget",
    "rank_widget",
    "trajectory_widget",
]
