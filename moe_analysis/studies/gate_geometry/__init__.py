"""How does one step move a gated expert, and how strongly does its manifold bend? gR Fig. 1."""

from __future__ import annotations

from .measure import GateGeometry, measure

__all__ = ["GateGeometry", "measure"]
