"""Time of a training step relative to MixLoRA: what the counts of operations predict, and comparable sizes.

Source: S'MoRE, Table 7 and section on cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ...theory.method_table import backbone_operations, method_table
from .differences import EQUAL, check_methods

METHOD, REFERENCE = "S'MoRE", "MixLoRA"
LOW, MEAN, HIGH = 1.15, 1.24, 1.33  # S'MoRE's time / MixLoRA's in the paper: smallest, mean, largest
FROZEN_PASSES = 2  # a frozen layer: forward, and backward to its input
TRAINED_PASSES = 3  # an adapter: forward, backward to its input, and to its weights


def operation_ratios(configs: Mapping[str, Any], model: Any) -> pd.DataFrame:
    """Multiply-accumulates of a training step per token, from the formulas of `theory.method_table`.

    configs: label -> PEFT configuration. model: the backbone, on any device. A frozen layer counts twice (forward,
    gradient of its input), an adapter three times (also the gradient of its weights); attention scores, norms and the
    optimizer are left out. Columns method, trainable, backbone (operations), needed and computed (of the adapters: by
    the mathematics, and by our modules, which compute every expert), needed_ratio and computed_ratio (of the whole
    step, relative to MixLoRA). Raises ValueError without MixLoRA, or for targets that no layer has.

    >>> operation_ratios(two_systems, base)[["method", "needed_ratio", "computed_ratio"]].round(3)
        method  needed_ratio  computed_ratio
    0  MixLoRA         1.000           1.000
    1   S'MoRE         1.106           1.004
    """
    if REFERENCE not in configs:
        raise ValueError(f"configs has {', '.join(configs) or 'nothing'} but not {REFERENCE}, the reference; add it")
    costs = method_table(configs, model)
    table = pd.DataFrame(
        {
            "method": costs["method"],
            "trainable": costs["trainable"].astype(int),
            "backbone": FROZEN_PASSES * backbone_operations(model),
            "needed": TRAINED_PASSES * costs["operations"].astype(int),
            "computed": TRAINED_PASSES * costs["computed"].astype(int),
        }
    )
    for column in ("needed", "computed"):
        whole = table["backbone"] + table[column]
        table[f"{column}_ratio"] = whole / whole[table["method"] == REFERENCE].iloc[0]
    return table


def ratio_pairs(times: pd.DataFrame, method: str) -> pd.DataFrame:
    """The method's rows of all sizes at which it has as many parameters as MixLoRA (column size_ratio)."""
    check_methods(times["method"], (method, REFERENCE))
    theirs = times[times["method"] == REFERENCE].set_index("size")["trainable"]
    pairs = times[times["method"] == method]
    pairs = pairs.assign(size_ratio=pairs["trainable"].to_numpy() / theirs.reindex(pairs["size"]).to_numpy())
    return pairs[np.maximum(pairs["size_ratio"], 1 / pairs["size_ratio"]) <= 1 + EQUAL]
