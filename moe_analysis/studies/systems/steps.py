"""What S'MoRE lacks on the compact backbone: wider routing, or more steps? Beyond the papers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ...evidence.intervals import mean_interval
from ..asked import asked
from ..result import Result
from .endpoints import kept_scores
from .measure import REFERENCE
from .scores import crossed
from .stored import Stored, stored_scores
from .tuned import TunedSystems, systems_of

COLUMNS = ["part", "method", "steps", "mean", "low", "high", "seeds", "tasks", "base"]


@dataclass(frozen=True, eq=False)
class SystemSteps(Result):
    """The same systems after few and after many steps, beside their versions of other sizes.

    Args:
        few, many: the two trainings, each as `measure_table` returns it, with the systems that are shown.
        steps: of both.
    """

    item = "smore_steps"
    title = "Beyond the papers: S'MoRE with wider routing and with more steps"
    question = "Does narrow routing or a short training explain what S'MoRE lacks on the small model?"
    how_to_read = (
        "Each panel is an endpoint: accuracy, a mean over its tasks, by the steps of training. A line is a system, its "
        "bars the 95 % interval over seeds; a mark without a line was trained for few steps only. The dotted line is the "
        "model before training. The rates were chosen alike for all, in runs of 300 steps. Tasks that say nothing at the "
        "first training, at floor or ceiling for the strongest reference, are left out of both."
    )
    drawing = "draw_steps"
    judging = "claims_steps"
    saved = ("means", "costs")

    few: TunedSystems
    many: TunedSystems
    steps: tuple[int, int]

    @cached_property
    def means(self) -> pd.DataFrame:
        """part, method, steps, mean, low, high (95 % t interval over seeds of the mean over tasks that count), seeds,
        tasks, base (the model before training on these tasks)."""
        return pd.DataFrame(
            [row for found, steps in zip((self.few, self.many), self.steps) for row in mean_rows(found, steps)],
            columns=COLUMNS,
        )

    @property
    def costs(self) -> pd.DataFrame:
        """One row per system, as `theory.method_table` returns it."""
        return self.few.costs

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {"means": self.means, "costs": self.costs, "tasks": self.few.tasks}


def mean_rows(found: TunedSystems, steps: int) -> Iterator[tuple[Any, ...]]:
    untrained = found.levels.set_index(["part", "dataset"])["untrained"]
    for part in dict.fromkeys(found.scores["part"]):
        rows = kept_scores(found.scores, found.tasks, part)
        if rows.empty:
            continue
        base = untrained[[(part, name) for name in rows["dataset"].unique()]].mean(skipna=False)
        for method in found.methods:
            values = crossed(rows, method, "accuracy").to_numpy()  # (tasks, seeds)
            yield (part, method, steps, *mean_interval(values.mean(0)), *values.shape[::-1], base)


@asked()
def measure_steps(
    table: str | Path | pd.DataFrame = "compact_steps", few: str | Path | pd.DataFrame = "compact"
) -> SystemSteps:
    """Two campaigns of one suite whose final runs differ in their steps.

    Args:
        table: of the longer runs, as of `measure_table`.
        few: of the shorter runs. Of its systems, those are shown that the other table has too, and their versions: of
            "S'MoRE" also "S'MoRE, width 32".

    Raises:
        ResultsError, ValueError: as `stored_scores`; for tables without LoRA in both, for a table whose runs are not the
            longer ones, and for tables of other tasks or test rows.

    Example:
        >>> measure_steps().steps
        (1000, 3000)
    """
    long, short = stored_scores(table), stored_scores(few)
    names = [name for name in dict.fromkeys(short.scores["method"]) if shown(name, set(long.scores["method"]))]
    if REFERENCE not in names or REFERENCE not in set(long.scores["method"]):
        raise ValueError(f"{long.name} and {short.name} do not both have {REFERENCE}; pass tables of campaigns with it")
    steps = steps_of(short), steps_of(long)
    if steps[0] >= steps[1]:
        raise ValueError(
            f"{long.name} has runs of {steps[1]} steps and {short.name} of {steps[0]}; pass the longer ones as table"
        )
    # the strongest reference is found among all systems of the first table, and the second judges by the same tasks
    judged = TunedSystems(**systems_of(short))
    if tested(long) != tested(short):
        raise ValueError(
            f"{long.name} and {short.name} were tested on different tasks or rows; pass tables of one suite and as many rows"
        )
    before = replace(TunedSystems(**systems_of(short.only(names))), tasks=judged.tasks)
    return SystemSteps(
        before,
        replace(TunedSystems(**systems_of(long)), tasks=judged.tasks),
        steps,
        sample=f"{short.sample_for(names)}; and {long.sample}",
        stored=f"{short.name} and {long.name}",
    )


def shown(name: str, longer: set[str]) -> bool:
    """
    >>> [name for name in ("LoRA", "S'MoRE", "S'MoRE, width 32", "SiRA") if shown(name, {"LoRA", "S'MoRE"})]
    ['LoRA', "S'MoRE", "S'MoRE, width 32"]
    """
    return name in longer or name.partition(",")[0] in longer


def tested(found: Stored) -> set[tuple[Any, ...]]:
    """Part, data set, number of test rows, and the share of their most frequent answer, which other rows do not have."""
    rows = found.scores.merge(found.levels[["part", "dataset", "majority"]], on=["part", "dataset"])
    return set(rows[["part", "dataset", "rows", "majority"]].itertuples(index=False, name=None))


def steps_of(found: Stored) -> int:
    """Of the final runs.

    Raises:
        ValueError: for runs of several numbers of steps, and for a table without configurations.
    """
    steps = {int(config["steps"]) for config in found.configs.values()}
    if len(steps) != 1:
        raise ValueError(f"{found.name} has final runs of {sorted(steps) or 'unknown'} steps; pass runs of one number")
    return steps.pop()
