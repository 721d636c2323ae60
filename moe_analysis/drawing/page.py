"""An interactive figure as a separate page: the figure, its question, how to read it, and the outcome."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..cards import templates
from .layout import least_width, template

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from jinja2 import Environment

HERE = Path(__file__).parent
THEMES = ("light", "dark")


def page(
    fig: go.Figure,
    item: str,
    caption: Mapping[str, str] | None = None,
    claims: Sequence[Mapping[str, Any]] = (),
    picture: bool = False,
    script: str = "",
) -> str:
    """The text of an HTML page, light or dark, for screens down to a phone's width.

    Args:
        fig: the figure; its title becomes the page's title and its menus become lists on the page, labeled by `name`.
            A figure whose points are texts has them in `layout.meta["texts"]` (called, columns, rows; `customdata` is
            the row of a point); its page can search them and lists those that a lasso selects.
        item: the id of the figure's element, and the page's title if neither caption nor figure has one.
        caption: title, question, how_to_read, origin; each may be left out.
        claims: as `cards.claims.shown` returns them.
        picture: whether there are a picture and a PDF to link to.
        script: plotly's script, for a page without other files. Without it, plotly.min.js, the numbers and the
            gallery's index.html are expected next to the page.
    """
    told = {name: (caption or {}).get(name, "") for name in ("title", "question", "how_to_read", "origin")}
    told["title"] = told["title"] or re.sub("<[^>]*>", " ", fig.layout.title.text or item)
    drawn = json.loads(fig.to_json())
    height = drawn["layout"].pop("height", None)
    drawn["layout"].pop("title", None)
    drawn["layout"].pop("template", None)
    drawn["layout"]["margin"] = {"l": 12, "r": 16, "t": 32, "b": 12}
    content = {
        "item": item,
        "figure": {**drawn, "height": height},
        "templates": {theme: template(theme) for theme in THEMES},
    }
    stored = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        environment()
        .get_template("page.html")
        .render(
            item=item,
            claims=claims,
            picture=picture,
            least=least_width(fig),
            texts=(fig.layout.meta or {}).get("texts", {}).get("called", ""),
            figure=Markup(stored),
            script=Markup(script),
            **told,
        )
    )


def environment(*folders: Path) -> Environment:
    """jinja2 with the templates of these folders, of pages and of cards; everything except Markup is escaped."""
    return templates.environment(*folders, HERE)
