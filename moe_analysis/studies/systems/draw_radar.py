"""Accuracies by task around a center: the radar of T-REX's Fig. 3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ...drawing.style import NOTE, method_marks


def draw_radar(panel: Any, by_task: pd.DataFrame) -> None:
    """Accuracy as distance from the center, a direction for each task by its number; gray is guessing."""
    tasks = list(dict.fromkeys(by_task["dataset"]))
    angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
    guess = by_task.drop_duplicates("dataset")["guess"].to_numpy()
    panel.fill(angles, guess, color="#B0B0B0", alpha=0.45, linewidth=0, label="guessing")
    for method, mark in method_marks(by_task["method"]).items():
        means = by_task[by_task["method"] == method].set_index("dataset").loc[tasks, "accuracy"].to_numpy()
        panel.plot(
            [*angles, angles[0]],
            [*means, means[0]],
            color=mark.color,
            linewidth=1.3,
            label=method,
            marker=mark.marker,
            markersize=3,
        )
    panel.set_theta_zero_location("N")
    panel.set_theta_direction(-1)
    panel.set_xticks(angles, [str(number) for number in range(1, len(tasks) + 1)])
    panel.tick_params(axis="x", pad=0)
    top = radar_top(by_task)
    panel.set_ylim(0, top)
    ticks = np.arange(0.5, top + 1e-9, 0.5) if top >= 0.5 else [top]
    panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8, color=NOTE)
    panel.set_rlabel_position(180 / len(tasks))  # between two directions
    panel.spines["polar"].set_visible(False)
    panel.grid(linewidth=0.5, alpha=0.5)
    panel.set_title("accuracy", loc="center")


def radar_top(by_task: pd.DataFrame) -> float:
    """The radius: the next quarter above what is drawn."""
    highest = by_task[["accuracy", "guess"]].max().max()
    return min(1.0, np.ceil(4 * highest) / 4) or 0.25
