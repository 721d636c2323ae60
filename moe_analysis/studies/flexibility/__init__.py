"""How many outputs can routing produce, and which systems distinguish trees? S'MoRE Figs. 2 and 3."""

from __future__ import annotations

from .measure import Flexibility, ThreeTrees, measure, measure_trees

__all__ = ["Flexibility", "ThreeTrees", "measure", "measure_trees"]
