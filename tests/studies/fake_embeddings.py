"""Suites and embeddings of which it is known what lies together."""

from __future__ import annotations

import numpy as np
import pandas as pd

EIGHT = {f"d{index}": "ABCD"[index // 2] for index in range(8)}


def suite(groups: dict[str, str], rows: int = 12, split: str = "train") -> pd.DataFrame:
    """`rows` prompts of each data set, {data set: group}, all different."""
    return pd.DataFrame(
        {"dataset": name, "group": group, "split": split, "prompt": f"{name} asks {row}", "choices": None}
        for name, group in groups.items()
        for row in range(rows)
    )


def around(labels: pd.Series, spread: float = 0.05, width: int = 16) -> np.ndarray:
    """Rows of length 1 scattered around one axis for each label: the labels are the semantics."""
    codes = pd.factorize(labels)[0]
    points = np.eye(width)[codes] + spread * np.random.default_rng(0).normal(size=(len(codes), width))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def topics(frame: pd.DataFrame, number: int) -> pd.Series:
    """A topic for each row that runs through every data set alike."""
    return frame.groupby("dataset").cumcount() % number
