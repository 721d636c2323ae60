"""What gR's Figs. 2 and 3 claim, and what else we ask about gate rescaling, declared before it was measured.

The paper only shows plots of its losses: a twentieth of the other loss is a visible difference. An independent
reproduction gave numbers for accuracy and for its own synthetic bench; there, half of its effect matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import singledispatch

import numpy as np
import pandas as pd

from ...evidence import Claim, Effect, family_of, judged
from .bench import CONDITIONS, Confound, Exponent
from .curves import FORMS, at_best_rates, methods_of, relative_gains
from .exponent import EQUAL, MATCHED, REPRODUCTION, TUNED, Case, loss_gains
from .measure import PLAIN, RESCALED, OneExpert, Optimizers, Rescaling

VISIBLE = 0.05  # of the other's loss
ACCURACY = 0.7779 - 0.7118  # of an independent reproduction, one seed
BENCH = {k: 1 - rescaled / plain for k, (plain, rescaled) in REPRODUCTION.items() if k > 1}
USUAL = 4  # active experts of the bench
HALF_GAIN = (REPRODUCTION[USUAL][0] - REPRODUCTION[USUAL][1]) / 2  # of the reproduction, in units of its error
MIN_RATES = 3  # with fewer, no rate is between two others
FIGURE = "gr_fig3"
OURS, REPRODUCED = "our hypothesis, beyond gR", "an independent reproduction of gR"


@singledispatch
def claims(found: object) -> list[Claim]:
    """The claims that a result of this study decides."""
    raise TypeError(f"{type(found).__name__} is not a result of this study")


@claims.register
def _(found: Rescaling) -> list[Claim]:
    """Lower losses and a higher accuracy at one learning rate."""
    table = found.outcomes
    rates = {name: table.loc[table["method"] == name, "lr"].iloc[0] for name in (PLAIN, RESCALED)}
    losses = {"mean_loss": "mean training loss", "loss": "test loss"}
    declared = [
        Claim(
            f"gr_fig2_{measure}",
            "gR Fig. 2",
            f"gate rescaling gives a lower {words} at the same learning rate",
            compares=f"1 - {RESCALED} / {PLAIN}",
            endpoint=f"share of the {words}",
            smallest=VISIBLE,
        )
        for measure, words in losses.items()
    ]
    accuracy = Claim(
        "gr_fig2_accuracy",
        REPRODUCED,
        "gate rescaling gives a higher test accuracy at the same learning rate",
        compares=f"{RESCALED} - {PLAIN}",
        endpoint="test accuracy",
        paper_effect=ACCURACY,
    )
    if rates[PLAIN] != rates[RESCALED]:
        reason = (
            f"{PLAIN} ran at {rates[PLAIN]:g} and {RESCALED} at {rates[RESCALED]:g}; "
            "runs of both at the same learning rate would decide it"
        )
        return [claim.untestable(reason) for claim in (*declared, accuracy)]
    plain, rescaled = (table[table["method"] == name].set_index("seed") for name in (PLAIN, RESCALED))
    gains = [relative_gains(rescaled[measure], plain[measure]) for measure in losses]
    ahead = (rescaled["accuracy"] - plain["accuracy"]).reindex(plain.index.intersection(rescaled.index)).to_numpy()
    return [decided(claim, values) for claim, values in zip([*declared, accuracy], [*gains, ahead])]


@claims.register
def _(found: Optimizers) -> list[Claim]:
    """The order of the four optimizers of each form by their training loss, each at its own best learning rate."""
    return [order_claim(found.outcomes, found.rates, form) for form in FORMS]


@claims.register
def _(found: OneExpert) -> list[Claim]:
    """That both rules are the same with one active expert."""
    return [
        Claim(
            "gr_control_one_expert",
            "our control of gR's gate rescaling",
            "with one active expert per token, both rules are the same, bit by bit",
            found.gap,
            0.0,
            found.gap,
            found.same,
        )
    ]


@claims.register
def _(found: Exponent) -> list[Claim]:
    """Lower errors with several experts, equal errors with one; and a larger gain if gates are uneven."""
    single = found.by_k[found.by_k["top_k"] == 1]
    plain, rescaled = (single[single["power"] == power].set_index("seed")["loss"] for power in (1.0, 0.5))
    gap = float((rescaled - plain).abs().max(skipna=False))
    same = bool(found.counts.set_index("top_k").loc[1, "identical"])
    counts = [k for k in BENCH if k in set(found.by_k["top_k"])]
    several = [
        Claim(
            f"gr_exponent_k{k}",
            REPRODUCED,
            f"with {k} active experts, {RESCALED} has the lower validation error",
            compares=f"1 - {RESCALED} / {PLAIN}, one learning rate",
            endpoint="share of the validation error",
            paper_effect=BENCH[k],
        )
        for k in counts
    ]
    gains = [effect_of(loss_gains(*(runs_of(found.by_k, k, power) for power in (0.5, 1.0)))) for k in counts]
    uneven = Claim(
        "gr_exponent_uneven",
        OURS,
        "the exponent matters more if gates are uneven",
        compares="gain of p = 1/2 over p = 1, at entropy 0 minus at entropy 1",
        endpoint="validation error, 1 before training",
        smallest=HALF_GAIN,
    )
    return [
        Claim(
            "gr_exponent_one_expert",
            REPRODUCED,
            "with one expert per token, both rules coincide, bit by bit",
            gap,
            0.0,
            gap,
            same,
        ),
        family_of(
            "gr_exponent_several",
            REPRODUCED,
            f"with several experts, {RESCALED} has the lower validation error at the same learning rate",
            several,
            {claim.name: gain for claim, gain in zip(several, gains)},
        ),
        decided(uneven, -found.slopes["slope"].to_numpy()),
    ]


@claims.register
def _(found: Confound) -> list[Claim]:
    """Whether rescaling still has an advantage at equal steps and at tuned rates, on the bench and the backbone."""
    more = Claim(
        "gr_confound_more",
        OURS,
        "gate rescaling lowers the bench's error more than a larger learning rate does",
        compares=f"{PLAIN} at the same learning rates times one factor - {RESCALED}",
        endpoint="validation error, 1 before training; the factor is the one that makes the differences smallest",
        smallest=HALF_GAIN,
    )
    remaining = found.shifts["remaining"]
    of_bench = [
        cases_claim(name, f"gate rescaling lowers the bench's error {words}", cases)
        for name, words, begins in (
            ("gr_confound_equal", "at the same learning rate", EQUAL),
            ("gr_confound_matched", "at equal effective steps", MATCHED),
            ("gr_confound_tuned", "if both are tuned", TUNED),
        )
        if (cases := [case for case in found.cases if case.comparison.startswith(begins)])
    ]
    return [
        *of_bench,
        decided(more, -remaining[np.isfinite(remaining)].to_numpy()),
        *(backbone_claim(found.backbone, condition, *pair) for condition, pair in CONDITIONS.items()),
    ]


def order_claim(
    outcomes: pd.DataFrame,
    rates: pd.DataFrame,
    form: str,
    lacking: Callable[[str, str], str] | None = None,
) -> Claim:
    """What Fig. 3 shows for SGD, and we ask for AdamW: preconditioning and rescaling each lower the training loss;
    the three comparisons are one family.

    Args:
        outcomes: of `curves.outcomes`; of a method with several rates, the runs at the best one are compared.
        rates: of `curves.best_rates`.
        form: one of `FORMS`.
        lacking: says which runs are missing for a comparison of two methods; empty if there are all.
    """
    name, source = (
        (FIGURE, "gR Fig. 3") if form == FORMS[0] else (f"own_{FIGURE}", f"beyond gR Fig. 3, which shows {FORMS[0]}")
    )
    pairs = [pair(outcomes, rates, better, worse, lacking, name, source) for better, worse in pairs_of(form)]
    return family_of(
        f"{name}_{form}",
        source,
        f"{form}: preconditioning and gate rescaling each lower the training loss",
        [claim for claim, _ in pairs],
        {claim.name: effect for claim, effect in pairs},
    )


def pair(
    outcomes: pd.DataFrame,
    rates: pd.DataFrame,
    better: str,
    worse: str,
    lacking: Callable[[str, str], str] | None,
    name: str,
    source: str,
) -> tuple[Claim, Effect | str]:
    """That one method trains to a lower loss than another, and the effect or why there is none; arguments as of
    `order_claim`, and what the claim is called."""
    claim = Claim(
        f"{name}_{better}_{worse}",
        source,
        f"{better} trains to a lower loss than {worse}",
        compares=f"1 - {better} / {worse}, each at its best learning rate",
        endpoint="share of the mean training loss",
        smallest=VISIBLE,
    )
    if fault := tuning_fault(rates, better, worse) or (lacking(better, worse) if lacking else ""):
        return claim, fault
    chosen = at_best_rates(outcomes[outcomes["method"].isin([better, worse])])
    losses = (chosen[chosen["method"] == method].set_index("seed")["mean_loss"] for method in (better, worse))
    return claim, effect_of(relative_gains(*losses))


def pairs_of(form: str) -> tuple[tuple[str, str], ...]:
    """(the one that should be better, the other) for the comparisons that Fig. 3 shows for one form."""
    plain, metric, rescaled, both = methods_of(form)
    return (both, metric), (metric, plain), (rescaled, plain)


def tuning_fault(rates: pd.DataFrame, *methods: str) -> str:
    """Why methods cannot be compared at their best rates, and what would decide it; empty if they can be compared.

    Each method must be at its own best rate of a common grid, of rates or of multiples of its own rate. If a best rate
    is an end of the grid, a rate beyond it may be better.
    """
    found = rates.set_index("method")
    if missing := [name for name in methods if name not in found.index]:
        return f"no run of {' and '.join(missing)}"
    first, *others = (found.loc[name, "tried"] for name in methods)
    if len(first) < MIN_RATES or not all(one_grid(first, other) for other in others):
        told = " and ".join(f"{name} ran at {grid_of(found.loc[name, 'tried'])}" for name in methods)
        return f"{told}; a common grid of at least {MIN_RATES} learning rates would decide it"
    tried = found["tried"]
    if ends := [name for name in methods if found.loc[name, "lr"] in (tried[name][0], tried[name][-1])]:
        told = " and ".join(f"{name} is best at {found.loc[name, 'lr']:g}" for name in ends)
        return f"{told}, an end of the grid; rates beyond it would decide it"
    return ""


def one_grid(first: Sequence[float], other: Sequence[float]) -> bool:
    """Whether both have the same rates, or the same multiples of their smallest rate.

    >>> one_grid((0.1, 0.3, 1.0), (0.01, 0.03, 0.1)), one_grid((0.1, 0.3, 1.0), (0.1, 0.3))
    (True, False)
    """
    return len(first) == len(other) and np.allclose(np.divide(first, first[0]), np.divide(other, other[0]), rtol=1e-6)


def grid_of(tried: Sequence[float]) -> str:
    """ "0.02", or "5 rates from 0.01 to 0.16"."""
    return f"{tried[0]:g}" if len(tried) == 1 else f"{len(tried)} rates from {tried[0]:g} to {tried[-1]:g}"


def cases_claim(name: str, statement: str, cases: Sequence[Case]) -> Claim:
    """That the rescaled rule has the lower error in each of these comparisons of the bench."""
    parts = [
        Claim(
            f"{name}_{number}",
            OURS,
            f"gate rescaling lowers the error: {case.comparison}",
            compares=f"1 - {RESCALED} at lr {case.rescaled_lr:.3g} / {PLAIN} at lr {case.plain_lr:.3g}",
            endpoint="share of the validation error",
            smallest=BENCH[USUAL] / 2,
        )
        for number, case in enumerate(cases, start=1)
    ]
    effects = {part.name: effect_of(loss_gains(case.rescaled, case.plain)) for part, case in zip(parts, cases)}
    if len(parts) == 1:
        return judged([replace(parts[0], name=name)], {name: effects[parts[0].name]})[0]
    return family_of(name, OURS, statement, parts, effects)


def backbone_claim(table: pd.DataFrame, condition: str, rescaled: str, plain: str) -> Claim:
    """That rescaling lowers training and test loss on the backbone under one condition."""
    first, second = (table[table["method"] == name].set_index("seed") for name in (rescaled, plain))
    name = f"gr_confound_{condition.replace(' ', '_').replace(',', '')}"
    measures = {"mean_loss": "mean training loss", "loss": "test loss"}
    parts = [
        Claim(
            f"{name}_{measure}",
            OURS,
            f"gate rescaling lowers the {words} {condition}",
            compares=f"1 - ({rescaled}) / ({plain})",
            endpoint=f"share of the {words}",
            smallest=VISIBLE,
        )
        for measure, words in measures.items()
    ]
    effects = {part.name: effect_of(relative_gains(first[one], second[one])) for part, one in zip(parts, measures)}
    return family_of(name, OURS, f"gate rescaling lowers the backbone's loss {condition}", parts, effects)


def effect_of(effects: np.ndarray) -> Effect | str:
    """What was measured, one value per seed; why there is nothing if a seed diverged, whose effect is not a number."""
    if not effects.size:
        return "the two methods have no common seed"
    if lost := int((~np.isfinite(effects)).sum()):
        return f"training diverged at {lost} of {effects.size} seeds"
    return Effect(effects)


def decided(claim: Claim, effects: np.ndarray) -> Claim:
    """The claim, judged alone."""
    return judged([claim], {claim.name: effect_of(effects)})[0]


def runs_of(rows: pd.DataFrame, top_k: int, power: float) -> pd.DataFrame:
    return rows[(rows["top_k"] == top_k) & (rows["power"] == power)]
