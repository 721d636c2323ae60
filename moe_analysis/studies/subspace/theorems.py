"""The numbers of T-REX Theorems 4.2 and 4.3, in our reading: tables over families, budgets, priors and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ...evidence.intervals import mean_interval
from ...theory.trex_approximation import COUNTS, FAMILIES, approximation_errors, target_family
from ...theory.trex_intuition import Parabola, random_parabolas
from ..records import seed_bands

LABELS = {"lora": "LoRA", "moe_lora": "LoRA-MoE", "diagonal": "rank-1 diagonal", "mix_and_match": "mix-and-match"}
CASES = (
    "prior better, a mix is best",
    "prior worse, a mix is best",
    "the router alone is best",
    "the prior alone is best",
)


def approximation_frame(
    parameters: int = 288, num_experts: int = 4, seeds: Sequence[int] = (0, 1, 2), restarts: int = 1
) -> pd.DataFrame:
    """Theorem 4.2: `approximation_errors` for every target family, way of counting parameters and seed.

    Columns family, count, seed, method (label), size, relative_error. Targets are 12 updates of 16 x 20.

    >>> found = approximation_frame(parameters=144, num_experts=2, seeds=(0,))
    >>> found["family"].unique().tolist(), found["count"].unique().tolist()
    (['shared', 'clustered', 'unstructured'], ['factors', 'factors+gates', 'factors+router'])
    """
    frames = []
    with threadpool_limits(1):  # for such small matrices, several threads of BLAS only wait for each other
        for family, seed, count in product(FAMILIES, seeds, COUNTS):
            targets = target_family(family, seed=seed)
            errors = approximation_errors(targets, parameters, num_experts, count, restarts, seed)
            frames.append(errors.assign(family=family, count=count, seed=seed, method=errors["method"].map(LABELS)))
    frame = pd.concat(frames, ignore_index=True)
    return frame[["family", "count", "seed", "method", "size", "relative_error"]]


def approximation_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns family, count, method, size, mean, low, high (over seeds), best: smallest mean of its family and count.

    >>> found = approximation_summary(approximation)
    >>> found.groupby(["family", "count"])["best"].sum().unique().tolist()  # one best of each
    [1]
    """
    keys = ["family", "count", "method", "size"]
    table = seed_bands(frame, keys, "relative_error").drop(columns="seeds")
    return table.assign(best=table["mean"] == table.groupby(["family", "count"])["mean"].transform("min"))


def case_of(parabola: Parabola) -> str:
    """Which of CASES a line search belongs to."""
    if parabola.best == 1.0:
        return CASES[2]
    if parabola.best == 0.0:
        return CASES[3]
    return CASES[0] if parabola.prior < parabola.router else CASES[1]


def line_search_frame(seed: int = 0, points: int = 101, problems: int = 200) -> pd.DataFrame:
    """Theorem 4.3: one random quadratic routing problem of each case, along the line from prior to router.

    Of the problems of a case, the one whose best share is closest to one half is shown, because there it is clearest.

    Columns case, omega, loss (of the mix, evaluated point by point, in units of its larger end), best_omega and
    best_loss (closed form), problems: how many of the drawn problems fall into the case.

    >>> for case in line_search_frame(points=11, problems=40)["case"].unique():
    ...     print(case)
    prior better, a mix is best
    prior worse, a mix is best
    the router alone is best
    the prior alone is best
    """
    drawn = random_parabolas(problems, seed)
    found = [case_of(parabola) for parabola, _ in drawn]
    omega, frames = np.linspace(0, 1, points), []
    for case in CASES:
        if case not in found:
            continue
        of_case = [problem for problem, name in zip(drawn, found, strict=True) if name == case]
        parabola, (R, P, target, H) = min(of_case, key=lambda problem: abs(problem[0].best - 0.5))
        gaps = omega[:, None] * R + (1 - omega[:, None]) * P - target  # (points, E)
        losses, largest = 0.5 * np.einsum("we,ef,wf->w", gaps, H, gaps), max(parabola.prior, parabola.router)
        frames.append(
            pd.DataFrame(
                {
                    "case": case,
                    "omega": omega,
                    "loss": losses / largest,
                    "best_omega": parabola.best,
                    "best_loss": parabola.loss(parabola.best) / largest,
                    "problems": len(of_case),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def noise_against_none(noise: pd.DataFrame) -> pd.DataFrame:
    """`router_gradient_noise` relative to no prior, paired by seed and step.

    Columns prior, step, ratio (geometric mean over seeds), low, high (95 % t interval on the logarithms), seeds;
    one row for each step of "aligned" and "mismatched". Below 1, the prior makes the gradient less noisy.

    >>> noise_against_none(noise)[["prior", "step", "seeds"]]
            prior  step  seeds
    0     aligned     0      3
    1     aligned     2      3
    2  mismatched     0      3
    3  mismatched     2      3
    """
    table = noise.pivot(index=["step", "seed"], columns="prior", values="noise_to_signal")
    rows = []
    for prior in [name for name in dict.fromkeys(noise["prior"]) if name != "none"]:
        for step, gaps in np.log(table[prior] / table["none"]).groupby("step"):
            rows.append((prior, step, *np.exp(mean_interval(gaps.to_numpy())), len(gaps)))
    return pd.DataFrame(rows, columns=["prior", "step", "ratio", "low", "high", "seeds"])
