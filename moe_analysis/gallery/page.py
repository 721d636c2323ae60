"""The gallery's HTML: the template filled with the entries, with style and script inside, so that one file is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from ..cards.whose import WHOSE
from ..drawing.page import environment
from .entries import Entry, Paper, count_verdicts, counts_by
from .shelves import ORIGINS

HERE = Path(__file__).parent
DENSE = 1.8  # pixels of a stored picture per pixel of the screen; its smallest letters then have nine pixels


def readable(width: int) -> int:
    """The smallest width in CSS pixels at which a picture of this many pixels is readable."""
    return round(width / DENSE)


def render(groups: Mapping[Paper, Sequence[Entry]], states: Mapping[str, int], contract: bool = False) -> str:
    """The whole page for the papers and their items, in the given order.

    states: how many lines of the report are "measured", "open" and "not here". contract: whether there is a page about
    what the adapters do to link to.
    """
    editions = [entry for group in groups.values() for entry in group]
    entries = [entry for entry in editions if entry.leads]
    presets = sorted({entry.record.preset.get("preset", "quick") for entry in entries if entry.record})
    totals = {heading: count_verdicts(entries, whose) for whose, heading in WHOSE.items()}
    return (
        environment(HERE)
        .get_template("gallery.html")
        .render(
            groups={
                paper: [list(pair) for _, pair in groupby(group, lambda entry: entry.id)]
                for paper, group in groups.items()
            },
            origins={entry.origin: ORIGINS[entry.origin] for entry in editions if entry.record},
            entries=entries,
            made=sum(entry.record is not None for entry in entries),
            presets=presets,
            states=states,
            totals=totals,
            studies=sorted({entry.study for entry in entries if entry.study}),
            contract=contract,
            readable=readable,
            verdicts=list(dict.fromkeys(verdict for counts in totals.values() for verdict in counts)),
            counts_by=counts_by,
        )
    )
