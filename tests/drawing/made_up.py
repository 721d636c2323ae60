"""Made-up measurements that the pages of several studies draw."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

from moe_analysis.drawing.style import luminance

FORMS = [form.format(name) for name in ("SGD", "AdamW") for form in ("{}", "R{}", "g{}", "gR{}")]
MODULES = [f"layers.{layer}.mlp.{target}_proj" for layer in range(3) for target in ("gate", "up", "down")]
DATASETS = ["who_has_most_mirror", "review_mood_sarcastic", "both_or_either_swapped", "add_small"]


def contrast(color: str, ground: str) -> float:
    darker, lighter = sorted([luminance(color), luminance(ground)])
    return (lighter + 0.05) / (darker + 0.05)


def curves() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"measure": measure, "method": method, "seed": seed, "step": step, "value": 1 / (1 + step)}
            for measure in ("train loss", "eval loss")
            for method in FORMS
            for seed in (0, 1)
            for step in range(12)
        ]
    )


def shares(held: int, used: int) -> pd.DataFrame:
    """`expert_shares` of one router whose last experts never get a token."""
    load = np.where(np.arange(held) < used, 1 / used, 0.0)
    return pd.DataFrame(
        [
            {
                "method": "S'MoRE",
                "seed": 0,
                "module": f"{MODULES[0]} pool 0",
                "label": label,
                "expert": expert,
                "share": load[expert],
                "load": load[expert],
                "log_lift": 0.1 * expert * len(label) - 1 if load[expert] else np.nan,
            }
            for label in DATASETS
            for expert in range(held)
        ]
    )


def tree(fanout: int, layers: int, experts: int) -> pd.DataFrame:
    """A residual tree in which every expert's number occurs; the root has layer `layers`."""
    rows = [{"node": 0, "parent": -1, "layer": layers, "expert": -1}]
    for node in range((fanout**layers - 1) // (fanout - 1)):
        for _ in range(fanout):
            rows.append(
                {"node": len(rows), "parent": node, "layer": rows[node]["layer"] - 1, "expert": len(rows) % experts}
            )
    numbers = {"position": 0, "score": 0.5, "path_score": 0.25, "similarity": 0.1, "contribution": 1.0, "share": 0.3}
    return pd.DataFrame(rows).assign(**numbers)


def example() -> SimpleNamespace:
    """What `smore_fig1` draws."""
    return SimpleNamespace(tree=tree(2, 2, 4), num_experts=[4, 4])


def token(fanout: int, layers: int, experts: int) -> SimpleNamespace:
    """What `smore_tree` draws, of one token."""
    shown = tree(fanout, layers, experts).assign(token=0, word="mouse", seed=0)
    return SimpleNamespace(shown=shown, trees=shown, place="a prompt")


def structures() -> pd.DataFrame:
    rows = [
        {
            "method": "S'MoRE",
            "module": module,
            "measure": measure,
            "step": step,
            "mean": 0.1 * step,
            "low": 0.4,
            "high": 0.6,
        }
        for module in MODULES
        for measure in ("normalized_entropy", "differing_siblings")
        for step in range(5)
    ]
    return pd.DataFrame(rows)


def by_dataset() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"dataset": dataset, "module": module, "normalized_entropy": 0.7}
            for dataset in DATASETS
            for module in MODULES
        ]
    )
