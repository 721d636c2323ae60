"""The colors of the gallery can be read, light and dark."""

from __future__ import annotations

import re

import pytest

from moe_analysis.cards.templates import HERE as CARDS
from moe_analysis.gallery.page import HERE

TEXTS = [(text, ground) for text in ("ink", "quiet", "link") for ground in ("page", "card")] + [
    ("ink", "code-ground"),
    ("ink", "hit"),
    ("yes", "yes-ground"),
    ("no", "no-ground"),
    ("open", "open-ground"),
    ("absent", "absent-ground"),
]
EDGES = [(edge, ground) for edge in ("focus", "edge") for ground in ("page", "card")]
DECORATION = {"line"}


def colors() -> dict[str, tuple[str, str]]:
    style = "".join(path.read_text("utf-8") for path in (CARDS / "colors.css", HERE / "style.css"))
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", style)
    assert len(found) == len(re.findall(r"--[\w-]+: light-dark", style))
    return {name: (light, dark) for name, light, dark in found}


def luminance(color: str) -> float:
    """WCAG 2.2's relative luminance."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_stand_out_from_their_ground_and_controls_from_theirs(theme: int) -> None:
    known = {name: both[theme] for name, both in colors().items()}
    assert {name for pair in TEXTS + EDGES for name in pair} | DECORATION == known.keys()
    assert {pair: contrast(*map(known.get, pair)) for pair in TEXTS if contrast(*map(known.get, pair)) < 4.5} == {}
    assert {pair: contrast(*map(known.get, pair)) for pair in EDGES if contrast(*map(known.get, pair)) < 3} == {}
