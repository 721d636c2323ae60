"""The templates and styles of cards, for a notebook's cell and for the inside of a page."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .claims import MARKS, interval, over, slug
from .in_words import told_origin

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

HERE = Path(__file__).parent


@cache
def environment(*folders: Path) -> Environment:
    """jinja2 with the templates of these folders, then those of the cards; what is not Markup is escaped.

    A template calls `inline("name.css")` for a file of theirs.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader([*folders, HERE], encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals.update(marks=MARKS, interval=interval, slug=slug, over=over, told_origin=told_origin)
    found.globals["inline"] = lambda name: inline(name, *folders)
    return found


def inline(name: str, *folders: Path) -> Markup:
    """A style or script of one of these folders, or of the cards, for the inside of a page."""
    from markupsafe import Markup

    path = next(path for folder in (*folders, HERE) if (path := folder / name).is_file())
    return Markup(path.read_text("utf-8"))


def style() -> str:
    """The style of the cards and their surroundings, for the inside of one rule: it reaches nothing else on the page."""
    colors, *others = (str(inline(f"{name}.css")) for name in ("colors", "notebook", "claims", "objects"))
    return "\n".join([colors.replace(":root", "&"), *others])


def cell_html(template: str, *folders: Path, **values: Any) -> str:
    """The HTML of a notebook's cell, with its style.

    Args:
        template: the name of a file in one of the folders, or of the cards.
        folders: searched before the cards'.
        values: what the template shows.
    """
    from markupsafe import Markup

    return environment(*folders).get_template(template).render(style=Markup(style()), **values)
