"""One look for every interactive figure, and its page: what it says, and that no text of it becomes markup."""

from __future__ import annotations

import json
import re

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.subplots import make_subplots

from moe_analysis.drawing.layout import BESIDE_BAR, COLORS, arranged, least_width, template, width_for
from moe_analysis.drawing.page import page
from moe_analysis.drawing.style import luminance

WORDS = st.text("abc <>&\"'/ö—", min_size=1, max_size=40).filter(str.strip)
MENU = {"buttons": [{"label": "all", "method": "restyle", "args": [{"visible": [True]}]}]}


def panels(count: int = 2) -> go.Figure:
    fig = make_subplots(1, count, subplot_titles=[f"panel {number}" for number in range(count)])
    for column in range(1, count + 1):
        fig.add_scatter(x=[1, 2], y=["one", "another"], name=f"line {column}", row=1, col=column)
    return fig


def content(text: str) -> dict:
    """What the page's script reads."""
    (stored,) = re.findall(r'<script type="application/json" id="figure">(.*?)</script>', text, re.DOTALL)
    return json.loads(stored)


def test_a_figure_that_is_arranged_once_more_stays_as_it_is():
    fig = arranged(panels().update_layout(updatemenus=[MENU, MENU], title={"text": "two"}, height=500))
    once = fig.to_json()
    assert arranged(fig) is fig and fig.to_json() == once and fig.layout.height == 500


def test_a_note_stands_under_the_title_and_stays_when_a_figure_is_arranged_once_more():
    plain, noted = arranged(panels()), arranged(panels().update_layout(title={"text": "two"}), "3 seeds")
    assert noted.layout.title.subtitle.text == "3 seeds" and noted.layout.title.text == "two"
    assert noted.layout.margin.t > plain.layout.margin.t
    once = noted.to_json()
    assert arranged(noted).to_json() == once


def test_menus_stand_over_the_drawing_beside_one_another_and_under_the_title():
    plain, with_menus = arranged(panels()), arranged(panels().update_layout(updatemenus=[MENU, MENU]))
    assert [(menu.x, menu.y, menu.yanchor) for menu in with_menus.layout.updatemenus] == [
        (0, 1, "bottom"),
        (0.5, 1, "bottom"),
    ]
    assert with_menus.layout.margin.t > plain.layout.margin.t + 40


def test_a_legend_stands_beside_a_bar_of_colors_and_not_on_it():
    heat = go.Heatmap(z=np.eye(2))
    assert arranged(go.Figure(heat)).layout.legend.x == BESIDE_BAR
    assert arranged(go.Figure(heat).update_traces(showscale=False)).layout.legend.x is None


def test_a_text_on_marks_of_several_colors_is_black_or_white_as_they_need_and_a_given_color_stays():
    marks = {"mode": "markers+text", "text": ["a", "b"], "marker": {"color": ["#003F63", "#F7CF7A"]}}
    fig = go.Figure([go.Scatter(marks), go.Scatter(marks, textfont={"color": "red"})])
    assert [trace.textfont.color for trace in arranged(fig).data] == [("#FFFFFF", "#000000"), "red"]


def test_both_themes_place_everything_alike():
    def places(value: object) -> object:
        return {key: places(inner) for key, inner in value.items()} if isinstance(value, dict) else type(value)

    assert places(template("light")) == places(template("dark"))


@pytest.mark.parametrize("theme", COLORS)
def test_texts_and_lines_of_a_theme_stand_out_from_its_ground(theme: str):
    ink, quiet, ground, _ = map(luminance, COLORS[theme])
    for text in (ink, quiet):
        darker, lighter = sorted([text, ground])
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_a_figure_says_how_narrow_it_may_become():
    assert width_for(300) == {} and least_width(panels().update_layout(meta=width_for(840.4))) == 840
    assert 'style="min-width: 840px"' in page(panels().update_layout(meta=width_for(840.4)), "it")


# ---------------------------------------------------------------- the page


def test_a_page_holds_its_title_question_reading_and_origin_once_and_its_figure_without_a_title():
    caption = {"title": "Paths", "question": "Smooth?", "how_to_read": "Left to right.", "origin": "3 runs"}
    text = page(arranged(panels().update_layout(title={"text": "of the figure"}, height=500)), "it", caption)
    for part in ("<h1>Paths</h1>", "Smooth?", "Left to right.", "From 3 runs."):
        assert text.count(part) == 1, part
    assert 'href="index.html"' in text and "of the figure" not in text
    figure = content(text)["figure"]
    assert figure["height"] == 500 and "title" not in figure["layout"] and "template" not in figure["layout"]


def test_a_page_without_a_caption_has_the_figures_title_else_its_id():
    assert "<h1>a b</h1>" in page(go.Figure().update_layout(title={"text": "a<br>b"}), "it")
    assert "<h1>it</h1>" in page(go.Figure(), "it")


@settings(max_examples=30, deadline=None)
@given(WORDS, WORDS)
def test_no_text_of_a_figure_or_a_caption_becomes_markup(words: str, name: str):
    told = dict.fromkeys(("title", "question", "how_to_read", "origin"), f"</script><b>{words}")
    text = page(go.Figure(go.Scatter(y=[1], name=f"</script>{name}")), "it", told)
    assert text.count("</script>") == 4 and "<b>" not in text
    assert content(text)["figure"]["data"][0]["name"] == f"</script>{name}"


def test_nothing_of_a_page_comes_from_the_network():
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page(panels(), "it", picture=True))) == {
        "data:,",
        "index.html",
        "it.png",
        "it.pdf",
        "it.json",
        "plotly.min.js",
    }


def test_rates_are_written_as_powers_of_ten_and_sizes_as_thousands():
    rates, of_both_forms, sizes = (1e-4, 1e-2), (0, 5e-5, 6), (2e4, 4e6)
    fig = make_subplots(1, 3)
    fig.add_scatter(x=rates, y=(1, 2), row=1, col=1)
    fig.add_scatter(x=sizes, y=rates, row=1, col=2)
    fig.add_scatter(x=of_both_forms, y=(1, 2, 3), row=1, col=3)
    fig.update_xaxes(type="log")
    fig.update_yaxes(type="log", row=1, col=2)
    layout = arranged(fig).layout
    assert layout.xaxis.exponentformat == layout.yaxis2.exponentformat == layout.xaxis3.exponentformat == "power"
    assert layout.xaxis2.exponentformat is None


def test_small_differences_are_written_out_beside_names_and_large_numbers():
    fig = make_subplots(1, 2)
    fig.add_scatter(x=("one layer", "two layers"), y=(0, -8e-4), row=1, col=1)
    fig.add_scatter(x=(1, 2), y=(1, 4e6), row=1, col=2)
    layout = arranged(fig).layout
    assert layout.yaxis.exponentformat == layout.xaxis2.exponentformat == "none"
    assert layout.xaxis.exponentformat is layout.yaxis2.exponentformat is None


def test_small_numbers_of_a_scene_are_written_out():
    fig = make_subplots(1, 2, specs=[[{"type": "scene"}] * 2])
    fig.add_scatter3d(x=(0, 5e-4), y=(0, 2), z=(0, 4e6), row=1, col=1)
    fig.add_scatter3d(x=(0, 4e6), y=(0, 4e6), z=(0, 5e-4), row=1, col=2)
    first, second = arranged(fig).layout.scene, fig.layout.scene2
    assert [axis.exponentformat for axis in (first.xaxis, first.yaxis, first.zaxis)] == ["none", "none", None]
    assert [axis.exponentformat for axis in (second.xaxis, second.yaxis, second.zaxis)] == [None, None, "none"]


def test_powers_are_found_beside_gaps_in_a_line_an_empty_trace_and_a_scene():
    fig = make_subplots(1, 2, specs=[[{"type": "scatter"}, {"type": "scene"}]])
    fig.add_scatter(x=(1e-4, None, 1e-2), y=(1, None, 2), row=1, col=1)
    fig.add_scatter(x=(), y=(), row=1, col=1)
    fig.add_scatter(row=1, col=1)
    fig.add_scatter3d(x=(5, 6), y=(5, 6), z=(5, 6), row=1, col=2)
    fig.update_xaxes(type="log")
    assert arranged(fig).layout.xaxis.exponentformat == "power"
