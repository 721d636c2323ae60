"""How do the weights of routers move while they learn, and how smooth are their paths? T-REX Fig. 2."""

from __future__ import annotations

from .measure import RouterPaths, measure

__all__ = ["RouterPaths", "measure"]
