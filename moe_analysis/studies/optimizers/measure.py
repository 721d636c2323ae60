"""From runs of the paper's optimizers to the results of gR Figs. 2 and 3, and to the control with one expert."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ...training.sweep.running import train_all
from ..asked import Runs, asked
from ..records import method_of, seed_bands
from ..result import Result
from .curves import FORMS, best_rates, methods_of, outcomes, progress_curves, runs_at

WORDS = dict(enumerate(("no", "one", "two", "three", "four", "five", "six", "seven", "eight")))

PLAIN, RESCALED = "RSGD", "gRSGD"


@dataclass(frozen=True, eq=False)
class Rescaling(Result):
    """RSGD and gRSGD at one learning rate.

    Args:
        outcomes: one row per run, as `outcomes` returns it.
        curves: losses and accuracies over training, as `progress_curves` returns them.
    """

    item = "gr_fig2"
    title = "gR Fig. 2: RSGD and gRSGD"
    question = "Does gate rescaling speed up Riemannian SGD at the same learning rate?"
    how_to_read = (
        "Lines are means over seeds, shades and bars reach from the lowest seed to the highest; lr is the learning rate of "
        "the experts."
    )
    how_to_explore = "The menu chooses a measure; one line per seed. lr is the learning rate of the experts."
    drawing = "draw_rescaling"
    saved = ("outcomes", "bands")

    outcomes: pd.DataFrame
    curves: pd.DataFrame

    @cached_property
    def bands(self) -> pd.DataFrame:
        """Mean, lowest and highest seed."""
        return seed_bands(self.curves, ["measure", "method", "step"])


@dataclass(frozen=True, eq=False)
class Optimizers(Result):
    """The four forms of SGD and the four of AdamW, each at the best of its tried learning rates.

    Args:
        outcomes: one row per run, as `outcomes` returns it.
        rates: the best learning rate of each method, as `best_rates` returns it.
        curves: of the runs at the best rates, as `progress_curves` returns them.
    """

    item = "gr_fig3"
    question = "Do preconditioning (R) and gate rescaling (g) lower the training loss, for SGD and for AdamW?"
    how_to_read = (
        "Lines are means over seeds, shades reach from the lowest seed to the highest; forms of AdamW are dashed; lr is "
        "the learning rate of the experts. If optimizers ran at several learning rates, their losses are drawn against "
        "the rate, with a ring at the best rate by held-out loss and a cross if a seed diverged; otherwise they are drawn "
        "against the training step."
    )
    how_to_explore = (
        "Small marks or thin lines are seeds; forms of AdamW are dashed; lr is the learning rate of the experts. If "
        "optimizers ran at several learning rates, their losses are drawn against the rate, with means as lines and a "
        "large mark at the best rate by held-out loss; otherwise they are drawn against the training step."
    )
    saved = ("outcomes", "rates", "bands")

    outcomes: pd.DataFrame
    rates: pd.DataFrame
    curves: pd.DataFrame

    @property
    def title(self) -> str:  # type: ignore[override]
        """The title with the number of methods."""
        count = sum(map(len, self.forms.values()))
        return f"gR Fig. 3: {WORDS.get(count, count)} optimizer{'s' * (count != 1)}"

    @cached_property
    def bands(self) -> pd.DataFrame:
        """Mean, lowest and highest seed over training."""
        return seed_bands(self.curves, ["measure", "method", "step"])

    @property
    def forms(self) -> dict[str, list[str]]:
        """The methods that have runs, by form."""
        run = set(self.outcomes["method"])
        found = {form: [method for method in methods_of(form) if method in run] for form in FORMS}
        return {form: methods for form, methods in found.items() if methods}

    @property
    def over_rates(self) -> bool:
        """Whether a method has runs at several learning rates."""
        return any(len(tried) > 1 for tried in self.rates["tried"])


@dataclass(frozen=True, eq=False)
class OneExpert(Result):
    """Both rules with one active expert per token.

    Args:
        losses: the histories of both runs.
        gap: the largest difference of their losses.
        same: whether histories and records are equal to the last bit.
    """

    item = "gr_control"
    title = "The control: one expert per token"
    question = "With one active expert, the gate and its square root are 1: are both rules the same?"
    how_to_read = "The dashed line must be on the solid one: both runs give the same numbers, bit by bit."
    drawing = "draw_control"

    losses: pd.DataFrame
    gap: float
    same: bool


@asked()
def measure_rescaling(runs: Runs) -> Rescaling:
    """Compare RSGD and gRSGD at one learning rate, as the paper does.

    Args:
        runs: of RSGD and gRSGD at the same seeds; other methods are left out. If there are several rates, the common
            one with the lowest held-out loss of RSGD is used.

    Raises:
        ValueError: for a missing method, and as `outcomes`.

    Example:
        >>> found = measure_rescaling(pair)
        >>> found.outcomes["method"].unique().tolist(), len(found.claims)
        (['RSGD', 'gRSGD'], 3)
    """
    chosen = [run for run in runs if method_of(run) in (PLAIN, RESCALED)]
    if missing := [name for name in (PLAIN, RESCALED) if name not in map(method_of, chosen)]:
        raise ValueError(f"runs has no run of {', '.join(missing)}; train both {PLAIN} and {RESCALED}")
    table = outcomes(chosen)
    tried = table.groupby("method")["lr"].agg(set)
    if shared := tried[PLAIN] & tried[RESCALED]:
        best = best_rates(table[(table["method"] == PLAIN) & table["lr"].isin(shared)])["lr"].iloc[0]
        chosen = [run for run in chosen if run.config.lr == best]
    else:
        chosen = runs_at(chosen, best_rates(table))
    return Rescaling(outcomes=outcomes(chosen), curves=progress_curves(chosen), runs=tuple(chosen))


@asked()
def measure(runs: Runs) -> Optimizers:
    """Compare the paper's optimizers, each at its best learning rate.

    Args:
        runs: of any of the eight methods, at the same seeds, at one or several learning rates of the experts. The best
            rate of a method has the lowest held-out loss, as a mean over the seeds that all its rates have.

    Raises:
        ValueError: if no run is of the eight methods, and as `outcomes` and `best_rates`.

    Example:
        >>> found = measure(pair)
        >>> found.forms, found.over_rates
        ({'SGD': ['RSGD', 'gRSGD']}, False)
    """
    known = {method for form in FORMS for method in methods_of(form)}
    chosen = [run for run in runs if method_of(run) in known]
    if not chosen:
        raise ValueError(f"runs has no run of {', '.join(sorted(known))}; give the runs these names")
    table = outcomes(chosen)
    rates = best_rates(table)
    return Optimizers(outcomes=table, rates=rates, curves=progress_curves(runs_at(chosen, rates)), runs=tuple(chosen))


@asked()
def measure_control(runs: Runs, workers: int | None = None) -> OneExpert:
    """Train RSGD and gRSGD with one active expert per token, and compare them bit by bit.

    Args:
        runs: the first run of RSGD is trained again with one expert, plain and rescaled, in the same folder.
        workers: training processes (None: the machine's cores).

    Raises:
        ValueError: without a run of RSGD.
        RunError: for a run that fails.
    """
    plain = next((run for run in runs if method_of(run) == PLAIN), None)
    if plain is None:
        raise ValueError(f"runs has no run of {PLAIN}, which both runs of the control need; train one")
    single = replace(plain.config.adapter, top_k=1)
    adapters = {PLAIN: single, RESCALED: replace(single, gate_backward_power=0.5)}
    configs = [
        replace(plain.config, adapter=adapter, name=f"{name}, k = 1", eval_every=0)
        for name, adapter in adapters.items()
    ]
    alone = train_all(configs, Path(plain.path).parent, workers)
    gap, same = difference(*alone)
    losses = pd.concat([run.history.assign(method=run.config.name) for run in alone])
    return OneExpert(losses=losses, gap=gap, same=same, runs=tuple(alone))


def difference(first: Any, second: Any) -> tuple[float, bool]:
    """The largest difference of two runs' losses, and whether histories and records are equal bit by bit."""
    gap = float((first.history["loss"] - second.history["loss"]).abs().max())
    return gap, bool(first.history.equals(second.history) and first.records.equals(second.records))
