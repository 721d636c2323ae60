"""What T-REX's Fig. 2 claims, declared before it was measured, and the verdicts.

The paper only shows a plot. A path counts as smoother if the difference is visible: a tenth.
"""

from __future__ import annotations

from ...evidence import Claim, Effect, family_of
from ...evidence.intervals import relative_gaps
from .measure import RouterPaths
from .smoothness import METHOD, OTHERS

VISIBLE = 0.1  # of the other method's value
READING = "our reading of T-REX Fig. 2"
SOONER = 0.05  # of the other method's mean loss
MEASURES = {"tortuosity": "path length over displacement", "turning_angle": "angle between successive steps"}


def claims(found: RouterPaths) -> list[Claim]:
    """Smoother paths, in both measures and compared with both methods; and, our own claim, earlier convergence."""
    paths = {
        (measure, other): Claim(
            f"trex_fig2_smoother_{measure}_{other}",
            "T-REX Fig. 2",
            f"the path of {METHOD} has a smaller {words} than that of {other}",
            compares=f"1 - {METHOD} / {other}",
            endpoint=f"{words}, mean over modules",
            smallest=VISIBLE,
        )
        for measure, words in MEASURES.items()
        for other in OTHERS
    }
    losses = {
        other: Claim(
            f"trex_fig2_sooner_{other}",
            READING,
            f"the mean training loss of {METHOD} is below that of {other}",
            kind="own",
            compares=f"1 - {METHOD} / {other}",
            endpoint="mean training loss",
            smallest=SOONER,
        )
        for other in OTHERS
    }
    return [
        family_of(
            "trex_fig2_smoother",
            "T-REX Fig. 2",
            "the intuition gives the router weights a smoother path",
            list(paths.values()),
            {
                path.name: Effect(relative_gaps(found.smooth, measure, METHOD, other))
                for (measure, other), path in paths.items()
            },
        ),
        family_of(
            "trex_fig2_sooner",
            READING,
            "the smoother path comes with earlier convergence",
            list(losses.values()),
            {loss.name: Effect(relative_gaps(found.converged, "mean_loss", METHOD, of)) for of, loss in losses.items()},
        ),
    ]
