"""Our hypotheses about whether routers find the same experts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...evidence import Claim
from .agreement import AGREEMENT, pseudo_values
from .claims import about_systems, from_bar
from .measure import RoutingAgreement

SAME = 0.5  # of the way from chance to the same routing
VISIBLE = 0.05  # of the way from chance to the same routing
ENDPOINT = "agreement of largest gates on held-out texts, 0 chance, 1 the same"


def claims(found: RoutingAgreement) -> list[Claim]:
    """The same experts in every seed; more than chance between seeds, and between layers."""
    return [
        about_systems(
            "own_routing_same_experts",
            "routers of different seeds find the same experts",
            ENDPOINT,
            over_pairs(found.seeds, SAME),
            f"agreement - {SAME:g}",
            VISIBLE,
        ),
        about_systems(
            "own_routing_seeds_agree",
            "routers of different seeds agree more than by chance",
            ENDPOINT,
            over_pairs(found.seeds, 0.0),
            "agreement - 0",
            VISIBLE,
        ),
        about_systems(
            "own_routing_layers_agree",
            "routers of different layers agree more than by chance",
            ENDPOINT,
            from_bar(found.layers, AGREEMENT, 0.0),
            "agreement - 0",
            VISIBLE,
        ),
    ]


def over_pairs(frame: pd.DataFrame, bar: float) -> dict[str, np.ndarray]:
    """System -> pseudo-values of the jackknife minus the threshold, one per seed, because pairs share seeds."""
    return {
        str(method): values - bar if len(values := pseudo_values(rows, AGREEMENT)) else np.array([np.nan])
        for method, rows in frame.groupby("method", sort=False)
    }
