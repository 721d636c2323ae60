"""A person in JupyterLab: opens a notebook, runs all of it, moves a slider by the keyboard, sees the figure change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.jupyterlab import LOOKED, NOTEBOOK, PLOTS, STARTS, STEPS, TEXTS, THREE, TRAINING, Lab

pytest_plugins = ["tests.browser"]

RUNS = 180  # seconds that a notebook may take on shared cores
PROMPTS = (
    """const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(one => one.textContent);"""
)
WIDTHS = (1280, 390)  # of a desktop and of a phone; a page takes long to load, so every cell runs anew in it


def run_all(page: Any, wait: bool = True) -> None:
    """Menu Run, Run All Cells; returns when every code cell has a number that it had not before, or at once."""
    # what is run before the status bar names a kernel is lost
    page.locator(".jp-StatusBar-TextItem", has_text="| Idle").wait_for(timeout=1000 * STARTS)
    page.locator(".jp-CodeCell").nth(1).wait_for(timeout=1000 * STARTS)
    before = page.evaluate(f"() => {{ {PROMPTS} return prompts; }}")
    page.locator(".lm-MenuBar-item", has_text="Run").click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
    if not wait:
        return
    page.wait_for_function(
        f"""before => {{ {PROMPTS}
            return prompts.length > 0
                && prompts.every((prompt, cell) => /\\[\\d+\\]/.test(prompt) && prompt !== before[cell]); }}""",
        arg=before,
        timeout=1000 * RUNS,
    )


def errors(page: Any) -> list[str]:
    """What went wrong in the cells, warnings too."""
    found = page.locator("[data-mime-type='application/vnd.jupyter.error']").all_text_contents()
    found += page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_text_contents()
    return [*found, *page.locator(".jp-OutputArea [role='alert']").all_text_contents()]


def test_a_slider_moved_by_the_keyboard_changes_the_figure_in_jupyterlab(lab, tab):
    page = tab.page
    page.goto(lab.page(NOTEBOOK))
    run_all(page)
    assert errors(page) == []
    widget = page.locator(".jp-OutputArea-output", has=page.locator("img[alt^='Two maps of the same']"))
    assert widget.count() == 1
    picture, note = widget.locator("img"), widget.locator("[role='status']")
    before, told = picture.get_attribute("src"), note.text_content()
    assert before.startswith("data:image/png;base64,") and picture.bounding_box()["height"] > 100
    handle = widget.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    clusters = int(handle.get_attribute("aria-valuenow").split(".")[0])
    handle.press("ArrowRight")
    widget.locator(f"img[alt*='by {clusters + 1} clusters']").wait_for()
    assert picture.get_attribute("src").startswith("data:image/png;base64,") and picture.get_attribute("src") != before
    assert f"k = {clusters + 1} and" in note.text_content() and note.text_content() != told
    assert errors(page) == []
    assert not [url for url in tab.asked if not url.startswith((lab.url, "data:", "blob:"))]


# the area of the plot in the window, and the points in its left half
LEFT = """() => { const plot = document.querySelector('.js-plotly-plot'), { xaxis } = plot._fullLayout;
                  const { x, y, width, height } = plot.querySelector('.nsewdrag').getBoundingClientRect();
                  const places = [...plot._fullData[0].x].map(value => xaxis.l2p(value));
                  return { x, y, width, height, inside: places.flatMap((one, row) => one < width / 2 ? [row] : []) }; }"""


def test_a_lasso_needs_no_webgl_and_a_scene_without_it_says_so(lab, tab):
    """A canvas that gives nobody WebGL; JupyterLab in a browser without it takes twice as long."""
    page = tab.page
    page.add_init_script(
        """const given = HTMLCanvasElement.prototype.getContext;
           HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
               return kind.includes("webgl") ? null : given.call(this, kind, ...rest); };"""
    )
    page.goto(lab.page(PLOTS, alone=True))
    run_all(page)
    lasso_the_left_half(page)
    page.get_by_text("WebGL is not supported by your browser").first.wait_for()


def lasso_the_left_half(page: Any) -> None:
    """Draw around what lies in the left half of the map, and find the table that lists it."""
    area = page.locator(".js-plotly-plot .nsewdrag").first
    area.wait_for()
    page.wait_for_function(
        "width => document.querySelector('.nsewdrag').getBoundingClientRect().right <= width",
        arg=page.viewport_size["width"],
    )
    page.wait_for_function("() => document.querySelector('.js-plotly-plot')._fullData?.[0]?.x?.length")
    area.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # a plot that is still being laid out moves below the mouse
    place = page.evaluate(LEFT)
    left, middle = place["x"] + 1, place["x"] + place["width"] / 2
    top, bottom = place["y"] + 1, place["y"] + place["height"] - 1
    page.mouse.move(left, top)
    page.mouse.down()
    for corner in ((middle, top), (middle, bottom), (left, bottom), (left, top)):
        page.mouse.move(*corner, steps=4)
    page.mouse.up()
    output = page.locator(".jp-OutputArea-output", has=page.locator(".js-plotly-plot")).first
    inside = place["inside"]
    assert 0 < len(inside) < len(TEXTS)
    output.get_by_text(f"{len(inside)} of {len(TEXTS)} prompts selected.").wait_for()
    rows = output.locator("table tr")
    rows.nth(len(inside)).wait_for()
    assert [row.split("\t")[0] for row in rows.all_inner_texts()[1:]] == [TEXTS[row] for row in inside]
    assert errors(page) == []


def test_a_run_shows_how_it_goes_while_it_trains(lab, tab):
    page = tab.page
    page.goto(lab.page(TRAINING, alone=True))
    run_all(page, wait=False)
    card = page.locator(".moe-live")
    card.locator(".badge", has_text="running").wait_for(timeout=1000 * RUNS)
    card.locator(".fact", has_text="gate entropy").wait_for(timeout=1000 * RUNS)
    begun = int(card.locator("[role='progressbar']").get_attribute("aria-valuenow"))
    lies_inside_on_both(page)
    (lab.folder / LOOKED).touch()
    card.locator(".badge", has_text="finished").wait_for(timeout=1000 * RUNS)
    assert begun < int(card.locator("[role='progressbar']").get_attribute("aria-valuenow")) == STEPS
    assert card.count() == 1 and "test loss" in card.text_content() and errors(page) == []
    lies_inside_on_both(page)


def lies_inside_on_both(page: Any) -> None:
    """The card of a run fits into the window of a phone and into that of a desktop, which the page has afterwards."""
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            """width => { const box = document.querySelector('.moe-live')?.getBoundingClientRect();
                          return window.innerWidth === width && box?.left >= 0 && box.width > 0 && box.width <= width; }
            """,
            arg=width,
        )


@pytest.fixture(scope="module")
def opened(lab: Lab, chromium: Any) -> Iterator[Any]:
    """The page of the three, which takes long to load. Its scene is drawn as long as it is open, so its tests come last."""
    context = chromium.new_context()
    context.set_default_timeout(1000 * STARTS)
    page = context.new_page()
    page.goto(lab.page(THREE, alone=True))  # a phone has no room for a list of files
    yield page
    context.close()


@pytest.fixture(scope="module", params=WIDTHS)
def ran(opened: Any, request: pytest.FixtureRequest) -> Any:
    """All of its cells are run anew in a window of this width."""
    opened.set_viewport_size({"width": request.param, "height": 900})
    run_all(opened)
    assert errors(opened) == []
    return opened


def test_a_sentence_that_is_typed_shows_its_experts_and_a_tapped_token_its_tree(ran):
    page, width = ran, ran.viewport_size["width"]
    output = page.locator(".jp-OutputArea-output", has=page.locator(".moe-text"))
    text, box = output.locator(".moe-text").first, output.locator("textarea").first
    assert "ball" in text.text_content() and output.locator("img[alt^='Flow of']").count() == 1
    box.fill("Tom sees a <b>cat</b>")
    output.locator("button", has_text="Show").click()
    token = output.locator(".moe-token", has_text="Tom").first
    token.wait_for()
    token.click()
    card = token.locator(".moe-card")
    assert card.is_visible() and card.locator("svg circle").count() == 7 and "layer 2" in card.text_content()
    assert card.bounding_box()["x"] >= 0 and text.bounding_box()["width"] <= width
    assert output.locator(".moe-text b", has_text="cat").count() == 0  # a typed tag is text
    layer = output.locator("select").first
    layer.select_option(label="layer 0")
    page.locator(".moe-card", has_text="in layer 0").first.wait_for(state="attached")
    output.locator("textarea").nth(1).fill("a second text")
    output.locator("button", has_text="Show").click()
    output.locator(".moe-text").nth(1).wait_for()
    box.fill("")
    output.locator("button", has_text="Show").click()
    output.locator(".moe-text").nth(1).wait_for(state="detached")
    output.locator("textarea").nth(1).fill(" ")
    output.locator("button", has_text="Show").click()
    page.locator("[role='alert']", has_text="both texts are empty").wait_for()
    assert output.locator(".moe-text").count() == 1  # the last text that could be read stays
    box.fill("the red ball")
    output.locator("button", has_text="Show").click()
    page.locator("[role='alert']").wait_for(state="detached")


# what plotly's scene shows: the camera, once a turn of it is done, and how many points of the first line there are
SCENE = """() => { const plot = [...document.querySelectorAll('.js-plotly-plot')].find(one => one._fullLayout.scene);
                   const eye = Object.values(plot._fullLayout.scene.camera.eye).map(value => value.toFixed(6)).join();
                   return [eye, plot._fullData[0].x.filter(Number.isFinite).length]; }"""


def test_a_path_turns_and_keeps_its_view_while_the_slider_moves(ran):
    """Turned by the mouse; the slider moves to its start."""
    page, width = ran, ran.viewport_size["width"]
    scene = page.locator(".js-plotly-plot .gl-container canvas").first
    scene.wait_for()
    scene.scroll_into_view_if_needed()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.js-plotly-plot')].some(one => one._fullLayout?.scene?._scene?.glplot)"
    )
    start, whole = page.evaluate(SCENE)
    page.wait_for_function(  # drawn at plotly's own width first, then at the page's
        "width => { const box = document.querySelector('.gl-container canvas').getBoundingClientRect();"
        " return box.right <= width; }",
        arg=width,
    )
    assert scene.bounding_box()["width"] > width / 2
    end = time.monotonic() + STARTS
    while page.evaluate(SCENE)[0] == start:  # a scene that is still being laid out does not hear the mouse
        assert time.monotonic() < end, "the scene does not turn"
        box = scene.bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 80, middle[1] + 30, steps=5)
        page.mouse.up()
        page.wait_for_timeout(500)
    output = page.locator(".jp-OutputArea-output", has=page.locator(".gl-container canvas"))
    handle = output.locator(".noUi-handle").first
    handle.press("Home")
    page.locator("[role='status']", has_text="Record at step 1 of 100").wait_for()
    page.wait_for_function(f"whole => ({SCENE})()[1] < whole", arg=whole)
    assert page.evaluate(SCENE)[0] != start and errors(page) == []  # a new drawing would look from the start again


def test_a_lasso_lists_the_prompts_that_it_encloses(ran):
    lasso_the_left_half(ran)
