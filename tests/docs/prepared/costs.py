"""What notebooks 06 and 08 hand from cell to cell: costs of layers, and made-up times of a step."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moe_analysis import comparison
from moe_analysis.studies.cost import counting

from .registry import prepared

LAYER_SHAPES = [(128, 128)] * 4


@prepared
def shapes() -> list[tuple[int, int]]:
    """Four linear layers of 128 by 128, as (in_features, out_features)."""
    return LAYER_SHAPES


@prepared
def overheads() -> pd.DataFrame:
    """`overhead_table`: Tables 1 and 6 of S'MoRE."""
    return counting.overhead_table()


@prepared
def named() -> pd.DataFrame:
    """`router_shares` of the structures of Tables 1 and 6."""
    return counting.router_shares(counting.named_structures())


@prepared
def protocol() -> pd.DataFrame:
    """`router_shares` of the paper's protocol, with ranks 2 and 4 at the bottom."""
    return counting.router_shares(counting.protocol_structures(2))


@prepared
def two_systems() -> dict[str, Any]:
    """MixLoRA and S'MoRE, each with nearly as many parameters as LoRA of rank 20 on the compact decoder."""
    return {label: comparison.fitted(label, comparison.lora_budget()) for label in ("MixLoRA", "S'MoRE")}
