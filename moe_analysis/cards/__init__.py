"""How objects look in a notebook: cards of HTML in light and dark, with small drawings inside. Imports nothing of ours.

Every text is escaped by jinja2; a card asks for no script and no network.
"""

from __future__ import annotations
