"""What did a few training steps change? The loss, the routers, and the experts of one sentence."""

from __future__ import annotations

from .measure import FirstSteps, measure

__all__ = ["FirstSteps", "measure"]
