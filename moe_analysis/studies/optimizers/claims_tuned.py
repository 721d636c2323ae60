"""The order of the optimizers of gR Fig. 3, all tuned in the same way: by training loss, and by test loss per task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...evidence import Claim, Effect, family_of
from ...evidence.effect import over_tasks
from .claims import OURS, VISIBLE, order_claim, pairs_of, tuning_fault
from .curves import FORMS
from .tuned import TunedOptimizers


def claims(found: TunedOptimizers) -> list[Claim]:
    """For each form the training loss, paired by seed, which the paper shows for SGD; and ours about the test loss, by
    task and seed."""
    return [*(trained(found, form) for form in FORMS), *(tested(found, form) for form in FORMS)]


def trained(found: TunedOptimizers, form: str) -> Claim:
    """Fig. 3 for the final runs, whose seeds did not choose the rates."""
    return order_claim(found.finals, found.rates, form, lambda better, worse: missing_runs(found, better, worse))


def tested(found: TunedOptimizers, form: str) -> Claim:
    """Lower test losses, our own hypothesis; the paper shows the training loss."""
    statement = f"{form}: preconditioning and gate rescaling each lower the test loss"
    return tested_pairs(found, f"own_gr_test_{form}", OURS, statement, pairs_of(form))


def tested_pairs(
    found: TunedOptimizers, name: str, source: str, statement: str, pairs: Sequence[tuple[str, str]]
) -> Claim:
    """That in each pair the first has a lower test loss than the second; the pairs are one family."""
    claims = [
        Claim(
            f"{name}_{better}_{worse}",
            source,
            f"{better} has a lower test loss than {worse}",
            compares=f"1 - {better} / {worse}, each at its best learning rate",
            endpoint="share of the test loss of a task",
            smallest=VISIBLE,
        )
        for better, worse in pairs
    ]
    effects = {claim.name: tested_effect(found, *both) for claim, both in zip(claims, pairs)}
    return family_of(name, source, statement, claims, effects)


def tested_effect(found: TunedOptimizers, better: str, worse: str) -> Effect | str:
    """By task and seed, or by seed where there is one data set; a text where a precondition fails."""
    if fault := tuning_fault(found.rates, better, worse) or missing_runs(found, better, worse):
        return fault
    gains = task_gains(found, better, worse)
    return over_tasks(gains, alone=len(gains) == 1)


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
