"""The rule of comparisons that are not studies yet."""

from __future__ import annotations

import numpy as np

from .intervals import MIN_SEEDS


def verdict_of(high: float, seeds: int) -> str:
    """ "reproduced" when the 95 % interval of the difference paired by seed lies below zero, "not reproduced" otherwise;
    fewer than three seeds, or one that diverged, decide nothing."""
    if seeds < MIN_SEEDS or not np.isfinite(high):
        return "not testable at this scale"
    return "reproduced" if high < 0 else "not reproduced"
