"""The check of pages' texts finds what a drawing does not have, and leaves a true text alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plotly.subplots import make_subplots

from tests.drawing.page_texts import TIGHT, faults
from tests.interactive_pages import FIGURES

TRUE = "“means”: one line per system; dashes are bounds. The menu chooses the measure, and orange is worse."


def drawn() -> dict:
    fig = make_subplots(1, 2, subplot_titles=["means", "(b) gaps"])
    fig.add_scatter(x=[1, 2], y=[1, 2], line={"dash": "dash", "color": "#D55E00"}, row=1, col=1)
    fig.update_layout(updatemenus=[{"buttons": [{"label": "loss", "method": "skip"}]}])
    figure: dict = json.loads(fig.to_json())
    del figure["layout"]["template"]  # as in a page
    return figure


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TRUE, []),
        ("(b) One dot per seed.", []),
        ("(a, b) One dot per seed.", ["panel (a)"]),
        ("“rates”: one line per system.", ["panel “rates”"]),
        ("Left, means; right of zero is better.", ["Left,"]),
        ("Above, means. Below, gaps.", ["Above,", "Below,"]),
        ("Purple is better.", ["purple"]),
        ("A ring marks the best.", [r"\brings?\b"]),
        ("About 22 % are bold, 3% are not.", ["3%"]),
    ],
)
def test_a_text_is_true_where_the_drawing_has_what_it_names(text: str, found: list[str]):
    assert faults(text, drawn()) == found


def test_a_menu_that_is_named_is_there():
    figure = drawn()
    del figure["layout"]["updatemenus"]
    assert faults(TRUE, figure) == ["menu"]


def test_two_menus_of_a_figure_have_two_labels_and_hover_texts_a_space_before_percent():
    figure = drawn()
    figure["layout"]["updatemenus"] *= 2
    assert faults(TRUE, figure) == ["menu called Show"]
    figure["layout"]["updatemenus"] = [{"name": "Measure"}, {"name": "Size"}]
    assert faults(TRUE, figure) == []
    figure["data"][0]["hovertemplate"] = "%{y:.1f} % of %{x:.0%}"
    assert len(faults(TRUE, figure)) == 1


@pytest.mark.parametrize("path", sorted(FIGURES.glob("*.json")), ids=lambda path: path.stem)
def test_records_write_percent_with_a_space(path: Path):
    record = json.loads(path.read_text(encoding="utf-8"))
    assert TIGHT.findall(json.dumps([record["claims"], record["caption"]])) == []


def test_an_area_is_translucent_as_one_color_cannot_be_the_ground_of_dark_and_of_light_texts():
    fig = make_subplots(1, 1).add_scatter(x=[0, 5], y=[0, 1])
    fig.add_vrect(0, 1, fillcolor="#F3E3C3", opacity=0.2).add_vrect(1, 2, fillcolor="rgba(128, 128, 128, 0.13)")
    fig.add_vrect(2, 3).add_vrect(3, 4, fillcolor="#F3E3C3").add_vrect(4, 5, fillcolor="rgba(128, 128, 128, 0.9)")
    told = faults("One dot per seed.", json.loads(fig.to_json()))
    assert told == ["opaque area #F3E3C3", "opaque area rgba(128, 128, 128, 0.9)"]
