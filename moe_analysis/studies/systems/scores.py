"""Accuracy and loss of many methods, in and out of distribution: by task and seed, with intervals, against each other.

Source: T-REX, Fig. 3 and the headline.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from ...evidence.bootstrap import Comparison, holm, paired_bootstrap
from ...evidence.intervals import mean_interval
from ...tasks.suite import task_roles
from ..records import check_runs, check_whole, run_key

PART_OF_ROLE = {"original": "originals", "variant": "variants", "ood": "ood", "task": "in-distribution"}
INSIDE, OUTSIDE = "in-distribution", "ood"
PARTS = ("originals", "variants", INSIDE, OUTSIDE)
MEASURES = ("accuracy", "loss")
FEWEST = 3  # seeds of an interval on one task
SCORE_COLUMNS = ["method", "seed", "part", "dataset", "rows", "accuracy", "loss"]


def scores(runs: Sequence[Any], transferred: Sequence[pd.DataFrame] = ()) -> pd.DataFrame:
    """One row per method, seed and data set: columns method, seed, part, dataset, rows, accuracy, loss.

    transferred: of each run, in the same order, its table on an out-of-distribution suite (columns as of
    `run.evaluation`); none leaves that part out. part: "originals" or "variants" as the suite's manifest says,
    "in-distribution" for a suite that says nothing, "ood" for what was transferred to. accuracy lies in [0, 1], loss
    is in nats per answer token. Raises ValueError when methods were not tested on the same rows.

    >>> found = scores(*made_up)
    >>> found.groupby("part", sort=False)["dataset"].nunique().to_dict()
    {'originals': 2, 'variants': 2, 'ood': 2}
    """
    check_runs(runs)
    check_whole(runs)
    if len(suites := {str(run.config.suite) for run in runs}) > 1:
        raise ValueError(f"runs are of the suites {', '.join(sorted(suites))}; measure those of one suite at a time")
    if transferred and len(transferred) != len(runs):
        raise ValueError(f"transferred holds {len(transferred)} tables for {len(runs)} runs; pass one for each run")
    frames = []
    for index, run in enumerate(runs):
        parts = task_roles(run.config.suite, run.evaluation).map(PART_OF_ROLE)
        frames.append(run.evaluation.assign(**run_key(run), part=run.evaluation["dataset"].map(parts)))
        if transferred:
            frames.append(transferred[index].assign(**run_key(run), part=OUTSIDE))
    frame = pd.concat(frames, ignore_index=True)
    for (part, dataset), rows in frame.groupby(["part", "dataset"], sort=False)["rows"]:
        if rows.nunique() > 1 or len(rows) != len(runs):
            raise ValueError(
                f"data set {dataset!r} ({part}) has {sorted(set(rows))} test rows in {len(rows)} of "
                f"{len(runs)} runs; evaluate all runs on the same rows"
            )
    return frame[SCORE_COLUMNS]


def levels(inside: pd.DataFrame, outside: pd.DataFrame | None = None, suite: str = "embedded") -> pd.DataFrame:
    """What every score must beat: columns part, dataset, chance, majority, guess, untrained, untrained_loss.

    inside, outside: `training.transfer.levels_on` of the suite and of its out-of-distribution companion. chance is 0
    where the answer is free; guess is the better of chance and majority.

    >>> levels(*level_tables)[["part", "dataset", "chance", "majority", "guess"]].head(2)
            part    dataset  chance  majority  guess
    0  originals  add_small    0.25       0.3    0.3
    1  originals   where_is    0.25       0.3    0.3
    """
    parts = task_roles(suite, inside).map(PART_OF_ROLE)
    frames = [inside.assign(part=inside["dataset"].map(parts))]
    if outside is not None:
        frames.append(outside.assign(part=OUTSIDE))
    table = pd.concat(frames, ignore_index=True)
    table = table.assign(chance=table["chance"].fillna(0.0))
    table["guess"] = table[["chance", "majority"]].max(axis=1)
    return table[["part", "dataset", "chance", "majority", "guess", "untrained", "untrained_loss"]]


def by_part(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(part, its rows) in the order of PARTS; originals and variants together are in-distribution too."""
    for part in PARTS:
        rows = frame[frame["part"] != OUTSIDE] if part == INSIDE else frame[frame["part"] == part]
        if len(rows):
            yield part, rows


def part_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns measure, part, method, mean, low, high, seeds, tasks: means over tasks, 95 % t intervals over seeds.

    The interval speaks of these tasks at other seeds. Whether one method is better than another on tasks like these is
    a question of paired differences, which `comparisons` answers: tasks differ far more than methods do.

    >>> table = part_summary(scored).query("measure == 'accuracy' and part == 'ood'")
    >>> table.set_index("method")["mean"].round(1).loc[["LoRA", "T-REX"]].to_dict()
    {'LoRA': 0.5, 'T-REX': 0.6}
    """
    rows = []
    for part, chosen in by_part(frame):
        for method in dict.fromkeys(chosen["method"]):
            for measure in MEASURES:
                values = crossed(chosen, method, measure).to_numpy()  # (tasks, seeds)
                rows.append((measure, part, method, *mean_interval(values.mean(0)), *values.shape[::-1]))
    return pd.DataFrame(rows, columns=["measure", "part", "method", "mean", "low", "high", "seeds", "tasks"])


def above_guessing(summary: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The accuracies of `part_summary` less what guessing gets on the same tasks, in points (hundredths).

    Args:
        summary: of `part_summary`.
        table: of `levels`.

    Returns:
        part, method, mean, low, high, seeds, tasks, in the parts that are separate in a figure: without the union of
        originals and variants.

    Example:
        >>> found = above_guessing(part_summary(scored), to_beat).query("part == 'ood'")
        >>> found.set_index("method")["mean"].round(-1).loc[["LoRA", "T-REX"]].to_dict()
        {'LoRA': 20.0, 'T-REX': 30.0}
    """
    rows = summary[(summary["measure"] == "accuracy") & summary["part"].isin(table["part"])].drop(columns="measure")
    guess = rows["part"].map(table.groupby("part")["guess"].mean())
    return rows.assign(**{name: 100 * (rows[name] - guess) for name in ("mean", "low", "high")})


def tasks_above_guessing(frame: pd.DataFrame, table: pd.DataFrame, part: str = OUTSIDE) -> pd.DataFrame:
    """Every task of a part: accuracy less what guessing gets, in points, means and 95 % t intervals over seeds.

    Args:
        frame: of `scores`.
        table: of `levels`.
        part: one of `PARTS` that the frame has.

    Returns:
        dataset, method, mean, low, high, accuracy, guess (the last two in [0, 1]); tasks and methods as in the frame.

    Example:
        >>> tasks_above_guessing(scored, to_beat)[["dataset", "method"]].head(1).values.tolist()
        [['sum_of_three', 'LoRA']]
    """
    guess = table[table["part"] == part].set_index("dataset")["guess"]
    rows = []
    for (dataset, method), own in frame[frame["part"] == part].groupby(["dataset", "method"], sort=False):
        mean, low, high = mean_interval(own["accuracy"].to_numpy())
        gains = [100 * (value - guess[dataset]) for value in (mean, low, high)]
        rows.append((dataset, method, *gains, mean, guess[dataset]))
    return pd.DataFrame(rows, columns=["dataset", "method", "mean", "low", "high", "accuracy", "guess"])


def crossed(frame: pd.DataFrame, method: str, measure: str) -> pd.DataFrame:
    """The measure of one method, data sets × seeds. Raises ValueError when a data set is missing at a seed."""
    own = frame[frame["method"] == method]
    if own.empty:
        present = ", ".join(map(repr, dict.fromkeys(frame["method"])))
        raise ValueError(f"no run of {method!r}; the frame has {present}")
    table = own.assign(place=own["part"] + "/" + own["dataset"]).pivot(index="place", columns="seed", values=measure)
    counts = own.groupby("seed")["dataset"].size()
    if counts.nunique() > 1:
        raise ValueError(f"{method!r} has {counts.to_dict()} data sets by seed; evaluate every seed on all of them")
    return table


def comparisons(frame: pd.DataFrame, reference: str | None = None, measure: str = "accuracy") -> pd.DataFrame:
    """Every pair of methods in every part: columns part, method, against, difference, low, high, p, p_holm, tasks,
    seeds; the difference is method minus against.

    Intervals and p-values: `paired_bootstrap` over the tasks of the part and the seeds that both methods have. p_holm
    is corrected over all pairs of the part. reference keeps the pairs of one method, with it first; the correction
    stays that over all pairs. Raises ValueError for a reference without runs.

    >>> table = comparisons(scored, reference="T-REX").query("part == 'ood' and against == 'LoRA'")
    >>> table[["tasks", "seeds"]].values.tolist(), table["difference"].round(1).tolist()
    ([[2, 3]], [0.1])
    """
    methods = list(dict.fromkeys(frame["method"]))
    if reference is not None and reference not in methods:
        raise ValueError(f"reference = {reference!r} has no run; choose one of {', '.join(map(repr, methods))}")
    found = []
    for part, chosen in by_part(frame):
        tables = {method: crossed(chosen, method, measure) for method in methods}
        rows = []
        for one, other in combinations(methods, 2):
            pair = (other, one) if other == reference else (one, other)
            rows.append((part, *pair, *compared(tables[pair[0]], tables[pair[1]], pair)))
        table = pd.DataFrame(rows, columns=["part", "method", "against", *Comparison._fields])
        found.append(table.assign(p_holm=holm(table["p"].to_numpy())))
    result = pd.concat(found, ignore_index=True)
    if reference is not None:
        result = result[result["method"] == reference].reset_index(drop=True)
    return result[["part", "method", "against", "difference", "low", "high", "p", "p_holm", "tasks", "seeds"]]


def compared(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> Comparison:
    """`paired_bootstrap` of two tables of `crossed`, over the seeds they share; one task or seed gives NaN bounds."""
    seeds = first.columns.intersection(second.columns)
    if not first.index.equals(second.index) or seeds.empty:
        raise ValueError(
            f"{names[0]!r} and {names[1]!r} share {len(seeds)} seeds and "
            f"{len(first.index.intersection(second.index))} of {len(first)} data sets; "
            "train and evaluate them alike"
        )
    pair = first[seeds].to_numpy(), second[seeds].to_numpy()
    if min(pair[0].shape) < 2:
        return Comparison(float((pair[0] - pair[1]).mean()), np.nan, np.nan, np.nan, *pair[0].shape)
    return paired_bootstrap(*pair)


def against_level(frame: pd.DataFrame, table: pd.DataFrame, level: str = "guess") -> pd.DataFrame:
    """Accuracy less a level of `levels`: columns part, method, level, difference, low, high, p, tasks, seeds, above.

    level: "chance", "majority", "guess" (the better of both) or "untrained", whose difference is the gain over the
    backbone at step 0. above: the interval of `paired_bootstrap` lies over 0; where it does not, the method is within
    the interval of the level. Raises ValueError for a data set that the table has no level of.

    >>> table = against_level(scored, to_beat, "guess")
    >>> bool(table["above"].all())
    True
    """
    values = table.set_index(table["part"] + "/" + table["dataset"])[level]
    rows = []
    for part, chosen in by_part(frame):
        for method in dict.fromkeys(frame["method"]):
            own = crossed(chosen, method, "accuracy")
            if missing := [name for name in own.index if name not in values.index]:
                raise ValueError(f"table has no {level} of {', '.join(missing)}; pass the levels of the same suites")
            flat = own * 0.0 + values.loc[own.index].to_numpy()[:, None]  # (tasks, seeds), the same at every seed
            found = compared(own, flat, (method, level))
            rows.append((part, method, level, *found, bool(found.low > 0)))
    return pd.DataFrame(rows, columns=["part", "method", "level", *Comparison._fields, "above"])


def task_differences(frame: pd.DataFrame, against: str = "LoRA", measure: str = "accuracy") -> pd.DataFrame:
    """Every method less one, task by task: columns part, dataset, method, difference, low, high, base.

    Paired by seed; low, high: 95 % t interval over seeds, uncorrected for the number of tasks, from three seeds on: two
    agree on a task by chance. base: the mean of `against` on the task.

    >>> table = task_differences(scored, against="LoRA").query("method == 'T-REX'")
    >>> table[["part", "dataset", "difference"]].round(1).head(2)
             part    dataset  difference
    7   originals  add_small         0.1
    15  originals   where_is         0.1
    """
    others = [method for method in dict.fromkeys(frame["method"]) if method != against]
    reference = crossed(frame, against, measure)
    base = reference.mean(axis=1)
    rows = []
    for method in others:
        gaps = crossed(frame, method, measure) - reference
        for place, values, its in zip(base.index, gaps.loc[base.index].to_numpy(), base):
            part, _, dataset = str(place).partition("/")
            mean, low, high = mean_interval(values)
            told = np.isfinite(values).sum() >= FEWEST
            rows.append((part, dataset, method, mean, *((low, high) if told else (np.nan, np.nan)), its))
    table = pd.DataFrame(rows, columns=["part", "dataset", "method", "difference", "low", "high", "base"])
    order = frame[["part", "dataset"]].drop_duplicates()
    return order.merge(table, on=["part", "dataset"], how="left")
