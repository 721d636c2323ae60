"""Tokens and gates that are made up, so that what they must tell is known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd

MODULES = ("layers.0.self_attn.q_proj", "layers.0.self_attn.v_proj", "layers.1.self_attn.q_proj")


def named_run(seed: int = 0, method: str = "LoRA-MoE", num_experts: int | list[int] = 4) -> SimpleNamespace:
    adapter = SimpleNamespace(num_experts=num_experts)
    return SimpleNamespace(config=SimpleNamespace(name=method, seed=seed, system="moelora", adapter=adapter))


def tokens_of(texts: int = 24, lengths: tuple[int, ...] = (6, 8, 10), datasets: str = "abc") -> pd.DataFrame:
    """Tokens of texts whose lengths and data sets take turns; as recorded, the shortest texts come first."""
    rows = sorted(range(texts), key=lambda row: lengths[row % len(lengths)])
    frames = [
        pd.DataFrame(
            {
                "row": row,
                "position": np.arange(lengths[row % len(lengths)]),
                "dataset": datasets[row // 2 % len(datasets)],
            }
        )
        for row in rows
    ]
    return pd.concat(frames, ignore_index=True)


def one_hot(codes: np.ndarray, experts: int) -> np.ndarray:
    return np.eye(experts)[codes]


def soft(generator: np.random.Generator, tokens: int, experts: int) -> np.ndarray:
    return generator.dirichlet(np.full(experts, 0.5), tokens)
