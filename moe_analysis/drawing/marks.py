"""Numbers of a table as marks: points, error bars, and the menus that change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd


def points_of(rows: pd.DataFrame, x: str, y: str, told: Sequence[str] = ()) -> dict[str, Any]:
    """x, y and customdata of a trace, as float32, which makes a page three times smaller.

    Args:
        rows: One row per point.
        x, y: Columns of numbers.
        told: Columns whose numbers the hover text shows; `%{customdata[0]}` is the first.

    Example:
        >>> rows = pd.DataFrame({"step": [1, 2], "loss": [0.5, 0.25], "seeds": [3, 3]})
        >>> points_of(rows, "step", "loss", ["seeds"])["customdata"].tolist()
        [[3.0], [3.0]]
    """
    points = {"x": float32(rows[x]), "y": float32(rows[y])}
    return points | ({"customdata": float32(rows[list(told)])} if told else {})


def float32(values: pd.Series | pd.DataFrame) -> np.ndarray:
    """The numbers of a table; missing ones are NaN."""
    return values.astype(np.float32).to_numpy()


def interval_of(rows: pd.DataFrame, value: str = "mean", low: str = "low", high: str = "high") -> np.ndarray:
    """Distances (2, n) from the value down and up to the interval's ends; 0 where there is none."""
    ends = np.stack([rows[value] - rows[low], rows[high] - rows[value]])
    return np.nan_to_num(ends.astype(float))


def bars_of(rows: pd.DataFrame, value: str = "mean", low: str = "low", high: str = "high") -> dict[str, Any]:
    """The same for `error_x` and `error_y` of a trace."""
    down, up = interval_of(rows, value, low, high).astype(np.float32)
    return {"array": up, "arrayminus": down, "symmetric": False}


def menu_of(
    name: str, changes: Mapping[str, Sequence[Any]], method: str = "update", in_a_row: bool = False
) -> dict[str, Any]:
    """One menu for `updatemenus`.

    Args:
        name: What the menu chooses, its label on a page: "Measure". No other menu of the figure has the same.
        changes: A button's label -> the arguments of plotly's method: new values of the traces, then of the layout.
        method: "update", or "restyle" for the traces only.
        in_a_row: Buttons side by side instead of a list that opens.
    """
    buttons = [{"label": label, "method": method, "args": list(args)} for label, args in changes.items()]
    return {"name": name, "buttons": buttons} | ({"type": "buttons", "direction": "right"} if in_a_row else {})
