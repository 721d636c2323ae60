"""How a result looks in a notebook: question, picture, outcome, claims as cards, and tables that open on a click."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from markupsafe import Markup

from ..cards.claims import shown
from ..cards.templates import cell_html
from ..evidence import Claim, described

ROWS = 60  # of a table that are shown; of a longer one the first and the last rows


@dataclass(frozen=True)
class Shown:
    """Something that a notebook shows as HTML and a terminal as text."""

    html: str = field(repr=False)
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def folded(title: str, table: Any) -> Shown:
    """A table under its title, which opens on a click.

    Args:
        title: What the table contains.
        table: A DataFrame, a Series, or a styled table (`frame.style`).

    Example:
        >>> ma.drawing.folded("squares", pd.DataFrame({"n": [2, 3], "square": [4, 9]}))
        squares
           n  square
        0  2       4
        1  3       9
    """
    frame = table.data if hasattr(table, "data") else table
    return Shown(shown_html(tables={title: table}), f"{title}\n{frame}")


def claim_cards(claims: Iterable[Claim]) -> Shown:
    """Claims as cards: the statement, the verdict, and the interval that decided.

    Example:
        >>> ma.drawing.claim_cards([ma.evidence.Claim("toy_sum", "arithmetic", "1 + 1 = 2", 2, 2, 0.0, True)])
        1 + 1 = 2: holds
    """
    listed = list(claims)
    text = "\n".join(f"{claim.statement}: {claim.verdict}" for claim in listed)
    return Shown(shown_html(claims=listed), text)


def shown_html(
    caption: Mapping[str, str] | None = None,
    picture: bytes = b"",
    in_short: str = "",
    claims: Iterable[Claim] = (),
    tables: Mapping[str, Any] | None = None,
) -> str:
    """The HTML of a cell's output; every part may be left out.

    Args:
        caption: title, question, how_to_read, origin.
        picture: A PNG.
        in_short: The outcome in one sentence.
        claims: Shown as cards.
        tables: Title -> table; each opens on a click.
    """
    told = {name: (caption or {}).get(name, "") for name in ("title", "question", "how_to_read", "origin")}
    return cell_html(
        "notebook.html",
        **told,
        picture=base64.b64encode(picture).decode(),
        in_short=in_short,
        claims=[shown(described(claim)) for claim in claims],
        tables={name: Markup(table_html(table)) for name, table in (tables or {}).items()},
    )


def table_html(table: Any) -> str:
    """A table as HTML; the middle of a long one is left out."""
    frame = table.to_frame() if isinstance(table, pd.Series) else table
    return str(frame.to_html(max_rows=ROWS, border=0) if isinstance(frame, pd.DataFrame) else frame.to_html())
