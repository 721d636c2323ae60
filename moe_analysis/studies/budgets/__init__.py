"""Is S'MoRE more accurate at equal budget, do more layers help, and what does a step cost? S'MoRE Fig. 4, Tables 2, 5, 7."""

from __future__ import annotations

from .measure import BudgetCurves, MoreLayers, StepTimes, measure, measure_layers, measure_table, measure_times

__all__ = [
    "BudgetCurves",
    "MoreLayers",
    "StepTimes",
    "measure",
    "measure_layers",
    "measure_table",
    "measure_times",
]
