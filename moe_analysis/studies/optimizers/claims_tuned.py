"""The order of the optimizers of gR Fig. 3, all tuned in the same way: by training loss, and by test loss per task."""

from __future__ import annotations

import numpy as np

from ...evidence import Claim, whole_of
from ...evidence.effect import over_tasks
from .claims import OURS, VISIBLE, order_claim, pairs_of, tuning_fault
from .curves import FORMS
from .tuned import TunedOptimizers


def claims(found: TunedOptimizers) -> list[Claim]:
    """For each form the paper's claim about training loss, paired by seed, and ours about test loss, by task and seed."""
    return [*(trained(found, form) for form in FORMS), *(tested(found, form) for form in FORMS)]


def trained(found: TunedOptimizers, form: str) -> Claim:
    """Fig. 3 for the final runs, whose seeds did not choose the rates."""
    return order_claim(found.finals, found.rates, form, lambda better, worse: missing_runs(found, better, worse))


def tested(found: TunedOptimizers, form: str) -> Claim:
    """Lower test losses, our own hypothesis; the paper shows the training loss."""
    statement = f"{form}: preconditioning and gate rescaling each lower the test loss"
    parts = [tested_pair(found, better, worse) for better, worse in pairs_of(form)]
    return whole_of(f"own_gr_test_{form}", OURS, statement, parts)


def tested_pair(
    found: TunedOptimizers, better: str, worse: str, name: str = "own_gr_test", source: str = OURS
) -> Claim:
    """That one method has a lower test loss than another, by task and seed, or by seed where there is one data set."""
    claim = Claim(
        f"{name}_{better}_{worse}",
        source,
        f"{better} has a lower test loss than {worse}",
        compares=f"1 - {better} / {worse}, each at its best learning rate",
        endpoint="share of the test loss of a task",
        smallest=VISIBLE,
    )
    if fault := tuning_fault(found.rates, better, worse) or missing_runs(found, better, worse):
        return claim.untestable(fault)
    gains = task_gains(found, better, worse)
    return claim.with_effect(over_tasks(gains, alone=len(gains) == 1))


def task_gains(found: TunedOptimizers, better: str, worse: str) -> np.ndarray:
    """(tasks, seeds that both have) 1 - better / worse; NaN if one of the two diverged."""
    first, second = (
        found.tests[found.tests["method"] == name].pivot(index="dataset", columns="seed", values="loss")
        for name in (better, worse)
    )
    gains = (1 - first / second).dropna(axis=1, how="all")
    return gains.where(np.isfinite(first) & np.isfinite(second)).to_numpy()


def missing_runs(found: TunedOptimizers, *methods: str) -> str:
    """Which final runs are missing for a comparison; empty if all methods have two common seeds."""
    seeds = {name: set(found.finals.loc[found.finals["method"] == name, "seed"]) for name in methods}
    if absent := [name for name, own in seeds.items() if not own]:
        return f"no final run of {' and '.join(absent)}; at least two seeds of each would decide it"
    shared = set.intersection(*seeds.values())
    if len(shared) < 2:
        told = "no seed" if not shared else f"only seed {min(shared)}"
        return f"final runs of {' and '.join(methods)} have {told} in common; at least two seeds would decide it"
    return ""
