"""Our hypothesis that T-REX's intuition makes routing semantic, compared with the same system without intuition.

T-REX's gates contain the prior, so the first two are partly true by construction; the last one asks whether the router
learned it.
"""

from __future__ import annotations

from ...evidence import Claim, Effect
from .claims import SPECIALIZED, rows_of
from .measure import ALONE, CONTROL, PRIOR, RoutingExperts

# view of the gates, system, name, subject of the claim
VIEWS = (
    ("gates", PRIOR, "gates", "routing"),
    ("top1", PRIOR, "top1", "the largest gate"),
    ("gates", ALONE, "router", "the learned router"),
)


def claims(found: RoutingExperts) -> list[Claim]:
    """About the routing, its largest gate, and the router without the prior; none of the papers measured it."""
    told = []
    for view, method, name, what in VIEWS:
        claim = Claim(
            f"trex_semantic_{name}",
            "beyond T-REX, intuition",
            f"intuition makes {what} reveal the semantic cluster",
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
