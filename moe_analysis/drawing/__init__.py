"""How things look: style, marks, pages, and a figure on disk. Knows nothing of what is drawn."""

from __future__ import annotations

from .notebook import claim_cards, folded
from .save import SaveError, save, save_page

__all__ = ["SaveError", "claim_cards", "folded", "save", "save_page"]
