"""How things look: style, marks, pages, and saved figures. It does not depend on what is drawn."""

from __future__ import annotations

from .notebook import claim_cards, folded
from .save import SaveError, save, save_page

__all__ = ["SaveError", "claim_cards", "folded", "save", "save_page"]
