"""What gate rescaling does to the experts, judged by rules that were fixed before anything was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .experts import KEYS
from .intervals import MIN_SEEDS, mean_interval, paired_differences, seed_means
from .optimizers import verdict_of

SOURCE = "beyond gR"
LATE = 0.5  # of the steps: what is compared is the second half of training
QUESTIONS = (
    ("update_similarity", "gate rescaling makes the experts' updates less alike"),
    ("map_similarity", "gate rescaling makes the experts' maps less alike"),
    ("output_similarity", "gate rescaling makes the experts' outputs less alike"),
    ("gram_condition_b", "gate rescaling leaves the Gram matrices of B better conditioned"),
)


def late_means(frames: Sequence[pd.DataFrame], measures: Sequence[str]) -> pd.DataFrame:
    """Columns method, seed and the measures: means over modules and the second half of training.

    Condition numbers are averaged as logarithms; what is not finite is left out.
    """
    merged = frames[0]
    for frame in frames[1:]:
        merged = merged.merge(frame, on=list(KEYS), how="inner")
    late = merged[merged["step"] >= LATE * merged["step"].max()].copy()
    for name in measures:
        values = np.log10(late[name]) if name.startswith("gram_") else late[name]
        late[name] = values.where(np.isfinite(values))
    return seed_means(late, measures)


def anatomy_claims(
    conditioning: pd.DataFrame,
    similarity: pd.DataFrame,
    load: pd.DataFrame,
    method: str = "gRSGD",
    against: str = "RSGD",
) -> pd.DataFrame:
    """Columns source, claim, paper, measured, spread, verdict; frames of `analysis.experts` in.

    "Less alike" and "better conditioned": the 95 % interval of the difference paired by seed, in the second half of
    training, lies below zero. "A token's entropy tells the balance of the load": over modules and steps their rank
    correlation is at least 1/2 in every method and seed.

    >>> anatomy_claims(*expert_frames)["verdict"].unique().tolist()
    ['not testable at this scale']
    """
    means = late_means([conditioning, similarity], [name for name, _ in QUESTIONS])
    rows = []
    for measure, claim in QUESTIONS:
        gap: dict[Any, Any] = paired_differences(means, [measure], method, [against]).iloc[0].to_dict()
        values = means.groupby("method")[measure].mean()
        label = "log10 of the condition number" if measure.startswith("gram_") else "mean cosine"
        rows.append(
            {
                "source": SOURCE,
                "claim": claim,
                "paper": "not measured there",
                "measured": f"{label}: {method} {values[method]:.3f}, {against} {values[against]:.3f}",
                "spread": f"difference {gap['difference']:+.3f}, 95 % interval [{gap['low']:+.3f}, {gap['high']:+.3f}] "
                f"over {int(gap['seeds'])} paired seeds",
                "verdict": verdict_of(gap["high"], int(gap["seeds"])),
            }
        )
    return pd.DataFrame([*rows, entropy_claim(load)])


def entropy_claim(load: pd.DataFrame) -> dict[str, Any]:
    """Whether the entropy of a token's gates, which many reports call load balance, follows the balance of the load."""
    found = np.array(
        [
            rows["token_entropy"].corr(rows["load_balance"], method="spearman")
            for _, rows in load.groupby(["method", "seed"], sort=False)
        ]
    )
    mean, low, high = mean_interval(found)
    if np.isnan(found).any() or load["seed"].nunique() < MIN_SEEDS:
        verdict = "not testable at this scale"
    else:
        verdict = "reproduced" if (found >= 0.5).all() else "not reproduced"
    return {
        "source": SOURCE,
        "claim": "the entropy of a token's gates tells how balanced the load is",
        "paper": "an independent reproduction warns that it does not",
        "measured": f"rank correlation {mean:+.2f}; entropy {load['token_entropy'].mean():.2f}, "
        f"load balance {load['load_balance'].mean():.2f}",
        "spread": f"95 % interval [{low:+.2f}, {high:+.2f}] over methods and seeds",
        "verdict": verdict,
    }
