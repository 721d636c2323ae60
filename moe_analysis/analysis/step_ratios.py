"""Time of a training step over MixLoRA's: what the operations let expect, and the verdict on what was measured.

Source: S'MoRE, Table 7 and section on cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..theory.method_table import backbone_operations, method_table
from .efficiency_comparison import EQUAL, NOT_REPRODUCED, NOT_TESTABLE, REPRODUCED, check_methods

SOURCE = "S'MoRE Table 7"
LOW, MEAN, HIGH = 1.15, 1.24, 1.33  # S'MoRE's time over MixLoRA's in the paper: least, mean, most
FROZEN_PASSES = 2  # a frozen layer: forward, and backward to its input
TRAINED_PASSES = 3  # an adapter: forward, backward to its input, and to its weights


def operation_ratios(configs: Mapping[str, Any], model: Any, reference: str = "MixLoRA") -> pd.DataFrame:
    """Multiply-accumulates of a training step, a token, from the formulas of `theory.method_table`.

    configs: label -> PEFT configuration. model: the backbone, on any device. A frozen layer counts twice (forward,
    gradient of its input), an adapter three times (and the gradient of its weights); attention's scores, norms and the
    optimiser are left out. Columns method, trainable, backbone (operations), needed and computed (of the adapters: by
    the mathematics, and by our modules, which compute every expert), needed_ratio and computed_ratio (of the whole
    step, over the reference's). Raises ValueError for an unknown reference, or for targets that no layer has.

    >>> operation_ratios(two_systems, base)[["method", "needed_ratio", "computed_ratio"]].round(3)
        method  needed_ratio  computed_ratio
    0  MixLoRA         1.000           1.000
    1   S'MoRE         1.106           1.004
    """
    if reference not in configs:
        raise ValueError(f"reference = {reference!r} is none of {', '.join(configs) or 'the configurations'}")
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
        table[f"{column}_ratio"] = whole / whole[table["method"] == reference].iloc[0]
    return table


def time_claims(
    times: pd.DataFrame, method: str = "S'MoRE", reference: str = "MixLoRA", tolerance: float = EQUAL, setting: str = ""
) -> pd.DataFrame:
    """Table 7, from `training.step_time.step_times`: columns source, claim, paper, measured, spread, verdict.

    times: one table of `step_times`, or several below one another with a column size that tells them apart (budgets,
    batches, structures). Sizes at which the trainable parameters of the two differ by more than `tolerance` are left
    out. A size has its ratio with the 95 % interval of the median over rounds; the mean over sizes has the mean of
    their lower and of their upper ends, which is at least as wide as its own interval. setting: what the row says of
    the machine and the model, such as "compact backbone, one CPU thread".

    "At most 1.33": reproduced when every size's interval lies at or below it, not reproduced when one lies above it.
    "1.24 on average": reproduced when the interval of the mean lies within the paper's range 1.15 to 1.33, not
    reproduced when it lies outside, on either side. In between, or without intervals or sizes, not testable.

    >>> time_claims(times, setting="made up")[["measured", "verdict"]]
             measured     verdict
    0  1.25 (made up)  reproduced
    1  1.25 (made up)  reproduced
    """
    pairs = ratio_pairs(times, method, reference, tolerance)
    low, mean, high = (float(pairs[name].mean()) for name in ("ratio_low", "ratio", "ratio_high"))
    if pairs.empty:
        measured = spread = "no size at which the two have equal parameters"
    else:
        spread = (
            f"medians of {int(pairs['rounds'].min())} rounds or more; 95 % intervals from "
            f"{pairs['ratio_low'].min():.2f} to {pairs['ratio_high'].max():.2f}, of the mean "
            f"[{low:.2f}, {high:.2f}]"
        )
        found = ", ".join(f"{ratio:.2f}" for ratio in pairs["ratio"])
        measured = f"{found}{f'; mean {mean:.2f} of {len(pairs)} sizes' if len(pairs) > 1 else ''}"
    text = f"a training step of {method} takes {{}} as long as one of {reference}, at equal parameters"
    rows = [
        ("at most 1.33 times", f"{LOW} to {HIGH} times", most_verdict(pairs)),
        ("on average 1.24 times, within 1.15 to 1.33,", f"{MEAN} times on average", mean_verdict(low, high)),
    ]
    return pd.DataFrame(
        [
            {
                "source": SOURCE,
                "claim": text.format(words),
                "paper": paper,
                "measured": measured + (f" ({setting})" if setting else ""),
                "spread": spread,
                "verdict": verdict,
            }
            for words, paper, verdict in rows
        ]
    )


def ratio_pairs(times: pd.DataFrame, method: str, reference: str, tolerance: float = EQUAL) -> pd.DataFrame:
    """The method's row of every size at which it has as many parameters as the reference (column size_ratio)."""
    table = times if "size" in times else times.assign(size="one")
    check_methods(table["method"], (method, reference))
    theirs = table[table["method"] == reference].set_index("size")["trainable"]
    pairs = table[table["method"] == method]
    pairs = pairs.assign(size_ratio=pairs["trainable"].to_numpy() / theirs.reindex(pairs["size"]).to_numpy())
    return pairs[np.maximum(pairs["size_ratio"], 1 / pairs["size_ratio"]) <= 1 + tolerance]


def most_verdict(pairs: pd.DataFrame) -> str:
    if (pairs["ratio_low"] > HIGH).any():
        return NOT_REPRODUCED
    return REPRODUCED if len(pairs) and (pairs["ratio_high"] <= HIGH).all() else NOT_TESTABLE


def mean_verdict(low: float, high: float) -> str:
    if low > HIGH or high < LOW:
        return NOT_REPRODUCED
    return REPRODUCED if low >= LOW and high <= HIGH else NOT_TESTABLE
