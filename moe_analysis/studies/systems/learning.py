"""Whether learning happened: every tuned system on every task against the base model on the same rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ...evidence.intervals import mean_interval

ABOVE, NOT_ABOVE, UNKNOWN = "above the base model", "not above the base model", "no base model on these rows"
COLUMNS = ["method", "part", "dataset", "base", "accuracy", "gain", "low", "high", "seeds", "learning"]


def learning(frame: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    """One row per system and task: its tuned runs less the model that they started from.

    Args:
        frame: of `scores`.
        levels: of `scores.levels`; its column untrained.

    Returns:
        method, part, dataset, base and accuracy (means over seeds), gain with its 95 % t interval over seeds, seeds, and
        learning: in words whether the mean lies above the base model.

    >>> found = learning(scored, to_beat)
    >>> found["learning"].unique().tolist()
    ['above the base model', 'not above the base model']
    """
    base = levels.set_index(["part", "dataset"])["untrained"]
    rows = []
    for (method, part, dataset), own in frame.groupby(["method", "part", "dataset"], sort=False):
        level = float(base.get((part, dataset), np.nan))
        gain, low, high = mean_interval((own["accuracy"] - level).to_numpy())
        word = UNKNOWN if np.isnan(level) else ABOVE if gain > 0 else NOT_ABOVE
        rows.append((method, part, dataset, level, own["accuracy"].mean(), gain, low, high, len(own), word))
    return pd.DataFrame(rows, columns=COLUMNS)
