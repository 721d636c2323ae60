"""The manual's table of what the adapters do in which situation, as a page of the gallery."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path

from markupsafe import Markup

from ..drawing.page import environment
from ..places import IN_CLONE, PACKAGE

HERE = Path(__file__).parent
SOURCE = PACKAGE.parent / "docs" / "pages" / "contract.md"  # `python -m tests.peft_bridge.contract` writes it
MARKED = {"right": ("yes", "✓"), "refused": ("open", "–")}  # word of a cell -> (class in cards.css, mark)


def contract_page(source: Path = SOURCE) -> str:
    """The HTML page; empty outside a clone, where there is no manual."""
    if not (IN_CLONE and source.is_file()):
        return ""
    heading, *blocks = source.read_text("utf-8").strip().split("\n\n")
    body = Markup("\n".join(html_of(block.split("\n")) for block in blocks))
    return environment(HERE).get_template("contract.html").render(title=heading.removeprefix("# "), body=body)


def html_of(lines: list[str]) -> str:
    """A paragraph, a list or a table of Markdown."""
    if lines[0].startswith("- "):
        return f"<ul>{''.join(f'<li>{marked_up(line[2:])}</li>' for line in lines)}</ul>"
    if not lines[0].startswith("|"):
        return f"<p>{marked_up(' '.join(lines))}</p>"
    head, _, *rows = (list(cells(line)) for line in lines)
    top = "".join(f'<th scope="col">{marked_up(cell)}</th>' for cell in head)
    body = "".join(
        f"<tr>{''.join(cell_of(text, name) for text, name in zip(row, head, strict=True))}</tr>" for row in rows
    )
    return f'<table class="wide cells"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def cells(line: str) -> Iterator[str]:
    yield from (cell.strip() for cell in line.strip().strip("|").split("|"))


def cell_of(text: str, column: str) -> str:
    """A cell; words of `MARKED` get a color and a mark, and other cells are headings of their row."""
    if text not in MARKED:
        return f'<th scope="row">{marked_up(text)}</th>'
    kind, mark = MARKED[text]
    badge = f'<span class="badge {kind}"><span aria-hidden="true">{mark}</span> {text}</span>'
    return f'<td data-label="{escape(column)}">{badge}</td>'


def marked_up(text: str) -> Markup:
    """`code` and *emphasis* of Markdown, everything else escaped.

    >>> marked_up("*right*: `a < b`")
    Markup('<em>right</em>: <code>a &lt; b</code>')
    """
    told = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return Markup(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", told))
