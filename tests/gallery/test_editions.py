"""What is shipped and what was computed on this machine stand side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moe_analysis.drawing.save import save
from moe_analysis.figures import ITEMS

from .pages import CLAIM, page_of


@pytest.fixture
def both(folder: Path, monkeypatch) -> Path:
    """A folder of shipped figures, in which one of them was computed again with the quick preset."""
    monkeypatch.setattr("moe_analysis.gallery.shelves.figures_home", lambda: folder)
    monkeypatch.setenv("MOE_ANALYSIS_PRESET", "quick")
    monkeypatch.delenv("MOE_ANALYSIS_SUITE")
    save("trex_fig2", None, None, {"a": 2}, claims=[CLAIM], folder=folder / "quick")
    save("smore_fig5", None, None, {"a": 2}, folder=folder / "quick")
    return folder


def test_what_was_computed_here_stands_beside_what_is_shipped(both: Path) -> None:
    page = page_of(both)
    cards = [found for tag, found, _ in page.elements if tag == "article" and found["data-item"] == "trex_fig2"]
    assert [(found["id"], found["data-origin"]) for found in cards] == [
        ("trex_fig2", "shipped"),
        ("trex_fig2--quick", "here"),
    ]
    said = [text for text in page.texts("p") if text.endswith((", preset tiny", ", preset quick"))]
    assert "Shipped, preset tiny" in said and "Computed on this machine, preset quick" in said
    assert {"trex_fig2.json", "quick/trex_fig2.json", "quick/smore_fig5.json"} <= set(page.values("href", "a"))
    ids = page.values("id")
    assert len(ids) == len(set(ids))


def test_an_item_counts_once_by_the_figure_that_is_shipped(both: Path) -> None:
    totals = [text for text in page_of(both).texts("li") if re.match(r"\d+ [✓✗?] ", text)]
    assert totals == ["1 ✓ reproduced", "1 ✗ not reproduced"]
    assert f"3 of {len(ITEMS)} pictures and tables are made" in page_of(both).texts("p", **{"class": "lead"})[0]


def test_the_reader_can_ask_for_one_of_the_two_where_there_are_both(both: Path, folder: Path) -> None:
    assert page_of(both).texts("fieldset")[-1] == "Where from all shipped computed on this machine"
    for path in (both / "quick").iterdir():
        path.unlink()
    assert "Where from" not in " ".join(page_of(both).texts("fieldset"))


def test_the_command_of_a_shipped_figure_does_not_overwrite_it(both: Path) -> None:
    (command,) = page_of(both).texts("code", id="command-trex_fig2")
    assert command == "make figures ARGS=\"--only trex_fig2 --preset tiny --suite 'my suite'\""
