"""Whether the tuning was wide enough: no best rate lies at an end of the grid, beyond which nothing was tried."""

from __future__ import annotations

from ...evidence import Claim
from .tuned import SystemRates


def claims(found: SystemRates) -> list[Claim]:
    """One statement about all systems."""
    at_an_end = int((found.chosen["end"] != "").sum())
    return [
        Claim(
            f"{found.item}_inside",
            "our tuning",
            "the best learning rate of every system lies inside the grid",
            measured=at_an_end,
            expected=0,
            residual=float(at_an_end),
            holds=at_an_end == 0,
        )
    ]
