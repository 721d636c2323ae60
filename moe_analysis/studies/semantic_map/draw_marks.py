"""What every drawing of the map shares: its title, the order and the marks of its points, and a prompt to hover over."""

from __future__ import annotations

import html
import textwrap
from typing import Any

import numpy as np
import pandas as pd

from ...drawing.style import Mark, category_marks
from ...evidence import counted

COLORINGS = {"group": "predefined group", "dataset": "data set", "cluster": "semantic cluster"}
PROMPT_LENGTH, PROMPT_WIDTH = 180, 60  # characters of a prompt that a hover shows, and of one of its lines
NAME_WIDTH = 17  # characters of one of its lines
EDGE = "#7A7A7A"


def map_title(points: pd.DataFrame) -> str:
    """What is on the map, counted: "60 prompts of 4 data sets in 2 groups, and 4 semantic clusters"."""
    told = {name: points[name].nunique() for name in COLORINGS if name in points}
    clusters = counted(told["cluster"], "semantic cluster")
    if "dataset" not in told:
        return f"{counted(len(points), 'text')} in {clusters}"
    labels = f"{counted(told['dataset'], 'data set')} in {counted(told['group'], 'group')}"
    return f"{counted(len(points), 'prompt')} of {labels}, and {clusters}"


def hover_prompt(prompt: str) -> str:
    """A prompt for a hover box: one paragraph, shortened, in lines, and escaped so that none of it is markup."""
    text = " ".join(prompt.split())
    text = text if len(text) <= PROMPT_LENGTH else text[: PROMPT_LENGTH - 1].rstrip() + "…"
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, PROMPT_WIDTH))


def by_group(points: pd.DataFrame) -> pd.DataFrame:
    """Points ordered by group, so that the data sets of a group come side by side; plain texts as they are."""
    if "group" not in points:
        return points
    return points.iloc[np.argsort(pd.factorize(points["group"])[0], kind="stable")]


def class_marks(points: pd.DataFrame, column: str) -> dict[Any, Mark]:
    names = points[column].unique()
    return category_marks(sorted(names) if column == "cluster" else names)
