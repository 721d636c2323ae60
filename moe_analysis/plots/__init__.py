"""Figures: each module draws what the analysis of the same name returned, once for paper and once to explore."""

from __future__ import annotations

from ..drawing.save import SaveError, save

__all__ = ["SaveError", "save"]
