"""Is S'MoRE more accurate at equal budget, do more layers help, and what does a step cost? S'MoRE Fig. 4, Tables 2, 5, 7."""

from __future__ import annotations

from .measure import BudgetCurves, MoreLayers, StepTimes, measure, measure_layers, measure_table, measure_times
from .pretrained import PretrainedBudgets, PretrainedLayers, measure_pretrained, measure_pretrained_layers

__all__ = [
    "BudgetCurves",
    "MoreLayers",
    "PretrainedBudgets",
    "PretrainedLayers",
    "StepTimes",
    "measure",
    "measure_layers",
    "measure_pretrained",
    "measure_pretrained_layers",
    "measure_table",
    "measure_times",
]
