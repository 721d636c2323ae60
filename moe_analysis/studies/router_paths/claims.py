"""What T-REX's Fig. 2 claims, declared before it was measured, and the verdicts.

The paper only shows a plot. A path counts as smoother if the difference is visible: a tenth.
"""

from __future__ import annotations

from dataclasses import replace

from ...evidence import Claim, Effect
from ...evidence.intervals import relative_gaps
from .measure import RouterPaths
from .smoothness import METHOD, OTHERS

VISIBLE = 0.1  # of the other method's value
SOONER = 0.05  # of the other method's mean loss
MEASURES = {"tortuosity": "path length over displacement", "turning_angle": "angle between successive steps"}


def claims(found: RouterPaths) -> list[Claim]:
    """Smoother paths, in both measures and compared with both methods; and, our own claim, earlier convergence."""
    smoother = Claim(
        "trex_fig2_smoother",
        "T-REX Fig. 2",
        "the intuition gives the router weights a smoother path",
        compares=f"{METHOD} against {' and '.join(OTHERS)}",
        endpoint="relative difference",
        smallest=VISIBLE,
    )
    parts = [
        replace(
            smoother,
            name=f"{smoother.name}_{measure}_{other}",
            statement=f"the path of {METHOD} has a smaller {words} than that of {other}",
            compares=f"1 - {METHOD} / {other}",
            endpoint=f"{words}, mean over modules",
        ).with_effect(Effect(relative_gaps(found.smooth, measure, METHOD, other)))
        for measure, words in MEASURES.items()
        for other in OTHERS
    ]
    sooner = Claim(
        "trex_fig2_sooner",
        "our reading of T-REX Fig. 2",
        "the smoother path comes with earlier convergence",
        kind="own",
        compares=f"{METHOD} against {' and '.join(OTHERS)}",
        endpoint="relative difference",
        smallest=SOONER,
    )
    losses = [
        replace(
            sooner,
            name=f"{sooner.name}_{other}",
            statement=f"the mean training loss of {METHOD} is below that of {other}",
            compares=f"1 - {METHOD} / {other}",
            endpoint="mean training loss",
        ).with_effect(Effect(relative_gaps(found.converged, "mean_loss", METHOD, other)))
        for other in OTHERS
    ]
    return [smoother.with_parts(parts), sooner.with_parts(losses)]
