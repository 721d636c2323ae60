"""What T-REX's Fig. 1, Lemma 4.1 and Theorems 4.2 and 4.3 claim, declared before it was measured, and the verdicts.

Only the titles of the two theorems are public to us: the claims judge our reading, and claims about training or fitting
are our own hypotheses. Counts, spans and closed forms are exact.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np
import pandas as pd

from ...evidence import Claim, Effect, whole_of
from ...evidence.intervals import seed_means
from .measure import Approximation, Intuition, Span, Systems, Used
from .used import USED_MEASURES

MIXTURE = "LoRA-MoE"
SAVING = (0.30, 0.40)  # the abstract's
QUADRATIC = 1.5  # a growth exponent closer to 2 than to 1
DIRECTION = 1.0  # one more direction is the smallest difference that can matter
CLOSER = 0.05  # of the best other error: less is not visible on the figure's logarithmic axis
QUIETER = 0.1  # in the logarithm: a tenth less noise


@singledispatch
def claims(found: Any) -> list[Claim]:
    """The claims that a result of this study decides; TypeError for another object."""
    raise TypeError(f"found is {type(found).__name__}, which is not a result of this study")


@claims.register
def of_systems(found: Systems) -> list[Claim]:
    """The abstract's savings on layers of different shapes; the abstract itself is judged with T-REX's Fig. 3."""
    layers = found.layers[found.layers["method"] == MIXTURE].set_index("layer")["saving"]
    name, source = "trex_fig1_parameters_any_layer", "our reading of the T-REX abstract"
    statement = f"T-REX has 30–40 % fewer trainable parameters than {MIXTURE}, whatever the shape of the layer"
    whole = found.backbone.set_index("method")["saving"]
    runs = {"the backbone of these runs": whole[MIXTURE]} if MIXTURE in whole else {}
    return [whole_of(name, source, statement, savings(name, source, runs | dict(layers)))]


def savings(name: str, source: str, counted: dict[str, float]) -> list[Claim]:
    """One claim per place where parameters were counted, {words: share saved compared with LoRA-MoE}."""
    low, high = SAVING
    return [
        Claim(
            f"{name}_{number}",
            source,
            f"30–40 % fewer than {MIXTURE} on {words}",
            saving,
            "0.3 to 0.4",
            float(max(low - saving, saving - high, 0.0)),
            bool(low <= saving <= high),
        )
        for number, (words, saving) in enumerate(counted.items(), start=1)
    ]


@claims.register
def of_span(found: Span) -> list[Claim]:
    """The lemma itself, and how the span grows with a budget."""
    gaps = (found.ranks["measured"] - found.ranks["predicted"]).abs()
    drawn = Claim(
        "trex_lemma41_drawn",
        "T-REX Lemma 4.1",
        "every span of the figure is rank(A)·rank(B) (number of layers that agree)",
        int((gaps == 0).sum()),
        len(gaps),
        float(gaps.max()),
        bool((gaps == 0).all()),
    )
    lemma = "I + J vectors span rank(A)·rank(B) dimensions, I·J at full rank; each update has rank min(I, J) or less"
    grows = [
        growth(found.budgets, count, words)
        for count, words in (("factors", "the factors only"), ("factors+router", "the router too"))
        if found.budgets["budget"].nunique() > 1  # any power fits one point
    ]
    return [whole_of("trex_lemma41", "T-REX Lemma 4.1", lemma, [drawn, *found.checks]), *grows]


def growth(budgets: pd.DataFrame, count: str, words: str) -> Claim:
    """How fast the span grows with the budget; there are two or more budgets."""
    name, source = f"trex_lemma41_growth_{count.replace('+', '_')}", "our reading of T-REX Lemma 4.1"
    statement = f"the span grows as the product I·J with a budget that pays for {words} (exponent in the budget)"
    exponent = budget_exponent(budgets, count)
    expected, residual = f"at least {QUADRATIC}", max(QUADRATIC - exponent, 0.0)
    return Claim(name, source, statement, exponent, expected, residual, exponent >= QUADRATIC)


def budget_exponent(budgets: pd.DataFrame, count: str) -> float:
    """Slope of mix-and-match's log(span) against log(budget), by least squares."""
    rows = budgets[(budgets["count"] == count) & (budgets["system"] == "mix_and_match")]
    return float(np.polyfit(np.log(rows["budget"].astype(float)), np.log(rows["span"].astype(float)), 1)[0])


@claims.register
def of_used(found: Used) -> list[Claim]:
    """What the factors of each mixing method can reach, exactly; what tokens use, compared with LoRA-MoE, over seeds."""
    reached = [
        Claim(
            f"trex_lemma41_reached_{method}",
            "our reading of T-REX Lemma 4.1, trained",
            f"trained factors of {method} have full rank, so that their span is I·J (number of layers that reach it)",
            int((layers["span"] == layers["experts"]).sum()),
            len(layers),
            float((layers["experts"] - layers["span"]).max()),
            bool((layers["span"] == layers["experts"]).all()),
        )
        for method, layers in found.reached.groupby("method", sort=False)
        if method != MIXTURE
    ]
    measures = list(USED_MEASURES)
    means = seed_means(found.used.astype(dict.fromkeys(measures, float)), measures)
    methods = dict.fromkeys(means["method"])
    return [*reached, *(used_claim(method, means) for method in methods if method != MIXTURE)]


def used_claim(method: str, means: pd.DataFrame) -> Claim:
    """More directions than LoRA-MoE in both measures; means: one row per method and seed."""
    source, name = "our reading of T-REX Lemma 4.1, trained", method.replace(",", "").replace(" ", "_")
    parts = []
    for measure, words in USED_MEASURES.items():
        part = Claim(
            f"trex_lemma41_used_{name}_{measure}",
            source,
            f"routings of {method} have a larger {words} than those of {MIXTURE}",
            kind="own",
            compares=f"{method} - {MIXTURE}",
            endpoint=f"{words}, mean over layers",
            smallest=DIRECTION,
        )
        table = means.pivot(index="seed", columns="method", values=measure)
        if MIXTURE in table:
            parts.append(part.with_effect(Effect((table[method] - table[MIXTURE]).dropna().to_numpy())))
        else:
            parts.append(part.untestable(f"no run of {MIXTURE}"))
    statement = f"tokens of {method} use more directions than those of {MIXTURE}"
    return whole_of(f"trex_lemma41_used_{name}", source, statement, parts)


@claims.register
def of_approximation(found: Approximation) -> list[Claim]:
    """The closed forms, and which system approximates best at equal budgets, family by family."""
    source = "our reading of T-REX Theorem 4.2"
    bound = "smallest errors of rank-1 experts from singular values, projections and Tucker-2 factors"
    best = [best_claim(found.by_seed, str(count)) for count in dict.fromkeys(found.by_seed["count"])]
    return [whole_of("trex_theorem42", source, bound, found.checks), *best]


def best_claim(by_seed: pd.DataFrame, count: str) -> Claim:
    """Mix-and-match compared with the best other system, seed by seed."""
    source, paid = "our reading of T-REX Theorem 4.2", count.replace("+", " and ")
    name, parts = f"trex_theorem42_best_{count.replace('+', '_')}", []
    rows = by_seed[by_seed["count"] == count]
    for family, table in rows.groupby("family", sort=False):
        errors = table.pivot(index="seed", columns="method", values="relative_error")
        others = errors.drop(columns="mix-and-match").min(axis=1)
        gaps = (1 - errors["mix-and-match"] / others).to_numpy()
        if count == "factors":
            # by construction: a fit of mix-and-match starts from the best smaller system
            parts.append(
                Claim(
                    f"{name}_{family}",
                    source,
                    f"consistency check: no smaller system has a smaller error on {family} targets (largest excess)",
                    float(max(-gaps.min(), 0.0)),
                    0.0,
                    float(max(-gaps.min(), 0.0)),
                    bool(gaps.min() >= -1e-9),
                )
            )
            continue
        part = Claim(
            f"{name}_{family}",
            source,
            f"if the budget pays for {paid}, mix-and-match approximates {family} targets best",
            kind="own",
            compares="1 - mix-and-match / best other system",
            endpoint="relative error",
            smallest=CLOSER,
        )
        parts.append(part.with_effect(Effect(gaps, "seeds of the targets")))
    if count == "factors":
        statement = (
            "consistency check: when only factors count as parameters, mix-and-match contains every other system"
        )
        return whole_of(name, source, statement, parts, kind="exact")
    statement = f"if the budget pays for {paid}, mix-and-match approximates every family of updates best"
    return whole_of(name, source, statement, parts)


@claims.register
def of_intuition(found: Intuition) -> list[Claim]:
    """The line search, and the noise of the router's gradient at every step after the start."""
    source = "our reading of T-REX Theorem 4.3"
    search = (
        "the best mix of router and prior is found by a line search; a better prior helps, and a worse one may help"
    )
    noise = np.log(found.noise.pivot(index=["step", "seed"], columns="prior", values="noise_to_signal"))
    gaps = noise["none"] - noise["aligned"]
    steps = sorted(found.noise["step"].unique())[1:]
    quieter = [
        Claim(
            f"trex_theorem43_noise_step_{step}",
            source,
            f"with an aligned prior, the router's gradient is less noisy at step {step}",
            kind="own",
            compares="no prior - aligned prior",
            endpoint="log of gradient variance over squared mean",
            smallest=QUIETER,
        ).with_effect(Effect(gaps.loc[step].to_numpy()))
        for step in steps
    ]
    statement = "an aligned prior makes the router's gradient less noisy in training"
    return [
        whole_of("trex_theorem43", source, search, found.checks),
        whole_of("trex_theorem43_noise", source, statement, quieter),
    ]
