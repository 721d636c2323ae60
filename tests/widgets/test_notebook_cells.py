"""What a reader of the nine notebooks meets: an opening that says what to expect, and the widgets where they teach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_analysis import widgets

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("0*.ipynb"))
OPENING = ("**What it shows.**", "**Time.**", "**What to change.**")
SHOWN = {
    "01_semantic_clusters": "cluster_widget",
    "02_router_trajectories": "trajectory_widget",
    "03_subspace_rank": "rank_widget",
    "05_structural_flexibility": "flexibility_widget",
}


def cells(path: Path) -> list[tuple[str, str]]:
    """(kind, source) of every cell."""
    stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in stored]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_what_it_shows_how_long_it_takes_and_what_to_change(path):
    kind, text = cells(path)[0]
    assert kind == "markdown" and text.startswith("# ")
    places = [text.find(part) for part in OPENING]
    assert -1 not in places and places == sorted(places)


@pytest.mark.parametrize("name", SHOWN)
def test_a_widget_is_the_last_thing_of_its_cell_and_a_sentence_stands_above(name):
    found = cells(next(path for path in NOTEBOOKS if path.stem == name))
    place = next(number for number, (_, text) in enumerate(found) if f"{SHOWN[name]}(" in text)
    assert f"{SHOWN[name]}(" in found[place][1].splitlines()[-1]
    assert found[place - 1][0] == "markdown" and "Turn the knob" in found[place - 1][1]


def test_every_widget_has_its_notebook():
    public = {name for name in widgets.__all__ if name.endswith("_widget")}
    assert public == set(SHOWN.values())
