"""What the gallery shows, in order: the papers, and under each its items, including those that are not made yet."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cards.in_words import counted_verdicts
from ..cards.whose import SHORT, WHOSE
from ..drawing.save import VERDICTS
from ..figures import ITEMS, NOTEBOOKS
from ..places import IN_CLONE, computed_figures, home
from ..studies.in_short import in_short
from .records import Record
from .shelves import ORIGINS, Shelf

OPTIONS = ("suite", "backbone", "seeds")  # of `figures`, apart from the preset; the embedder is an environment variable


@dataclass(frozen=True)
class Paper:
    """A group of items: the prefix of their ids, its short name, and its heading."""

    key: str
    name: str
    heading: str


PAPERS = (
    Paper("trex", "T-REX", "T-REX (Zhang et al., COLM 2025)"),
    Paper("gr", "gR", "A Stronger Mixture of Low-Rank Experts, gR (Sun et al., ICML 2025)"),
    Paper("smore", "S'MoRE", "S'MoRE (Zeng et al., NeurIPS 2025)"),
)
OTHERS = Paper("others", "others", "Beyond the papers")


@dataclass(frozen=True)
class Entry:
    """One edition of an item of the gallery: shipped, or computed here.

    notebook, command: what makes it, None if none of ours does. study: the folder in `studies` that measures it,
    empty for a record of an unknown item. record, shelf: None if it is not made yet. leads: whether it is the first
    edition of its item, which the summary counts.
    """

    id: str
    title: str
    paper: Paper
    notebook: str | None
    command: str | None
    record: Record | None
    shelf: Shelf | None = None
    leads: bool = True
    study: str = ""

    @property
    def in_short(self) -> str:
        """The first result with its interval, and the counted verdicts; empty without claims."""
        return in_short(self.record.claims if self.record else ())

    @property
    def anchor(self) -> str:
        """The id of its card on the page."""
        place = self.shelf.place.rstrip("/") if self.shelf else ""
        return self.id if self.leads else f"{self.id}--{place}"

    @property
    def place(self) -> str:
        """The path from the page to the files."""
        return self.shelf.place if self.shelf else ""

    @property
    def origin(self) -> str:
        return self.shelf.origin if self.shelf else ""

    @property
    def edition(self) -> str:
        """Such as "computed on this machine, preset quick"."""
        preset = self.record.preset.get("preset") if self.record else None
        return ORIGINS[self.origin] + (f", preset {preset}" if preset else "")

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many claims have which verdict, by the words before them: "" for a paper's claims, "ours: "."""
        return counts_by([self])

    @property
    def verdicts(self) -> str:
        """Such as "2 reproduced, 1 undecided; ours: 1 supported"."""
        return counted_verdicts(self.counts) or "no claims"

    @property
    def alt(self) -> str:
        """What the picture shows and the verdicts, for people who cannot see it."""
        return f"{self.title}. {self.verdicts[0].upper()}{self.verdicts[1:]}."


def collect(shelves: Sequence[Shelf]) -> dict[Paper, list[Entry]]:
    """Every known item and every record by paper; records of unknown items come after the known items of their paper,
    and the editions of one item are next to each other."""
    usual = usual_preset(record for shelf in shelves for record in shelf.records.values())
    known = {item.id: item for item in ITEMS}
    entries = []
    for name in dict.fromkeys([*known, *(name for shelf in shelves for name in shelf.records)]):
        notebook = known[name].notebook if name in known else notebook_of(name)
        chosen = name if name in known else notebook
        title = known[name].title if name in known else title_of(name)
        editions: list[Shelf | None] = [shelf for shelf in shelves if name in shelf.records] or [None]
        for shelf in editions:
            record = shelf.records[name] if shelf else None
            beside = shelf or next(iter(shelves), None)
            command = command_for(chosen, record.preset if record else usual, beside) if chosen else None
            called = (record.caption["title"] if record else "") or title
            study = known[name].study.partition(".")[0] if name in known else ""
            made = Entry(name, called, paper_of(name), notebook, command, record, shelf, shelf is editions[0], study)
            entries.append(made)
    groups = {paper: [entry for entry in entries if entry.paper == paper] for paper in (*PAPERS, OTHERS)}
    return {paper: group for paper, group in groups.items() if group}


def paper_of(name: str) -> Paper:
    return next((paper for paper in PAPERS if name.startswith(f"{paper.key}_")), OTHERS)


def title_of(name: str) -> str:
    """A title for a record of an unknown item: that of the item whose id it extends, else the words of its own id."""
    if parent := next((item for item in ITEMS if name.startswith(f"{item.id}_")), None):
        return f"{parent.title} ({name[len(parent.id) + 1 :].replace('_', ' ')})"
    paper = paper_of(name)
    words = name.removeprefix(f"{paper.key}_").replace("_", " ")
    return words if paper == OTHERS else f"{paper.name}: {words}"


def notebook_of(name: str) -> str | None:
    """The notebook that saves a record of this name; None if none of ours does."""
    call = f'save(\\"{name}\\"'  # as it is written in the JSON of a notebook
    return next((path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb")) if call in path.read_text("utf-8")), None)


def usual_preset(records: Iterable[Record]) -> dict[str, str]:
    """The settings that most records were made with, for the items that are not made yet."""
    counts = Counter(tuple(sorted(record.preset.items())) for record in records)
    return dict(max(counts.items(), key=lambda pair: pair[::-1], default=((), 0))[0])


def command_for(chosen: str, preset: Mapping[str, str], shelf: Shelf | None = None) -> str:
    """The command line that computes an item, or all items of a notebook, with the same settings and into the same
    folder, except the shipped one, which is not overwritten."""
    words = ["--only", chosen, "--preset", preset.get("preset", "quick")]
    for option in OPTIONS:
        words += [f"--{option}", preset[option]] if option in preset else []
    if shelf is not None and shelf.origin != "shipped" and (out := out_for(shelf.folder.resolve(), preset)):
        words += ["--out", out]
    before = f"MOE_ANALYSIS_EMBEDDER={shlex.quote(preset['embedder'])} " if "embedder" in preset else ""
    return before + program("figures", words)


def program(name: str, words: Sequence[str]) -> str:
    """One of our commands as a user types it: in a clone with make, which needs no activated environment.

    >>> program("verify", ["--only", "smore_*"])  # in a clone
    'make verify ARGS="--only \'smore_*\'"'
    """
    told = shlex.join(words)
    if not IN_CLONE:
        return f"python -m moe_analysis {name} {told}".rstrip()
    given = told.replace("$", "$$")  # make reads $ too
    # a shell interprets these even inside double quotes
    return f"make {name} ARGS=" + (f'"{given}"' if not set(given) & set('"$`\\!') else shlex.quote(given))


def out_for(folder: Path, preset: Mapping[str, str]) -> str | None:
    """The value of --out with which `figures` writes into the folder: a path from `home` if it is inside. None if it
    writes there by default."""
    if folder == computed_figures(preset.get("preset", "quick"), preset.get("suite")).resolve():
        return None
    return str(folder.relative_to(home()) if folder.is_relative_to(home()) else folder)


def counts_by(entries: Sequence[Entry]) -> dict[str, dict[str, int]]:
    """The counted verdicts by whose claims they are, keyed by the words before them in a row."""
    return {SHORT[whose]: counts for whose in WHOSE if (counts := count_verdicts(entries, whose))}


def count_verdicts(entries: Iterable[Entry], whose: str = "paper") -> dict[str, int]:
    """Number of claims by verdict, in the order of `VERDICTS`; a claim that occurs in several figures counts once.

    whose: a key of `WHOSE`.
    """
    claims = {
        claim["name"]: claim["verdict"]
        for entry in entries
        if entry.record
        for claim in entry.record.claims
        if claim["whose"] == whose
    }
    found = Counter(claims.values())
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}
