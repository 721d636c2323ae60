"""Small S'MoRE layers of random parameters."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st

from moe_analysis.adapters import Smore, SmoreConfig
from moe_analysis.theory import smore_families

FEW = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 10_000)
SIZES = st.sampled_from(
    [([4], [2]), ([3, 4], [2, 1]), ([4, 3], [1, 2]), ([3, 3, 2], [2, 2, 1]), ([2, 3, 3], [1, 1, 2])]
)
POSITIONS = st.sampled_from(["all", "child", "child_scored"])


def small(s: list[int], f: list[int], **options) -> SmoreConfig:
    return SmoreConfig(num_experts=s, fanout=f, **{"r": 2, "down_dim": 2, "key_dim": 2, **options})


def random_smore(seed: int, s: list[int], f: list[int], **options) -> tuple[Smore, torch.Tensor]:
    layer = smore_families.randomized(Smore(5, 3, small(s, f, **options)), seed)
    return layer, torch.randn(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
