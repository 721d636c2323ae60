"""What happens to the experts while they learn: conditioning, similarity and load. Beyond gR."""

from __future__ import annotations

from .measure import ExpertAnatomy, measure

__all__ = ["ExpertAnatomy", "measure"]
