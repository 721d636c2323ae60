"""Our hypothesis that T-REX's intuition makes routing semantic, against the same system without intuition.

The prior is in T-REX's gates, so the first two hold in part by construction; the last asks whether the router learned it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...evidence import Claim, Effect
from .claims import SPECIALIZED, rows_of
from .measure import ALONE, CONTROL, PRIOR

if TYPE_CHECKING:
    from .measure import RoutingExperts

# view of the gates, system, name, what is said to tell
VIEWS = (
    ("gates", PRIOR, "gates", "routing"),
    ("top1", PRIOR, "top1", "the largest gate"),
    ("gates", ALONE, "router", "the learned router"),
)


def claims(found: RoutingExperts) -> list[Claim]:
    """Routing, its largest gate, and the router without the prior; none of the papers measured it."""
    told = []
    for view, method, name, what in VIEWS:
        claim = Claim(
            f"trex_semantic_{name}",
            "beyond T-REX, intuition",
            f"intuition makes {what} tell the semantic cluster",
            compares=f"{method} - {CONTROL}",
            endpoint="information beyond shuffled texts, share of the labels' entropy",
            smallest=SPECIALIZED,
        )
        if missing := [one for one in (method, CONTROL) if one not in set(found.informed["method"])]:
            told.append(claim.untestable(f"no run of {' or '.join(missing)}"))
            continue
        rows = rows_of(found.informed, "cluster", view)
        means = rows.pivot_table(index="seed", columns="method", values="normalized")
        told.append(claim.with_effect(Effect((means[method] - means[CONTROL]).dropna().to_numpy())))
    return told
