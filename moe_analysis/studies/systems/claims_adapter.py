"""Your own adapter against each other system: your hypothesis on each endpoint."""

from __future__ import annotations

from ...evidence import Claim
from .claims import versus
from .endpoints import ENDPOINTS
from .measure import OwnAdapter

MATTERS = 0.01  # a point: what a reader of a table would see


def claims(found: OwnAdapter) -> list[Claim]:
    """One claim per endpoint, with a part per other system."""
    others = [method for method in found.methods if method != found.name]
    return [
        versus(found, "own_adapter", "your adapter", part, found.name, others, MATTERS, kind="own")
        for part in ENDPOINTS
        if part in set(found.scores["part"])
    ]
