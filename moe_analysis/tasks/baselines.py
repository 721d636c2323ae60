"""What a score must beat: guessing, and always giving the same answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import pandas as pd


def baselines(frame: pd.DataFrame) -> pd.DataFrame:
    """Chance and majority accuracy on the test rows of each data set of a suite frame.

    Returns one row per data set (index, in order of appearance) with `chance`, the mean share of choices that
    are right (NaN when an answer is free), and `majority`, the accuracy of always giving the label, or the
    answer text if that is the better rule, most frequent among the train rows (among the test rows when there
    are none). Both are NaN for a data set without test rows; accuracies lie in 0..1.

    >>> baselines(ma.load_suite("embedded", datasets=["add_small", "review_mood"])).round(2)
                 chance  majority
    dataset
    add_small       NaN      0.11
    review_mood    0.39      0.39
    """
    table = {dataset: _of_dataset(rows) for dataset, rows in frame.groupby("dataset", sort=False)}
    result = pd.DataFrame.from_dict(table, orient="index", columns=["chance", "majority"], dtype=float)
    return result.rename_axis("dataset")


def _of_dataset(rows: pd.DataFrame) -> tuple[float, float]:
    test = rows[rows["split"] == "test"]
    train = rows[rows["split"] == "train"]
    if test.empty:
        return math.nan, math.nan
    return _chance(test), _majority(train if len(train) else test, test)


def _chance(test: pd.DataFrame) -> float:
    if not all(isinstance(choices, list) for choices in test["choices"]):
        return math.nan
    pairs = zip(test["choices"], test["answer"], strict=True)
    right = [choices.count(answer) / len(choices) for choices, answer in pairs]
    return sum(right) / len(right)


def _majority(reference: pd.DataFrame, test: pd.DataFrame) -> float:
    fields = ["answer"] if reference["label"].isna().any() else ["label", "answer"]
    constants = {field: _most_frequent(list(reference[field])) for field in fields}
    # The rule is chosen where the constant was counted, so that the test rows play no part in it.
    field = max(fields, key=lambda name: constants[name][1])
    constant = constants[field][0]
    return sum(not pd.isna(value) and value == constant for value in test[field]) / len(test)


def _most_frequent(values: Sequence[Hashable]) -> tuple[Hashable, int]:
    # Ties go to the smallest value, so that the order of the rows changes nothing.
    value, count = min(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    return value, count
