"""Interactive pages read well in a browser: texts stand out from their ground, and nothing lies on another."""

from __future__ import annotations

import re
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.subplots import make_subplots

from moe_analysis.drawing.layout import COLORS, arranged
from moe_analysis.drawing.marks import menu_of
from moe_analysis.drawing.save import save
from moe_analysis.evidence import Claim, Effect
from moe_analysis.studies.cost import draw_tree as draw_example
from moe_analysis.studies.flexibility import measure_trees
from moe_analysis.studies.optimizers.draw import progress_explorer
from moe_analysis.studies.routing.draw_experts import interactive as experts_page
from moe_analysis.studies.subspace import draw_span, span
from moe_analysis.studies.trees import draw as draw_used_trees
from tests.studies.fake_tokens import routed

from .made_up import DATASETS, MODULES, by_dataset, contrast, curves, example, shares, structures

pytest_plugins = ["tests.browser"]

AHEAD = Claim("toy_ahead", "a table", "A is ahead of B", compares="A - B", endpoint="acc", paper_effect=0.02)
CAPTION = {
    "title": "A figure",
    "question": "Is it smooth?",
    "how_to_read": "From left to right.",
    "origin": "9 runs of 3 seeds",
}
BOXES = """() => [...document.querySelectorAll(
    ".annotation-text, .legend, .infolayer [class$=title] > text, .infolayer text[class$=title]," +
    ".yaxislayer-above text, .xaxislayer-above text")].map(element => {
  const box = element.getBoundingClientRect();
  return {text: element.textContent, kind: element.getAttribute("class") || element.parentElement.getAttribute("class"),
          left: box.left, top: box.top, right: box.right, bottom: box.bottom}; })
  .filter(box => box.right - box.left > 1)"""
SIZES = """() => { const small = {};
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.data.trim();
    const size = parseFloat(getComputedStyle(element).fontSize);
    if (words && !element.closest("script, style, svg title") && size < 9 - 1e-6) small[words] = size;
  }
  return small; }"""
INKS = """() => [...document.querySelectorAll(".plot text")].filter(text => text.textContent.trim()
    && !text.closest(".textpoint, .points") && text.getBoundingClientRect().width)
  .map(text => [text.textContent, getComputedStyle(text).fill])"""


def meet(one: dict, other: dict) -> bool:
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    # boxes of slanted names meet where the names do not
    slanted = one["kind"] == other["kind"] and re.fullmatch(r"x\d?tick", one["kind"])
    return across > 1.5 and down > 1.5 and not slanted


def two_rows() -> go.Figure:
    """Panels above one another, which a phone shows as they are, with a bar of colors and a legend."""
    fig = make_subplots(2, 1, subplot_titles=["lines", "shares"])
    fig.add_scatter(x=[1, 2], y=[1, 3], name="T-REX", line={"color": "#1A1A1A"}, row=1, col=1)
    fig.add_scatter(x=[1, 2], y=[2, 1], name="LoRA-MoE", row=1, col=1)
    fig.add_heatmap(z=np.eye(2), x=MODULES[:2], y=DATASETS[:2], colorbar={"y": 0.2, "len": 0.4}, row=2, col=1)
    return arranged(fig.update_layout(height=700, title={"text": "two rows"}))


def shared_names() -> go.Figure:
    """Panels side by side with the names of the rows at the first alone, which a phone shows one above another."""
    fig = make_subplots(1, 2, shared_yaxes=True)
    for panel in (1, 2):
        fig.add_scatter(x=[1, 2], y=[0, 1], mode="markers", name=f"panel {panel}", row=1, col=panel)
    return arranged(fig.update_yaxes(tickvals=[0, 1], ticktext=DATASETS[:2]).update_layout(height=400, title="names"))


def grid() -> go.Figure:
    """A panel over two others, one of them round, with titles and names that are longer than a phone is wide."""
    specs = [[{"type": "xy", "colspan": 2}, None], [{"type": "xy"}, {"type": "polar"}]]
    titles = ["what the first of these panels shows, with its unit", "the second", "the third"]
    fig = make_subplots(2, 2, specs=specs, subplot_titles=titles)
    names = [f"{name} of the tasks of the suite" for name in DATASETS]
    fig.add_heatmap(z=np.eye(4), x=MODULES[:4], y=names, colorbar={"title": {"text": "share"}}, row=1, col=1)
    fig.add_scatter(x=[1, 2], y=[0, 22], name="T-REX", row=2, col=1)
    rows = {"tickvals": list(range(23)), "ticktext": [f"reasoning about colored objects {row}" for row in range(23)]}
    fig.update_yaxes(rows, row=2, col=1)
    fig.add_scatterpolar(r=[1, 2, 3], theta=[0, 120, 240], name="around", row=2, col=2)
    fig.update_xaxes(title_text="points above what a guess would give, out of distribution", row=2, col=1)
    return arranged(fig.update_layout(height=1200, title={"text": "a grid"}))


def explorers() -> dict:
    budgets = span.span_by_budget([4096, 8192], 128, 128, num_experts=8)
    return {
        "gr_fig3": progress_explorer(curves()),
        "trex_lemma41": draw_span.interactive(SimpleNamespace(ranks=span.rank_plot_frame(3), budgets=budgets)),
        "smore_structures": draw_used_trees.interactive(
            SimpleNamespace(module_bands=structures(), datasets=by_dataset())
        ),
        "routing_experts": experts_page(SimpleNamespace(shown=shares(4, 3))),
        "smore_fig1": draw_example.interactive(example()),
        "two_rows": two_rows(),
        "shared_names": shared_names(),
        "grid": grid(),
        "routing_tokens": routed(np.random.default_rng(0).dirichlet(np.ones(5), (4, 12)), "some letters").interactive(),
        "smore_fig3": measure_trees().interactive(),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    claims = [AHEAD.with_effect(Effect([0.03, 0.02, 0.04]))]
    for item, fig in explorers().items():
        save(item, None, fig, {}, claims=[claims[0], claims[0].with_parts(claims)], folder=folder, caption=CAPTION)
    return folder


def drawn(tab, path, state=" "):
    """A page once it is arranged; state: "narrow dark" and alike."""
    page = tab.open(path)
    page.wait_for_selector(f"#{path.stem}[data-drawn*='{state}']")
    return page


def test_texts_keep_apart_on_the_page_large_enough_and_stand_out_on_a_phone_and_on_a_dark_screen(tab, folder):
    for path in sorted(folder.glob("*.html")):
        tab.page.goto("about:blank")  # the page before would be drawn anew
        tab.page.set_viewport_size({"width": 360, "height": 740})
        tab.page.emulate_media(color_scheme="light")
        page = drawn(tab, path, "narrow light")
        page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        texts_lie_apart(page, path.stem, 360)
        texts_stand_out(page, path.stem, "light")
        page.set_viewport_size({"width": 1000, "height": 740})
        page.emulate_media(color_scheme="dark")
        page.wait_for_selector(f"#{path.stem}[data-drawn*='wide dark']")
        texts_lie_apart(page, path.stem, 1000)
        texts_stand_out(page, path.stem, "dark")
    assert tab.complaints == []


def texts_lie_apart(page, item, width):
    """No text lies on another, none leaves the page, and none is too small."""
    boxes = page.evaluate(BOXES)
    assert len(boxes) > 2 or item == "smore_fig1", item
    lying = [(one["text"], other["text"]) for one, other in combinations(boxes, 2) if meet(one, other)]
    left = page.locator(".plot").bounding_box()["x"]
    outside = [box["text"] for box in boxes if box["left"] < left or box["right"] > width or box["top"] < 0]
    assert (item, lying, outside) == (item, [], [])
    assert (item, page.evaluate(SIZES)) == (item, {})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def texts_stand_out(page, item, scheme):
    """Every text of the figure differs enough from the ground of its theme."""
    inks = page.evaluate(INKS)
    assert inks or item == "smore_fig1"
    low = [text for text, ink in inks if contrast(hexadecimal(ink), COLORS[scheme][2]) < 4.5]
    assert (item, scheme, low) == (item, scheme, [])


def hexadecimal(color: str) -> str:
    """
    >>> hexadecimal("rgb(29, 33, 41)")
    '#1D2129'
    """
    return "#" + "".join(f"{int(part):02X}" for part in re.findall(r"\d+", color)[:3])


def test_the_theme_changes_the_figure_and_a_dark_line_becomes_one_that_is_seen(tab, folder):
    page = drawn(tab, folder / "two_rows.html", "light")
    look = "[plot._fullLayout.paper_bgcolor, plot.querySelector('.js-line').style.stroke]"
    ground, line = page.evaluate(look)
    assert hexadecimal(ground) == COLORS["light"][2].upper() or ground == COLORS["light"][2]
    assert hexadecimal(line) == "#1A1A1A"
    page.click("#theme")
    page.wait_for_selector("#two_rows[data-drawn*=dark]")
    ground, line = page.evaluate(look)
    assert ground == COLORS["dark"][2] and contrast(hexadecimal(line), ground.upper()) > 3
    page.reload()
    page.wait_for_selector("#two_rows[data-drawn*=dark]")
    assert page.get_attribute("#theme", "aria-pressed") == "true"


def test_what_was_chosen_from_a_list_stays_when_the_window_or_the_theme_changes(tab, folder):
    page = drawn(tab, folder / "gr_fig3.html")
    assert page.locator("#controls label").inner_text().startswith("Measure")
    page.select_option("#controls select", label="eval loss")
    state = "[plot.layout.yaxis.title.text, plot.data.map(trace => trace.visible)]"
    page.wait_for_function("plot.layout.yaxis.title.text.startsWith('test loss')")
    before = page.evaluate(state)
    for width, state_of_page in ((360, "narrow light"), (1280, "wide light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_selector(f"#gr_fig3[data-drawn='{state_of_page}']")
        assert page.evaluate(state) == before
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector("#gr_fig3[data-drawn='wide dark']")
    assert page.evaluate(state) == before and page.locator("#controls select").count() == 1
    assert tab.complaints == []


def test_a_heat_map_that_a_menu_shows_later_has_its_bar_of_colors_at_its_own_panel(tab, tmp_path):
    fig = make_subplots(1, 2, subplot_titles=["means", "pairs"]).add_scatter(x=[1, 2], y=[1, 2], row=1, col=1)
    for shown in (True, False):
        fig.add_heatmap(z=np.eye(3), visible=shown, row=1, col=2)
    menu = menu_of("Pairs", {name: [{"visible": [True, name == "one", name == "two"]}] for name in ("one", "two")})
    save("mine", None, arranged(fig, height=700, updatemenus=[menu]), {}, folder=tmp_path)
    page = drawn(tab, tmp_path / "mine.html")
    for width, state in ((1280, "wide light"), (390, "narrow light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_selector(f"#mine[data-drawn='{state}']")
        places = []
        for label in ("one", "two"):
            page.select_option("#controls select", label=label)
            page.wait_for_function(
                f"plot.querySelector('.colorbar') && plot.data[1].visible === {str(label == 'one').lower()}"
            )
            page.wait_for_timeout(600)
            box = page.locator(".colorbar").bounding_box()
            places.append([box["x"], box["y"], box["width"], box["height"]])
        assert places[0] == pytest.approx(places[1], abs=2)
    assert tab.complaints == []


def test_a_window_that_changes_its_width_draws_the_figure_anew_without_an_error(tab, folder):
    page = drawn(tab, folder / "smore_structures.html", "wide")
    for width in (760, 1500):
        page.set_viewport_size({"width": width, "height": 1400})
        page.wait_for_function(
            "Math.abs(plot._fullLayout.width - plot.clientWidth) < 2 && plot._fullLayout._size.w > 90"
        )
    assert tab.complaints == []


def test_the_panels_of_a_phone_stand_below_one_another_in_the_order_of_a_wide_screen(tab, folder):
    corners = """() => ["", 2, 3].map(number => [plot._fullLayout[`xaxis${number}`]._offset,
        plot._fullLayout[`yaxis${number}`]._offset])"""
    across = drawn(tab, folder / "trex_lemma41.html", "wide").evaluate(corners)
    assert across == sorted(across) and len({top for _, top in across}) == 1
    tab.page.set_viewport_size({"width": 360, "height": 740})
    tab.page.wait_for_selector("#trex_lemma41[data-drawn*=narrow]")
    down = [top for _, top in tab.page.evaluate(corners)]
    assert down == sorted(down) and min(np.diff(down)) > 250


def test_panels_of_several_rows_stand_below_one_another_on_a_phone_and_go_back(tab, folder):
    places = """() => { const {l, t, w, h} = plot._fullLayout._size;
        return ["xaxis yaxis", "xaxis2 yaxis2", "polar"].map(names => names.split(" ").map(name => plot._fullLayout[name]))
        .map(([one, other]) => [one.domain.x ?? one.domain, one.domain.y ?? other.domain])
        .map(([x, y]) => ({left: l + x[0] * w, right: l + x[1] * w, top: t + (1 - y[1]) * h, bottom: t + (1 - y[0]) * h})); }"""
    page = drawn(tab, folder / "grid.html", "wide")
    wide, title = page.evaluate(places), page.evaluate("plot.layout.xaxis2.title.text")
    page.set_viewport_size({"width": 360, "height": 740})
    page.wait_for_selector("#grid[data-drawn*=narrow]")
    narrow = page.evaluate(places)
    assert wide[1]["top"] == pytest.approx(wide[2]["top"]) and wide[0]["right"] > wide[1]["right"]
    assert all(above["bottom"] < below["top"] for above, below in zip(narrow, narrow[1:]))
    assert all(panel["right"] - panel["left"] > 150 for panel in narrow), "names leave room for what they name"
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_selector("#grid[data-drawn*=wide]")
    assert page.evaluate("plot.layout.xaxis2.title.text") == title, "a title goes back to one line"
    corners = [value for panel in page.evaluate(places) for value in panel.values()]
    assert corners == pytest.approx([value for panel in wide for value in panel.values()], abs=3)
    assert tab.complaints == []


def test_a_page_fills_the_window_leads_back_to_the_gallery_and_shows_its_claims(tab, folder):
    page = drawn(tab, folder / "gr_fig3.html")
    box = page.locator("#gr_fig3").bounding_box()
    assert box["height"] > 600 and box["y"] + box["height"] < 900
    assert page.locator("a[href='index.html']").is_visible()
    assert page.locator(".claim svg[role=img]").first.get_attribute("aria-label").startswith("Effect 0.03")
    assert page.locator(".claim .claim").first.is_hidden(), "parts are folded"
    page.click(".claim summary")
    assert page.locator(".claim .claim").first.is_visible()
