"""T-REX's routing without the prior that its intuition adds: what the router itself has learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def router_alone(adapters: Mapping[str, Any], gates: Mapping[str, Any], scores: Any) -> dict[str, np.ndarray]:
    """Recorded routings of T-REX layers without the prior's share: {module: ω · router_coef · softmax}, float32.

    The hidden states are still those of the full model; only the routing is split.

    Args:
        adapters: {module: TRex}.
        gates: {module: (tokens, I·J)}.
        scores: (tokens, clusters), the intuition scores with which each token was routed.

    Raises:
        ValueError: if scores and gates have different numbers of tokens.

    Example:
        >>> run, by_module, tokens = recorded[-1]
        >>> alone = router_alone(adapters[-1][1], by_module, run.intuition(test)[tokens["row"]])
        >>> alone[module].shape == by_module[module].shape
        True
    """
    scores, parts = torch.as_tensor(np.asarray(scores), dtype=torch.float32), {}
    for module, values in gates.items():
        if len(values) != len(scores):
            raise ValueError(f"scores has {len(scores)} rows but {module} has {len(values)} tokens; pass one per token")
        with torch.no_grad():
            layer = adapters[module]
            mapped = layer.mapper(scores) if hasattr(layer, "mapper") else scores
            prior = (1 - layer.omega) * layer.config.intuition_coef * mapped  # (tokens, I*J)
        parts[module] = np.asarray(values, dtype=np.float32) - prior.numpy()
    return parts
