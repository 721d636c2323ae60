"""The synthetic bench of gate rescaling: which exponent, and is it a larger learning rate? Beyond gR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ...training.sweep.running import train_all
from ..asked import Runs, asked, instance, listed
from ..records import check_runs, method_of
from ..result import Result
from .curves import outcomes
from .effective_step import matched_lr
from .exponent import (
    Case,
    best_powers,
    confound_cases,
    confound_comparisons,
    entropy_slopes,
    expert_count_table,
    exponent_table,
    lr_shift,
    references,
    run_rows,
)
from .measure import PLAIN, RESCALED
from .regression_grid import RegressionConfig, grid, match_steps, train_grid

COUNTS = (1, 2, 4, 8)  # active experts, of 8
POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)
TEMPERATURES = (0.02, 0.1, 0.3, 1.0, 4.0)
RATES = tuple(0.02 * 2**power for power in range(9))
TUNING = (100, 101, 102, 103, 104)
LOW = 0.25  # of the learning rate on the backbone, which was tuned for the rescaled form
FOLDER = "regression"  # of the bench, next to the runs
BENCH = "pass one, such as RegressionConfig(steps=300, seeds=(10, 11))"
# condition -> (rescaled, plain) on the backbone
CONDITIONS = {
    "at a quarter of the learning rate": (f"{RESCALED}, low lr", f"{PLAIN}, low lr"),
    "at equal effective steps": (RESCALED, f"{PLAIN}, matched"),
    "at equal effective steps, low": (f"{RESCALED}, low lr", f"{PLAIN}, low lr matched"),
}


@dataclass(frozen=True, eq=False)
class Exponent(Result):
    """RSGD on the bench with the gate's backward exponent p, for several counts of experts and temperatures.

    Args:
        by_k: one row per run at p = 1 and p = 1/2, as `run_rows` returns it, for each number of active experts.
        powers: one row per run, for each exponent and temperature.
    """

    item = "gr_exponent"
    title = "Beyond gR: the exponent of the gate against its entropy"
    question = "Which exponent p of the gate in the backward pass is best, and when?"
    how_to_read = (
        "Left: validation error by exponent, one line per router temperature with the measured entropy of its gates, "
        "which is 0 if only one expert counts and 1 if all count equally. Shades are 95 % intervals. Right: the paired "
        "difference to p = 1; a dot marks an interval that does not contain zero."
    )
    how_to_explore = (
        "“error by exponent”: validation error with 95 % intervals, one line per router temperature with the measured "
        "entropy of its gates, which is 0 if only one expert counts and 1 if all count equally. “difference to p = 1”: "
        "the paired difference; blue is a smaller error than at p = 1, red a larger one. Point at a mark of a line for "
        "the interval of its difference."
    )
    drawing = "draw_exponent"

    by_k: pd.DataFrame
    powers: pd.DataFrame

    @cached_property
    def counts(self) -> pd.DataFrame:
        """Both rules for each number of active experts, with the numbers of an independent reproduction."""
        return expert_count_table(self.by_k)

    @cached_property
    def table(self) -> pd.DataFrame:
        """Errors by exponent and temperature."""
        return exponent_table(self.powers)

    @cached_property
    def best(self) -> pd.DataFrame:
        """The best exponent of each temperature."""
        return best_powers(self.powers)

    @cached_property
    def slopes(self) -> pd.DataFrame:
        """How the gain of p = 1/2 changes with the entropy, seed by seed."""
        return entropy_slopes(self.powers)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {"counts": self.counts, "table": self.table, "best": self.best, "slopes": self.slopes}


@dataclass(frozen=True, eq=False)
class Confound(Result):
    """Gate rescaling compared with a larger learning rate, on the bench and on the backbone.

    Args:
        bench: one row per run of both rules over a grid of learning rates, as `run_rows` returns it.
        cases: the compared runs of the bench.
        matches: the factor on the plain method's learning rate on the backbone, and the factor that remained.
    """

    item = "gr_confound"
    title = "Beyond gR: gate rescaling against a larger learning rate"
    question = "Is gate rescaling more than a larger learning rate?"
    how_to_read = (
        "Left: validation error of the bench by learning rate, with 95 % intervals, and marks where the two rules are "
        "compared. Right: the paired differences; left of zero, rescaling is better."
    )
    how_to_explore = (
        "“loss by learning rate”: validation error of the bench, one pale dot per seed and the means as lines. "
        "“paired differences, 95 %”: the two rules compared in pairs, with 95 % intervals; left of zero, rescaling is "
        "better."
    )
    drawing = "draw_confound"

    bench: pd.DataFrame
    cases: Sequence[Case] = field(repr=False)
    matches: pd.DataFrame

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Rescaled minus plain at equal learning rates, at equal effective steps, and each at its best rate."""
        return confound_comparisons(self.cases)

    @cached_property
    def shifts(self) -> pd.DataFrame:
        """The factor on the plain learning rate that comes closest to the rescaled losses, by seed that is compared."""
        compared = {seed for case in self.cases for seed in case.plain["seed"]}
        return lr_shift(self.bench[self.bench["seed"].isin(compared)])

    @cached_property
    def backbone(self) -> pd.DataFrame:
        """The outcomes of the runs on the backbone."""
        return outcomes(self.runs)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {
            "comparisons": self.comparisons,
            "bench": self.bench,
            "backbone": self.backbone,
            "matches": self.matches,
        }


@asked()
def measure_exponent(base: RegressionConfig, folder: str | Path, workers: int | None = None) -> Exponent:
    """Train the bench over counts of experts, exponents and temperatures.

    Args:
        base: the bench, with its steps and seeds; a routed mixture of low-rank maps is learned from noisy examples.
        folder: where histories are stored; stored ones are not trained again.
        workers: training processes (None: the machine's cores).

    Raises:
        RunError: for configurations that fail.

    Example:
        >>> found = measure_exponent(bench, folder / "bench", workers=1)
        >>> found.counts["top_k"].tolist(), len(found.best)
        ([1, 2, 4], 5)
    """
    instance("base", base, RegressionConfig, BENCH)
    counts = [k for k in COUNTS if k <= base.task.num_experts]
    by_k = train_grid(grid(base, top_k=counts, power=(1.0, 0.5)), folder, workers)
    powers = train_grid(grid(base, power=POWERS, temperature=TEMPERATURES), folder, workers)
    return Exponent(by_k=run_rows(by_k), powers=run_rows(powers), sample=sample_of(base))


@asked(tuning=0)
def measure_confound(
    runs: Runs,
    base: RegressionConfig,
    workers: int | None = None,
    rates: float | Sequence[float] = RATES,
    tuning: int | Sequence[int] = TUNING,
) -> Confound:
    """Train both rules on the bench over learning rates, and on the backbone at lower and at matched ones.

    Results are stored next to the runs; stored ones are not trained again.

    Args:
        runs: of RSGD and gRSGD on the backbone at the same seeds, one learning rate each, with a record of the experts.
        base: the bench, with its steps and seeds.
        workers: training processes (None: the machine's cores).
        rates: learning rates of the experts on the bench.
        tuning: seeds of the bench that choose the best rates and are not compared.

    Raises:
        ValueError: for a missing method, and as `matched_lr`.
        RunError: for runs that fail.
    """
    instance("base", base, RegressionConfig, BENCH)
    rates, tuning = listed(rates), listed(tuning)
    pair = [run for run in runs if method_of(run) in (PLAIN, RESCALED)]
    check_runs(pair)
    folder = Path(pair[0].path).parent
    both, matches = on_backbone(pair, folder, workers)
    tried = grid(base, power=(1.0, 0.5), lr=rates, seeds=(base.seeds, tuple(tuning)))
    bench = run_rows(train_grid(tried, folder / FOLDER, workers))
    equal = [
        match_steps(replace(base, power=0.5, lr=rate), replace(base, lr=rate), folder / FOLDER)
        for rate in references(bench, tuning).values()
    ]
    return Confound(
        bench=bench,
        cases=confound_cases(bench, tuning, run_rows(pd.concat(equal))),
        matches=matches,
        runs=tuple(both),
        sample=f"{sample_of(base)}; judged but not drawn: {len(both)} runs on the backbone, {pair[0].config.steps} steps "
        "each",
    )


def on_backbone(pair: Sequence[Any], folder: Path, workers: int | None) -> tuple[list[Any], pd.DataFrame]:
    """(the pair, both rules at a quarter of the rate, the plain rule at matched rates; the factors of the matches)."""
    match = matched_lr(pair, RESCALED, PLAIN)
    slow = train_all(
        [replace(run.config, lr=LOW * run.config.lr, name=f"{method_of(run)}, low lr", eval_every=0) for run in pair],
        folder,
        workers,
    )
    low = tuple(f"{name}, low lr" for name in (RESCALED, PLAIN))
    match = pd.concat([match, matched_lr(slow, low[0], low[1])])
    wanted = dict(zip((f"{PLAIN}, matched", f"{low[1]} matched"), match["matched_lr"].round(4)))
    plain = [run.config for run in pair if method_of(run) == PLAIN]
    matched = train_all(
        [replace(config, lr=lr, name=name, eval_every=0) for name, lr in wanted.items() for config in plain],
        folder,
        workers,
    )
    both = [*pair, *slow, *matched]
    again = [matched_lr(both, first, second) for first, second in zip((RESCALED, low[0]), wanted)]
    return both, pd.concat([match, *again])


def sample_of(base: RegressionConfig) -> str:
    """ "8 seeds of the synthetic bench, 300 steps"."""
    return f"{len(base.seeds)} seeds of the synthetic bench, {base.steps} steps"
