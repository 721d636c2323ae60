"""The verdict on T-REX's Fig. 2, by a rule that was fixed before anything was measured."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .intervals import method_summary, paired_differences
from .smoothness import METHOD, OTHERS, verdict

PATH_MEASURES = {"tortuosity": "tortuosity {:.2f}", "turning_angle": "turning angle {:.1f}°"}
NOISE = {"momentum_tortuosity": "{:.2f}", "momentum_angle": "{:.1f}°"}


def trajectory_claims(
    smooth: pd.DataFrame, converged: pd.DataFrame, method: str = METHOD, others: Sequence[str] = OTHERS
) -> pd.DataFrame:
    """Columns source, claim, paper, measured, spread, verdict; frames of `smoothness` and `convergence` in.

    Smoother path: the method's tortuosity and turning angle are both lower than those of every other method, each
    95 % t interval of the differences paired by seed lying below zero. Sooner convergence: so is its mean loss
    over training. Fewer than three shared seeds decide nothing. Raises ValueError when a method is missing.

    >>> from moe_analysis.analysis.convergence import convergence
    >>> trajectory_claims(smooth, convergence(curves))["verdict"].tolist()  # two seeds decide nothing
    ['not testable at this scale', 'not testable at this scale']
    """
    path = _claim(smooth, PATH_MEASURES, method, others)
    noise = smooth.loc[smooth["method"] == method, list(NOISE)].mean()
    expected = ", ".join(text.format(noise[name]) for name, text in NOISE.items())
    path["measured"] += f" (gradients of pure noise: {expected})"
    loss = _claim(converged, {"mean_loss": "mean training loss {:.3f}"}, method, others)
    source = "T-REX Fig. 2"
    return pd.DataFrame(
        [
            {
                "source": source,
                "claim": "the intuition gives the router weights a smoother path",
                "paper": f"{method}'s path drawn smoother than those of {' and '.join(others)}",
                **path,
            },
            {
                "source": f"{source} (our reading)",
                "claim": "the smoother path comes with sooner convergence",
                "paper": "no number is given",
                **loss,
            },
        ]
    )


def _claim(frame: pd.DataFrame, measures: dict[str, str], method: str, others: Sequence[str]) -> dict[str, str]:
    """measured, spread and verdict of "lower than the others in all measures"."""
    differences = paired_differences(frame, list(measures), method, others)
    summary = method_summary(frame, list(measures)).set_index(["method", "measure"])["mean"]
    measured = [
        f"{name}: " + ", ".join(text.format(summary[name, measure]) for measure, text in measures.items())
        for name in (method, *others)
    ]
    spread = [
        f"{row.measure} against {row.against} {row.difference:+.3g} [{row.low:+.3g}, {row.high:+.3g}]"
        for row in differences.itertuples()
    ]
    seeds = int(differences["seeds"].min())
    return {
        "measured": "; ".join(measured),
        "spread": f"95 % intervals of differences over {seeds} seeds: {'; '.join(spread)}",
        "verdict": verdict(differences),
    }
