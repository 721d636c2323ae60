"""How evenly a router loads its experts, by gate mass and by largest gates; the entropy of one token does not show it.

In: recordings as in `specialization`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ..records import layer_of, normalized_entropy, run_key
from .specialization import Recorded, largest, split_routers

STARVED = 0.1  # of the even share
SAME_GATES = 1e-6  # largest difference of two gates that are equal up to rounding


def distinct_experts(gates: np.ndarray) -> np.ndarray:
    """Gates (T, E) -> (T, distinct): experts that have equal gates at every token count as one, with their sum.

    Routing does not distinguish such experts. The combined expert has the place of the first of them.
    """
    left, groups = np.arange(gates.shape[1]), []
    while left.size:
        same = (np.abs(gates[:, left] - gates[:, left[:1]]) <= SAME_GATES).all(0)
        groups.append(gates[:, left[same]].sum(1))
        left = left[~same]
    return np.stack(groups, axis=1)


def expert_loads(recorded: Iterable[Recorded], method: str | None = None) -> pd.DataFrame:
    """One row per (method, seed, module, expert): mass, top1, rank, tokens.

    mass: share of all gate mass. top1: share of tokens for which it has the largest gate; ties are shared evenly. rank:
    by mass, 1 for the busiest. tokens: their number.

    >>> loads = expert_loads(recorded)
    >>> one = loads[loads["module"] == module].query("method == 'LoRA-MoE' and seed == 0")
    >>> one["rank"].sort_values().tolist(), round(float(one["mass"].sum()), 6)
    ([1, 2, 3, 4], 1.0)
    """
    frames = []
    for run, by_module, tokens in recorded:
        for module, gates in split_routers(run, by_module).items():
            experts = gates.shape[1]
            mass = gates.sum(0) / gates.sum()
            frames.append(
                pd.DataFrame(
                    {
                        **run_key(run, method),
                        "module": module,
                        "layer": layer_of(module),
                        "expert": np.arange(experts),
                        "mass": mass,
                        "top1": largest(gates).mean(0),
                        "rank": (-mass).argsort(kind="stable").argsort() + 1,
                        "tokens": len(tokens),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def load_summary(recorded: Iterable[Recorded], method: str | None = None) -> pd.DataFrame:
    """One row per (method, seed, module): how evenly its experts are loaded, and how evenly a token spreads its gates.

    token_entropy: normalized entropy of a token's gates, mean over tokens with gates. For the loads "mass" and "top1",
    as in `expert_loads`: …_balance (normalized entropy, 1 if even), …_variation (standard deviation / mean), …_peak
    (largest / mean). never_top: experts that no token has as its largest. starved: experts with less than a tenth of
    the even share of mass. dead: one or the other. distinct: experts with their own gates (`distinct_experts`). These
    four are shares of `experts`, the number of experts.
    Entropy is concave, so mass_balance is at least token_entropy: even gates imply an even mass. But they say nothing
    about top1_balance, because all tokens can have the same largest gate by a tiny margin. Uneven gates say nothing
    about either. A single expert has no entropy: NaN.

    >>> summary = load_summary(recorded)
    >>> summary.groupby("method", sort=False)["experts"].first().to_dict()
    {'LoRA-MoE': 4, 'mix-and-match': 8, 'T-REX': 8}
    """
    recorded, rows = list(recorded), []
    loads = expert_loads(recorded, method).set_index(["method", "seed", "module"]).sort_index()
    for run, by_module, _ in recorded:
        for module, gates in split_routers(run, by_module).items():
            keys = {**run_key(run, method), "module": module}
            own = loads.loc[[tuple(keys.values())]]
            row: dict[str, Any] = {**keys, "layer": layer_of(module), "experts": len(own)}
            row["token_entropy"] = normalized_entropy(gates[gates.sum(1) > 0]).mean()
            for name in ("mass", "top1"):
                load = own[name].to_numpy()
                row |= {
                    f"{name}_balance": float(normalized_entropy(load)),
                    f"{name}_peak": load.max() / load.mean(),
                    f"{name}_variation": load.std() / load.mean(),
                }
            never, starved = own["top1"] == 0, own["mass"] < STARVED / len(own)
            row["distinct"] = distinct_experts(gates).shape[1] / len(own)
            rows.append({**row, "never_top": never.mean(), "starved": starved.mean(), "dead": (never | starved).mean()})
    return pd.DataFrame(rows)
