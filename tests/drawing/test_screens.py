"""Title, menus, panels and legend of an interactive page have rows of their own, on a wide screen and on a phone."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.subplots import make_subplots

from moe_analysis.drawing.page import difference, fields, page
from moe_analysis.drawing.panels import BREAK, categories, panels, text_width, wrapped
from moe_analysis.drawing.rooms import BUTTON, PHONE, below, columns, left_of, legend_height, over, right_of
from moe_analysis.drawing.screens import arranged, narrow, width_for

NAMES = ["layers.0.mlp.gate_proj", "layers.1.mlp.down_proj", "out of distribution: where is person"]
WORDS = st.text("abcdefgh _", min_size=1, max_size=60).filter(lambda text: text.strip(" _"))
LABELS = st.lists(WORDS, min_size=1, max_size=6, unique=True)


@st.composite
def figures(draw) -> go.Figure:
    """One to three panels side by side, lines or heat maps, with titles, menus and a legend as they come."""
    count = draw(st.integers(1, 3))
    titles = [draw(WORDS) for _ in range(count)] if draw(st.booleans()) else None
    fig = make_subplots(1, count, subplot_titles=titles)
    for column in range(1, count + 1):
        names = draw(LABELS)
        if draw(st.booleans()):
            fig.add_heatmap(z=np.ones((len(names), 2)), x=["one", "two"], y=names, row=1, col=column)
        for name in draw(st.lists(WORDS, max_size=3)):
            values = [names[0]] * 2 if draw(st.booleans()) else [1, 50]
            fig.add_scatter(x=[1, 2], y=values, name=name, row=1, col=column)
        if draw(st.booleans()):
            fig.update_yaxes(title_text=draw(WORDS), row=1, col=column)
        if not fig.data or not any(trace.xaxis == f"x{column if column > 1 else ''}" for trace in fig.data):
            fig.add_scatter(x=[1, 2], y=[1, 2], row=1, col=column)
    kinds = draw(st.lists(st.sampled_from(["buttons", "dropdown"]), max_size=2))
    menus = [
        {
            "type": kind,
            "direction": "right" if kind == "buttons" else "down",
            "buttons": [{"label": label, "method": "restyle", "args": [{"opacity": 1}]} for label in draw(LABELS)],
        }
        for kind in kinds
    ]
    title = {"text": draw(WORDS)} if draw(st.booleans()) else None
    return fig.update_layout(title=title, updatemenus=menus, height=500)


some = settings(max_examples=12, deadline=None)


@some
@given(figures())
def test_a_menu_has_room_over_the_panels_titles_and_under_the_title(fig):
    arranged(fig)
    for screen in (fig, narrow(fig)):
        margin, menus = screen.layout.margin, screen.layout.updatemenus
        titled = any(one.title is not None for one in panels(fig))
        assert all(menu.y == 1 and menu.yanchor == "bottom" for menu in menus)
        assert all(menu.pad.b >= (20 if titled else 0) for menu in menus)
        title = screen.layout.title
        lines = 1 + title.text.count(BREAK) if title.text else 0
        highest = max((menu.pad.b for menu in menus), default=0) + (BUTTON if menus else 0)
        assert margin.t >= highest + lines * (title.font.size or 0)


@some
@given(figures())
def test_a_phone_has_the_panels_below_one_another_and_room_for_them(fig):
    phone = narrow(arranged(fig))
    found = panels(phone)
    assert all((one.left, one.right) == (0, 1) for one in found)
    assert found[0].top == pytest.approx(1) and found[-1].bottom == pytest.approx(0, abs=1e-9)
    height = phone.layout.height - phone.layout.margin.t - phone.layout.margin.b
    room = PHONE.width - phone.layout.margin.l - phone.layout.margin.r
    for above, beneath in zip(found, found[1:]):
        gap = (above.bottom - beneath.top) * height
        assert gap >= below(phone, above, PHONE, room) + over(phone, beneath, bars=True) - 2
    assert room >= PHONE.width / 3 and phone.layout.margin.b >= legend_height(phone, PHONE, room)


@some
@given(figures())
def test_panels_side_by_side_leave_room_for_their_names_and_titles(fig):
    arranged(fig)
    for before, after in zip(panels(fig), panels(fig)[1:]):
        gap = (after.left - before.right) * (1000 - fig.layout.margin.l - fig.layout.margin.r)
        assert gap >= 0.9 * (right_of(fig, before, PHONE) + left_of(fig, after, PHONE))


@some
@given(figures())
def test_arranging_again_changes_nothing_and_a_phone_leaves_the_figure_as_it_is(fig):
    once = arranged(fig).to_dict()
    narrow(fig)
    assert fields(fig.to_dict()["layout"]) == fields(once["layout"])
    again = fields(arranged(fig).to_dict()["layout"])
    for name, value in fields(once["layout"]).items():
        assert again[name] == (pytest.approx(value) if isinstance(value, float | list) else value), name


@some
@given(figures())
def test_the_differences_lead_from_either_arrangement_to_the_other(fig):
    phone = narrow(arranged(fig))
    for before, after in ((fig, phone), (phone, fig)):
        change = difference(before, after)["layout"]
        reached = {name: value for name, value in (fields(before.layout) | change).items() if value is not None}
        assert reached == {name: value for name, value in fields(after.layout).items() if value is not None}


@given(WORDS, st.floats(40, 300), st.integers(9, 17))
def test_lines_are_as_wide_as_their_room_or_one_word_and_no_letter_is_lost(text, room, size):
    lines = wrapped(text, room, size).split(BREAK)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    for line in lines:
        assert text_width(line, size) <= room or len(line.replace("_", "_ ").split()) <= 1


def test_a_text_is_as_wide_as_its_longest_line_without_markup():
    assert text_width("<b>four</b><br>sixsix", 10) == text_width("sixsix", 10) > text_width("four", 10)


def test_a_legend_has_more_lines_where_there_is_less_room():
    fig = go.Figure([go.Scatter(y=[1, 2], name=name) for name in NAMES])
    assert columns(NAMES[:2], PHONE, 1000) == 2 and columns(NAMES, PHONE, 200) == 1
    assert legend_height(fig, PHONE, 200) > legend_height(fig, PHONE, 1000) > 0
    assert legend_height(fig.update_layout(showlegend=False), PHONE, 200) == 0


def test_long_names_beside_a_heat_map_take_lines_and_its_bar_lies_over_it():
    fig = arranged(go.Figure(go.Heatmap(z=np.eye(3), x=["a", "b", "c"], y=NAMES), {"yaxis": {"title": {"text": "y"}}}))
    phone = narrow(fig)
    assert phone.layout.yaxis.ticktext[2].count(BREAK) == 1 and list(phone.layout.yaxis.tickvals) == NAMES
    assert phone.layout.margin.l < PHONE.width / 2
    bar = phone.data[0].colorbar
    assert bar.orientation == "h" and bar.y > 1 and fig.data[0].colorbar.orientation is None
    assert categories(fig, panels(fig)[0], "x") == ["a", "b", "c"]


def test_names_under_a_panel_slant_where_they_have_no_room_beside_one_another():
    few, many = (go.Figure(go.Scatter(x=names, y=[1] * len(names))) for names in (["a", "b"], NAMES))
    assert narrow(arranged(many)).layout.xaxis.tickangle == -60
    assert narrow(arranged(few)).layout.xaxis.tickangle is None
    room = {name: below(fig, panels(fig)[0], PHONE, 250) for name, fig in (("few", few), ("many", many))}
    assert room["many"] > 2 * room["few"]


def test_a_row_of_buttons_wider_than_a_phone_becomes_a_list():
    buttons = [{"label": name, "method": "restyle", "args": [{"opacity": 1}]} for name in NAMES]
    menus = [{"type": "buttons", "buttons": buttons}, {"type": "buttons", "buttons": buttons[:1]}]
    fig = go.Figure(go.Scatter(y=[1, 2]), {"updatemenus": menus})
    assert [menu.type for menu in narrow(arranged(fig)).layout.updatemenus] == ["dropdown", "buttons"]
    assert [menu.type for menu in fig.layout.updatemenus] == ["buttons", "buttons"]


def test_names_at_a_shared_axis_stand_at_every_panel_of_a_phone():
    fig = make_subplots(1, 2, shared_yaxes=True)
    for column in (1, 2):
        fig.add_scatter(x=[1], y=["LoRA"], row=1, col=column)
    assert fig.layout.yaxis2.showticklabels is False
    assert narrow(arranged(fig)).layout.yaxis2.showticklabels is True


def test_a_figure_that_needs_width_scrolls_in_its_page():
    wide, small = ({"y": [1]}, {"meta": width_for(700)}), ({"y": [1]}, {"meta": width_for(300)})
    texts = [page(arranged(go.Figure(go.Scatter(**data), layout)), "it") for data, layout in (wide, small)]
    assert "min-width: 700px" in texts[0] and "min-width: 0px" in texts[1]
    assert all("overflow-x: auto" in text and 'content="width=device-width' in text for text in texts)


def test_a_text_cannot_end_the_pages_script_or_its_title():
    fig = go.Figure(go.Scatter(y=[1], name="</script>"), {"title": {"text": 'a <b>"b"</b> & c'}})
    text = page(arranged(fig), "it")
    assert text.count("</script>") == 2 and "<title>a  &quot;b&quot;  &amp; c</title>" in text
