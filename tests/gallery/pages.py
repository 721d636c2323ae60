"""A folder of figures, the elements of its page, and the words of its commands."""

from __future__ import annotations

import shlex
from html.parser import HTMLParser
from pathlib import Path

from moe_analysis.cards.claims import CLAIM_FIELDS
from moe_analysis.evidence import Claim, Effect
from moe_analysis.gallery import build
from moe_analysis.gallery.shelves import Shelf, read_shelves

FIGURES = Path(__file__).parents[2] / "figures"
CLAIM = dict(zip(CLAIM_FIELDS, ["T-REX Fig. 2", "paths are smooth", "smooth", 0.25, None, "not reproduced"]))
OWN = Claim("toy_own", "ours", "A is ahead of B", kind="own", compares="A - B", endpoint="acc", smallest=0.01)
OWN = OWN.with_effect(Effect([0.03, 0.02, 0.04]))
CAPTION = {"title": "Paths", "question": "Smooth?", "how_to_read": "Left to right.", "origin": "3 runs"}
RECORD = {"item": "it", "numbers": {}, "claims": [], "runs": [], "seeds": [], "versions": {}, "preset": {}}
VOID = {"meta", "link", "img", "input"}


def shipped() -> Shelf:
    """The figures in the repository, without what was computed beside them."""
    return read_shelves(FIGURES)[0]


class Page(HTMLParser):
    """The elements of a page in order: (tag, attributes, the text inside)."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        for index in self.open:
            self.elements[index][2].append(data)

    def texts(self, tag: str, **wanted: str) -> list[str]:
        return [
            " ".join("".join(text).split())
            for name, attributes, text in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def values(self, attribute: str, tag: str | None = None) -> list[str]:
        return [
            found[attribute] or "" for name, found, _ in self.elements if attribute in found and tag in (None, name)
        ]


def page_of(folder: Path) -> Page:
    return Page(build(folder).read_text("utf-8"))


def words_of(command: str) -> list[str]:
    """What a command gives to the program: what make would, of the shell's last word."""
    words = shlex.split(command)
    make, name, given = words[words[0].startswith("MOE_ANALYSIS_DATA=") :]
    assert (make, given[:5]) == ("make", "ARGS=")
    return [name, *shlex.split(given[5:].replace("$$", "$"))]
