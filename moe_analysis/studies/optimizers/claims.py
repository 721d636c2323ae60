"""What gR's Figs. 2 and 3 claim, and what else we ask about gate rescaling, declared before it was measured.

The paper only shows plots of its losses: a twentieth of the other loss is a visible difference. An independent
reproduction gave numbers for accuracy and for its own synthetic bench; there, half of its effect matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch

import numpy as np
import pandas as pd

from ...evidence import Claim, Effect, whole_of
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
    losses = {"mean_loss": "training loss", "loss": "test loss"}
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
    gap = float((rescaled - plain).abs().max())
    same = bool(found.counts.set_index("top_k").loc[1, "identical"])
    several = [
        decided(
            Claim(
                f"gr_exponent_k{k}",
                REPRODUCED,
                f"with {k} active experts, {RESCALED} has the lower validation error",
                compares=f"1 - {RESCALED} / {PLAIN}, one learning rate",
                endpoint="share of the validation error",
                paper_effect=effect,
            ),
            loss_gains(*(runs_of(found.by_k, k, power) for power in (0.5, 1.0))),
        )
        for k, effect in BENCH.items()
        if k in set(found.by_k["top_k"])
    ]
    uneven = Claim(
        "gr_exponent_uneven",
        OURS,
        "the exponent matters more if gates are uneven",
        compares="gain of p = 1/2 over p = 1, at entropy 0 minus at entropy 1",
        endpoint="validation error (untrained: 1)",
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
        whole_of(
            "gr_exponent_several",
            REPRODUCED,
            f"with several experts, {RESCALED} has the lower validation error at the same learning rate",
            several,
        ),
        decided(uneven, -found.slopes["slope"].to_numpy()),
    ]


@claims.register
def _(found: Confound) -> list[Claim]:
    """Whether rescaling still has an advantage at equal steps and at tuned rates, on the bench and the backbone."""
    equal, matched, tuned = (
        [case for case in found.cases if case.comparison.startswith(kind)] for kind in (EQUAL, MATCHED, TUNED)
    )
    more = Claim(
        "gr_confound_more",
        OURS,
        "gate rescaling is more than a larger learning rate on the bench",
        compares=f"{PLAIN} at the learning rate that comes closest - {RESCALED}",
        endpoint="validation error (untrained: 1)",
        smallest=HALF_GAIN,
    )
    remaining = found.shifts["remaining"]
    same_steps = (
        [
            whole_of(
                "gr_confound_matched",
                OURS,
                "gate rescaling lowers the bench's error at equal effective steps",
                [
                    case_claim(f"gr_confound_matched_{number}", OURS, case)
                    for number, case in enumerate(matched, start=1)
                ],
            )
        ]
        if matched
        else []
    )
    return [
        whole_of(
            "gr_confound_equal",
            REPRODUCED,
            "gate rescaling lowers the bench's error at the same learning rate",
            [case_claim(f"gr_confound_equal_{number}", REPRODUCED, case) for number, case in enumerate(equal, start=1)],
        ),
        *same_steps,
        *(case_claim("gr_confound_tuned", OURS, case) for case in tuned),
        decided(more, -remaining[np.isfinite(remaining)].to_numpy()),
        *(backbone_claim(found.backbone, condition, *pair) for condition, pair in CONDITIONS.items()),
    ]


def order_claim(
    outcomes: pd.DataFrame,
    rates: pd.DataFrame,
    form: str,
    lacking: Callable[[str, str], str] | None = None,
) -> Claim:
    """What Fig. 3 shows for one form: preconditioning and rescaling lower the training loss, each and together.

    Args:
        outcomes: of `curves.outcomes`; of a method with several rates, the runs at the best one are compared.
        rates: of `curves.best_rates`.
        form: one of `FORMS`.
        lacking: says which runs are missing for a comparison of two methods; empty if there are all.
    """
    return whole_of(
        f"gr_fig3_{form}",
        "gR Fig. 3",
        f"{form}: preconditioning and gate rescaling each lower the training loss",
        [pair_claim(outcomes, rates, better, worse, lacking) for better, worse in pairs_of(form)],
    )


def pair_claim(
    outcomes: pd.DataFrame,
    rates: pd.DataFrame,
    better: str,
    worse: str,
    lacking: Callable[[str, str], str] | None = None,
    name: str = "gr_fig3",
    source: str = "gR Fig. 3",
) -> Claim:
    """That one method trains to a lower loss than another; arguments as of `order_claim`, and what the claim is called."""
    claim = Claim(
        f"{name}_{better}_{worse}",
        source,
        f"{better} trains to a lower loss than {worse}",
        compares=f"1 - {better} / {worse}, each at its best learning rate",
        endpoint="share of the mean training loss",
        smallest=VISIBLE,
    )
    if fault := tuning_fault(rates, better, worse) or (lacking(better, worse) if lacking else ""):
        return claim.untestable(fault)
    chosen = at_best_rates(outcomes[outcomes["method"].isin([better, worse])])
    losses = (chosen[chosen["method"] == method].set_index("seed")["mean_loss"] for method in (better, worse))
    return decided(claim, relative_gains(*losses))


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


def case_claim(name: str, source: str, case: Case) -> Claim:
    """That the rescaled rule has the lower error in one comparison of the bench."""
    claim = Claim(
        name,
        source,
        f"gate rescaling lowers the error: {case.comparison}",
        compares=f"1 - {RESCALED} at lr {case.rescaled_lr:.3g} / {PLAIN} at lr {case.plain_lr:.3g}",
        endpoint="share of the validation error",
        paper_effect=BENCH[USUAL] if source == REPRODUCED else None,
        smallest=BENCH[USUAL] / 2,
    )
    return decided(claim, loss_gains(case.rescaled, case.plain))


def backbone_claim(table: pd.DataFrame, condition: str, rescaled: str, plain: str) -> Claim:
    """That rescaling lowers training and test loss on the backbone under one condition."""
    first, second = (table[table["method"] == name].set_index("seed") for name in (rescaled, plain))
    name = f"gr_confound_{condition.replace(' ', '_').replace(',', '')}"
    parts = [
        decided(
            Claim(
                f"{name}_{measure}",
                OURS,
                f"gate rescaling lowers the {words} {condition}",
                compares=f"1 - ({rescaled}) / ({plain})",
                endpoint=f"share of the {words}",
                smallest=VISIBLE,
            ),
            relative_gains(first[measure], second[measure]),
        )
        for measure, words in {"mean_loss": "training loss", "loss": "test loss"}.items()
    ]
    return whole_of(name, OURS, f"gate rescaling lowers the backbone's loss {condition}", parts)


def decided(claim: Claim, effects: np.ndarray) -> Claim:
    """The claim with its verdict; not testable if a seed diverged, because its effect is not a number."""
    if not effects.size:
        return claim.untestable("the two methods have no common seed")
    if lost := int((~np.isfinite(effects)).sum()):
        return claim.untestable(f"training diverged at {lost} of {effects.size} seeds")
    return claim.with_effect(Effect(effects))


def runs_of(rows: pd.DataFrame, top_k: int, power: float) -> pd.DataFrame:
    return rows[(rows["top_k"] == top_k) & (rows["power"] == power)]
