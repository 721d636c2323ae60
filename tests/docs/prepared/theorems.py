"""What notebook 03 hands from cell to cell without a trained model: T-REX's lemma and theorems at small sizes."""

from __future__ import annotations

import pandas as pd

from moe_analysis.studies.subspace import theorems as trex_theorems
from moe_analysis.theory.router_noise import router_gradient_noise

from .registry import prepared


@prepared
def approximation() -> pd.DataFrame:
    """`approximation_frame` of a small budget, two experts and one seed."""
    return trex_theorems.approximation_frame(parameters=144, num_experts=2, seeds=(0,))


@prepared
def noise() -> pd.DataFrame:
    """`router_gradient_noise` of three seeds at the start and after two steps."""
    return router_gradient_noise((0, 1, 2), steps=(0, 2), samples=16)
