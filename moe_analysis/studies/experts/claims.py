"""What gate rescaling may do to the experts: our own hypotheses, declared before they were measured.

They compare means over modules and over the second half of training, paired by seed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ...evidence import Claim, Effect, judged
from ...evidence.intervals import seed_means
from .anatomy import KEYS
from .measure import ExpertAnatomy

SOURCE = "our hypothesis, beyond gR"
PLAIN, RESCALED = "RSGD", "gRSGD"
LATE = 0.5  # of the steps: the second half of training is compared
ALIKE = 0.05  # of a cosine, whose scale ends at 1
CONDITION = 0.1  # of a decimal logarithm: about a quarter of the condition number
FOLLOWS = 0.5  # the rank correlation from which on the entropy says something about the balance
BELOW = 0.1  # of a rank correlation
QUESTIONS = {
    "update_similarity": ("gate rescaling makes the experts' updates less similar", "mean cosine", ALIKE),
    "map_similarity": ("gate rescaling makes the experts' maps less similar", "mean cosine", ALIKE),
    "output_similarity": ("gate rescaling makes the experts' outputs less similar", "mean cosine", ALIKE),
    "gram_condition_b": (
        "gate rescaling makes the Gram matrices of B better conditioned",
        "log10 of the condition number",
        CONDITION,
    ),
}


def claims(found: ExpertAnatomy) -> list[Claim]:
    """Less similar and better conditioned experts; and the balance of the load does not follow a token's entropy."""
    means = late_means([found.conditioning, found.similarity], list(QUESTIONS))
    declared = [
        Claim(
            f"gr_anatomy_{measure}",
            SOURCE,
            statement,
            kind="own",
            compares=f"{PLAIN} - {RESCALED}",
            endpoint=f"{endpoint}, second half of training",
            smallest=smallest,
        )
        for measure, (statement, endpoint, smallest) in QUESTIONS.items()
    ]
    effects = {claim.name: gaps(means, measure) for claim, measure in zip(declared, QUESTIONS)}
    return [*judged(declared, effects), entropy_claim(found.load)]


def gaps(means: pd.DataFrame, measure: str) -> Effect | str:
    """Plain minus rescaled of the seeds that both have in the second half of training.

    Raises:
        ValueError: for a method that was not run.
    """
    wide = means.pivot(index="seed", columns="method", values=measure)
    if missing := [name for name in (PLAIN, RESCALED) if name not in wide]:
        raise ValueError(f"no run of {', '.join(missing)}; the runs are of {', '.join(map(str, wide))}")
    differences = (wide[PLAIN] - wide[RESCALED]).dropna().to_numpy()
    return Effect(differences) if differences.size else f"no seed has a value of both {PLAIN} and {RESCALED}"


def late_means(frames: Sequence[pd.DataFrame], measures: Sequence[str]) -> pd.DataFrame:
    """Columns method, seed and the measures: means over modules and the second half of training.

    Condition numbers are averaged as logarithms; infinity and NaN are left out.
    """
    merged = frames[0]
    for frame in frames[1:]:
        merged = merged.merge(frame, on=list(KEYS), how="inner")
    late = merged[merged["step"] >= LATE * merged["step"].max()].copy()
    for name in measures:
        values = np.log10(late[name]) if name.startswith("gram_") else late[name]
        late[name] = values.where(np.isfinite(values))
    return seed_means(late, measures)


def entropy_claim(load: pd.DataFrame) -> Claim:
    """That the entropy of a token's gates, which many reports call load balance, does not follow that balance.

    The rank correlation is over modules and steps, in each run; methods are averaged within a seed.
    """
    found = {
        key: rows["token_entropy"].corr(rows["load_balance"], method="spearman")
        for key, rows in load.groupby(["method", "seed"], sort=False)
    }
    by_seed = pd.Series(found).groupby(level=1).agg(lambda values: values.mean(skipna=False))
    declared = Claim(
        "gr_anatomy_entropy",
        SOURCE,
        "the balance of the load does not follow the entropy of a token's gates",
        kind="own",
        compares=f"{FOLLOWS} - rank correlation of the two",
        endpoint="Spearman's rank correlation",
        smallest=BELOW,
    )
    return declared.with_effect(Effect(FOLLOWS - by_seed.to_numpy()))
