"""The reproducibility report: every item of the papers, its setting and ours, what follows, and how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import yaml

from ..drawing.page import environment
from ..papers import BEYOND, GR, SMORE, TREX, Item, verdicts_of
from ..places import shipped
from ..tasks.suite import BUILT_IN, DATA_VARIABLE
from .entries import OTHERS, PAPERS, Entry, Paper, program
from .manual import marked_up
from .shelves import Shelf

HERE = Path(__file__).parent
STATES = ("measured", "open", "not here")
LISTS = dict(zip((*PAPERS, OTHERS), (TREX, GR, SMORE, BEYOND), strict=True))


@dataclass(frozen=True)
class Line:
    """One item of the report.

    Args:
        item: of `papers`.
        verdicts: verdict -> how many, as last measured, by the words that say whose claims they are.
        measured: with how many runs, seeds and steps, and with which preset; empty if nothing was measured.
        commands: the commands that measure it again.
        anchor: its card in the gallery; empty if there is none.
        reason: why it was not measured; empty if it was.
    """

    item: Item
    verdicts: Mapping[str, Counter[str]]
    measured: str
    commands: Sequence[str]
    anchor: str
    reason: str

    @property
    def state(self) -> str:
        """Which of the three kinds of lines it is."""
        return "measured" if self.verdicts or self.measured else "open" if self.commands else "not here"


def report_page(groups: Mapping[Paper, Sequence[Entry]], shelves: Sequence[Shelf]) -> str:
    """The HTML page for the items as the gallery has them."""
    lines = report_lines(groups, shelves)
    template = environment(HERE).get_template("report.html")
    return template.render(lines=lines, count=count, rows_of=rows_of, marked_up=marked_up)


def rows_of(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    """The name of each row and its lines.

    Neighboring items that cannot be run here and have the same texts share a row, such as "gR Table 1 to 10".
    """

    def told(line: Line) -> tuple[str, ...]:
        own = line.reason if line.state == "not here" else line.item.id
        return own, line.item.says, line.item.paper_setting, line.item.follows

    for _, group in groupby(lines, told):
        row = list(group)
        first, last = row[0].item.source, row[-1].item.source
        yield first if first == last else f"{first} to {last.split()[-1]}", row


def report_lines(groups: Mapping[Paper, Sequence[Entry]], shelves: Sequence[Shelf]) -> dict[Paper, list[Line]]:
    """The lines of the report by paper."""
    entries = {entry.id: entry for group in groups.values() for entry in group if entry.leads}
    folder = shelves[0].folder if shelves else None
    return {paper: [line_of(item, entries, folder) for item in items] for paper, items in LISTS.items()}


def states_of(groups: Mapping[Paper, Sequence[Entry]], shelves: Sequence[Shelf]) -> dict[str, int]:
    """How many lines of the report are of each kind."""
    lines = [line for group in report_lines(groups, shelves).values() for line in group]
    return {state: count(lines, state) for state in STATES}


def count(lines: Sequence[Line], state: str) -> int:
    return sum(line.state == state for line in lines)


def line_of(item: Item, entries: Mapping[str, Entry], folder: Path | None) -> Line:
    """What the records, the stored checks and the list of items say about one item."""
    shown = entries.get(item.id if item.study else item.part_of)
    place = shown.shelf.folder if shown and shown.shelf and shown.record else folder
    checked = folder and verdicts_of(item, folder)  # the checks are stored once, next to the first figures
    told = (place and verdicts_of(item, place)) or checked or {}
    commands = [shown.command] if shown and shown.command and (item.study or not item.checks) else []
    if item.checks:
        commands.append(program("verify", ["--only", item.checks]))
    commands += [data_given(file) + program("sweep", [file, "--for", "2h"]) for file in item.campaigns]
    made = shown if shown and shown.record and (item.study or not item.checks) else None
    return Line(
        item,
        told,
        measured_of(made) if made else "computed exactly by `verify`" if told else "",
        commands,
        made.anchor if made else "",
        "" if told or made else item.reason,
    )


def data_given(campaign: str) -> str:
    """What stands before the command of a campaign whose data sets are not shipped; data/README.md describes them.

    >>> data_given("campaigns/compact.yaml"), data_given("campaigns/smollm2_multitask.yaml")
    ('', 'MOE_ANALYSIS_DATA=path/to/folder ')
    """
    text = (shipped("campaigns") / Path(campaign).name).read_text("utf-8")
    return f"{DATA_VARIABLE}=path/to/folder " if suites_of(text) - set(BUILT_IN) else ""


@lru_cache
def suites_of(campaign: str) -> frozenset[str]:
    """The suites that the text of a campaign names; a page asks for the same few campaigns a dozen times."""
    sections = yaml.safe_load(campaign)
    changes = sections["final"].get("changes") or {}
    return frozenset({sections["base"].get("suite", BUILT_IN[0]), *(changes.get("transfer_suites") or ())})


def measured_of(entry: Entry) -> str:
    """Runs, seeds, steps and preset of an entry that has a record."""
    record = entry.record
    assert record is not None
    origin = record.caption["origin"] or f"{len(record.runs)} runs" * bool(record.runs)
    seeds = f"seeds {', '.join(map(str, record.seeds))}" if record.seeds and "seed" not in origin else ""
    preset = f"preset {record.preset['preset']}" if "preset" in record.preset and not record.stored else ""
    return "; ".join(part for part in (origin, seeds, preset) if part)
