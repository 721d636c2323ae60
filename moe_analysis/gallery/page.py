"""The gallery's HTML: the template filled with the entries, its style and script inside, so that one file is all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from .entries import Entry, Paper, count_verdicts
from .shelves import ORIGINS

HERE = Path(__file__).parent
# verdict -> (class in style.css, mark that tells it without colour, short name)
MARKS = {
    "reproduced": ("yes", "✓", "reproduced"),
    "holds": ("yes", "✓", "holds"),
    "supported": ("yes", "✓", "supported"),
    "in part": ("open", "◐", "in part"),
    "not reproduced": ("no", "✗", "not reproduced"),
    "contradicted": ("no", "✗", "contradicted"),
    "fails": ("no", "✗", "fails"),
    "not supported": ("no", "✗", "not supported"),
    "undecided": ("open", "?", "undecided"),
    "not testable here": ("open", "–", "not testable"),
    "not testable at this scale": ("open", "–", "not testable"),
}


def render(groups: Mapping[Paper, Sequence[Entry]]) -> str:
    """The whole page for the papers and their items, in the order in which they come."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    loader = FileSystemLoader(HERE, encoding="utf-8")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    editions = [entry for group in groups.values() for entry in group]
    entries = [entry for entry in editions if entry.leads]
    presets = sorted({entry.record.preset.get("preset", "quick") for entry in entries if entry.record})
    return environment.get_template("page.html").render(
        groups={
            paper: [list(pair) for _, pair in groupby(group, lambda entry: entry.id)] for paper, group in groups.items()
        },
        origins={entry.origin: ORIGINS[entry.origin] for entry in editions if entry.record},
        entries=entries,
        made=sum(entry.record is not None for entry in entries),
        presets=presets,
        totals=count_verdicts(entries),
        count=count_verdicts,
        marks=MARKS,
        style=Markup((HERE / "style.css").read_text("utf-8")),
        script=Markup((HERE / "script.js").read_text("utf-8")),
    )
