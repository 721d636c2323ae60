"""What all drawings of the map share: the title, the order and marks of points, and the hover text of a prompt."""

from __future__ import annotations

import html
import textwrap
from typing import Any

import numpy as np
import pandas as pd

from ...drawing.style import Mark, category_marks
from ...evidence import counted

COLORINGS = {"group": "predefined group", "dataset": "data set", "cluster": "semantic cluster"}
PROMPT_LENGTH, PROMPT_WIDTH = 180, 60  # characters of a prompt in a hover box, and per line
NAME_WIDTH = 17  # characters per line of a name
EDGE = "#7A7A7A"


def map_title(points: pd.DataFrame) -> str:
    """What is on the map: "60 prompts of 4 data sets in 2 groups, and 4 semantic clusters"."""
    told = {name: points[name].nunique() for name in COLORINGS if name in points}
    clusters = counted(told["cluster"], "semantic cluster")
    if "dataset" not in told:
        return f"{counted(len(points), 'text')} in {clusters}"
    labels = f"{counted(told['dataset'], 'data set')} in {counted(told['group'], 'group')}"
    return f"{counted(len(points), 'prompt')} of {labels}, and {clusters}"


def hover_prompt(prompt: str) -> str:
    """A prompt for a hover box: one paragraph, shortened, wrapped, and escaped so that it contains no markup."""
    text = " ".join(prompt.split())
    text = text if len(text) <= PROMPT_LENGTH else text[: PROMPT_LENGTH - 1].rstrip() + "…"
    return "<br>".join(html.escape(line) for line in textwrap.wrap(text, PROMPT_WIDTH))


def by_group(points: pd.DataFrame) -> pd.DataFrame:
    """Points sorted by group, so that the data sets of a group are next to each other; plain texts are not sorted."""
    if "group" not in points:
        return points
    return points.iloc[np.argsort(pd.factorize(points["group"])[0], kind="stable")]


def class_marks(points: pd.DataFrame, column: str) -> dict[Any, Mark]:
    names = points[column].unique()
    return category_marks(sorted(names) if column == "cluster" else names)
