"""Two methods over tasks and seeds: the names of `evidence.bootstrap`, where analyses look for them."""

from __future__ import annotations

from ..evidence.bootstrap import DRAWS, Comparison, holm, paired_bootstrap, resamples

__all__ = ["DRAWS", "Comparison", "holm", "paired_bootstrap", "resamples"]
