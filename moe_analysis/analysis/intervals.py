"""Means over seeds with their intervals: the names of `evidence.intervals`, where analyses look for them."""

from __future__ import annotations

from ..evidence.intervals import MIN_SEEDS, mean_interval, method_summary, paired_differences, seed_means

__all__ = ["MIN_SEEDS", "mean_interval", "method_summary", "paired_differences", "seed_means"]
