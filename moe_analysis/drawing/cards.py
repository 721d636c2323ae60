"""The templates of pages, which hold cards of claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..cards import templates

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent


def environment(*folders: Path) -> Environment:
    """jinja2 with the templates of these folders, those of pages and those of cards; what is not Markup is escaped."""
    return templates.environment(*folders, HERE)
