"""The interactive pages in a real browser: what a reader turns, points at, searches and encloses."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from .interactive_pages import PROMPT, save_pages, stored

pytest_plugins = ["tests.browser"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pages(tmp_path_factory.mktemp("pages"))


def draws(tab, path: Path):
    """An interactive page once it is drawn; it must ask for nothing that is not beside it."""
    page = tab.open(path)
    page.wait_for_selector(f"#{path.stem}[data-drawn]")
    assert {urlsplit(url).scheme for url in tab.asked} <= {"file", "data", "blob"}
    return page


def test_the_trajectories_turn_to_the_side_when_they_are_dragged(tab, pages) -> None:
    tab.page.set_viewport_size({"width": 600, "height": 760})  # drawn by the processor, so not larger than needed
    page = draws(tab, pages / "trex_fig2.html")
    canvas = page.locator("#trex_fig2 #scene canvas")
    canvas.wait_for()
    page.wait_for_timeout(1500)  # a scene in space listens to the pointer some frames after it is drawn
    eye = "document.getElementById('trex_fig2')._fullLayout.scene._scene.getCamera().eye"
    before = page.evaluate(eye)
    box = canvas.bounding_box()
    left, middle = box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(left, middle)
    page.mouse.down()
    page.mouse.move(left + 0.25 * box["width"], middle, steps=6)
    page.mouse.up()
    angle = f"Math.atan2({eye}.y, {eye}.x)"
    page.wait_for_function(f"Math.abs({angle} - {np.arctan2(before['y'], before['x'])}) > 0.3")
    assert page.evaluate(eye)["z"] == pytest.approx(before["z"], rel=0.01), "to the side, not over the top"
    assert tab.complaints == []


def spot(page, item: str, trace: int, point: int) -> tuple[float, float]:
    """Where a point of a trace stands in the window."""
    return tuple(
        page.evaluate(f"""() => {{
        const plot = document.getElementById("{item}"), {{xaxis, yaxis}} = plot._fullLayout;
        const {{x, y}} = plot._fullData[{trace}], box = plot.getBoundingClientRect();
        return [box.x + xaxis._offset + xaxis.d2p(x[{point}]), box.y + yaxis._offset + yaxis.d2p(y[{point}])]; }}""")
    )


def point_at(page, item: str, trace: int, point: int) -> None:
    """Move the pointer to a point, and wait until plotly, which looks twenty times a second, has seen it there."""
    page.evaluate(f"""() => {{ window.seen = null; document.getElementById("{item}").once("plotly_hover", event => {{
        window.seen = `${{event.points[0].curveNumber}} ${{event.points[0].pointNumber}}`; }}); }}""")
    page.mouse.move(*spot(page, item, trace, point))
    page.wait_for_function(f"window.seen === '{trace} {point}'")


def test_the_map_shows_the_prompt_under_the_pointer(tab, pages) -> None:
    page = draws(tab, pages / "trex_fig4.html")
    page.wait_for_selector("#trex_fig4 path.point")
    told = "nothing yet"
    for trace in range(2):
        page.mouse.move(*spot(page, "trex_fig4", trace, 0))  # another point may lie on top of it
        shown = "document.querySelector('.hoverlayer .hovertext')?.textContent"
        page.wait_for_function(f"told => {shown} && {shown} !== told", arg=told)
        told = page.evaluate(shown)
        assert told.startswith(PROMPT) and "cluster" in told
    assert tab.complaints == []


def test_the_tree_tells_of_the_node_under_the_pointer_and_keeps_it_at_a_click(tab, pages) -> None:
    page = draws(tab, pages / "smore_tree.html")
    page.wait_for_selector("#smore_tree path.point")
    nodes = stored("smore_tree")["numbers"]["tree"]
    last = page.evaluate("document.getElementById('smore_tree').data.length - 1")
    page.evaluate(
        "document.getElementById('smore_tree').on('plotly_click', event => {"
        " window.clicked = event.points[0].pointNumber; })"
    )
    for number in (1, len(nodes) - 1):
        point_at(page, "smore_tree", last, number)
        page.mouse.down()
        page.mouse.up()
        page.wait_for_function(f"window.clicked === {number}")
        text = page.locator(".hoverlayer .hovertext").text_content()
        assert f"expert {nodes[number]['expert']} of pool {nodes[number]['layer']}" in text
    assert tab.complaints == []


def pale(page) -> tuple[int, int]:
    """(points that are selected, points of the traces that select), of what is visible on the map."""
    return tuple(
        page.evaluate("""() => document.getElementById("trex_fig4").data
        .filter(({customdata, visible}) => customdata && visible !== false)
        .reduce(([inside, all], {selectedpoints, x, customdata}) =>
            [inside + (selectedpoints?.length ?? customdata.length), all + customdata.length], [0, 0])""")
    )


def test_a_search_on_the_map_lists_the_prompts_that_contain_the_words_as_text(tab, pages) -> None:
    page = draws(tab, pages / "trex_fig4.html")
    page.fill("#words", "ZEBRA pointer")
    page.wait_for_function("document.querySelectorAll('#listed tbody tr').length === 2")
    assert page.inner_text("#found") == "2 of 200 prompts contain zebra and pointer." and pale(page) == (2, 200)
    assert page.locator("#listed td").first.inner_text().endswith("<b>zebra</b>"), "no text becomes markup"
    page.fill("#words", "quagga")
    assert page.inner_text("#found") == "None of the 200 prompts contains quagga."
    assert page.locator("#listed").is_hidden()
    page.click("#none")
    assert pale(page) == (200, 200) and page.input_value("#words") == ""
    assert tab.complaints == []


def test_a_lasso_lists_what_lies_inside_and_keeps_it_through_another_theme(tab, pages) -> None:
    page = draws(tab, pages / "trex_fig4.html")
    page.wait_for_selector("#trex_fig4 path.point")
    page.click("#lasso")
    page.wait_for_function("document.getElementById('trex_fig4')._fullLayout.dragmode === 'lasso'")
    box = page.locator("#trex_fig4 .nsewdrag").first.bounding_box()
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98), (0.02, 0.02)]
    for step, (across, down) in enumerate(corners):
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"], steps=8)
        if step == 0:
            page.mouse.down()
    page.mouse.up()
    page.wait_for_function("document.getElementById('found').textContent === '200 of 200 prompts selected.'")
    assert page.locator("#listed tbody tr").count() == 200
    page.click("#theme")
    page.wait_for_selector("#trex_fig4[data-drawn*=dark]")
    assert page.inner_text("#found") == "200 of 200 prompts selected."
    page.click("#none")
    page.wait_for_function("document.getElementById('found').textContent.startsWith('Type words')")
    assert page.locator("#listed").is_hidden() and tab.complaints == []
