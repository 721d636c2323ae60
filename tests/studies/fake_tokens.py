"""A text whose gates are made up, so that what is drawn of it is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moe_analysis.studies.routing import RoutedTokens
from moe_analysis.studies.routing.measure_tokens import RoutedBy


def routed(gates: Any, text: str = "abc") -> RoutedTokens:
    """A text, a token a letter, through layers with these gates (layer, token, expert)."""
    places = range(len(text))
    frame = pd.DataFrame({"row": 0, "position": places, "token_id": places, "space": "", "piece": list(text)})
    routers = {
        f"layers.{layer}.gate": RoutedBy(f"layers.{layer}", "gate", f"layers.{layer}.gate", np.array(own))
        for layer, own in enumerate(gates)
    }
    return RoutedTokens((text,), frame, routers, {}, "made", lambda texts: routed(gates, text), sample="made up")
