"""The gallery in a real browser: what a reader sees, types and clicks."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from moe_analysis.gallery import build
from moe_analysis.papers import ITEMS

from .interactive_pages import FIGURES, save_pages, stored

pytest_plugins = ["tests.browser"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stored figures, three interactive pages beside them, and the gallery."""
    folder, pages = tmp_path_factory.mktemp("figures"), save_pages(tmp_path_factory.mktemp("pages"))
    for path in [*pages.glob("*.html"), pages / "plotly.min.js", *FIGURES.glob("*.json"), *FIGURES.glob("*.png")]:
        shutil.copy(path, folder)
    build(folder)
    return folder


@pytest.fixture
def gallery(tab, folder):
    """With all of its groups open."""
    page = tab.open(folder / "index.html")
    page.click("#groups")
    return page


def shown(page) -> list[str]:
    return page.eval_on_selector_all("article.item:not([hidden])", "found => found.map(item => item.id)")


def claims() -> list[tuple[str, dict]]:
    return [(path.stem, claim) for path in sorted(FIGURES.glob("*.json")) for claim in stored(path.stem)["claims"]]


def chosen(page, name: str, value: str) -> None:
    page.check(f'input[name="{name}"][value="{value}"]')


def test_the_gallery_loads_with_every_picture_without_an_error_and_without_a_network(tab, gallery) -> None:
    sizes = gallery.evaluate("""async () => Promise.all([...document.querySelectorAll(".picture img")].map(async image => {
        image.loading = "eager"; await image.decode(); return image.naturalWidth; }))""")
    assert len(sizes) == len(list(FIGURES.glob("*.png"))) and min(sizes) > 100
    assert tab.complaints == [] and {urlsplit(url).scheme for url in tab.asked} <= {"file", "data"}


def test_every_link_leads_to_a_file_or_a_place_on_the_page(gallery) -> None:
    for link in gallery.eval_on_selector_all("a[href]", "found => found.map(link => link.href)"):
        place = urlsplit(link)
        if place.query:
            asked = dict(parse_qsl(place.query))
            assert all(gallery.locator(f"[name='{name}'][value='{value}']").count() for name, value in asked.items())
        assert Path(unquote(place.path)).is_file(), link
        if place.fragment:
            assert gallery.locator(f"[id='{place.fragment}']").count() == 1, link


def test_a_search_keeps_the_items_that_hold_every_word_and_tells_how_many(gallery) -> None:
    everything, status = shown(gallery), gallery.locator("#hits")
    gallery.fill("#query", "GRSGD-embedded-s1 conditioning")
    found = shown(gallery)
    assert "gr_anatomy" in found and len(found) < len(everything)
    assert status.inner_text().startswith(f"{len(found)} of {len(everything)} items, ")
    assert status.get_attribute("aria-live") == "polite"
    assert gallery.locator("#gr_anatomy details.origin").get_attribute("open") is not None, "the hit is a run's name"
    gallery.fill("#query", "zzz")
    assert shown(gallery) == [] and gallery.locator("#nothing").is_visible()
    gallery.click("#reset")
    assert shown(gallery) == everything


def test_a_verdict_keeps_its_claims_and_a_paper_its_items(gallery) -> None:
    chosen(gallery, "verdict", "not-reproduced")
    wanted = Counter(item for item, claim in claims() if claim["verdict"] == "not reproduced")
    assert set(shown(gallery)) == wanted.keys()
    assert (
        gallery.locator("article.item:not([hidden]) > .fold > .judged > .cards > .claim:visible").count()
        == wanted.total()
    )
    paper = next(key for key in ("trex", "gr", "smore") if any(item.startswith(f"{key}_") for item in wanted))
    chosen(gallery, "paper", paper)
    assert set(shown(gallery)) == {item for item in wanted if item.startswith(f"{paper}_")}
    assert gallery.locator("section.paper:visible").count() == 1


def test_the_address_holds_the_search_and_the_filters_and_a_link_with_them_opens_filtered(tab, gallery, folder) -> None:
    chosen(gallery, "paper", "gr")
    gallery.select_option("#study", "optimizers")
    gallery.fill("#query", "gate rescaling")
    found, address = shown(gallery), gallery.evaluate("location.href")
    asked = dict(parse_qsl(urlsplit(address).query))
    assert asked == {"q": "gate rescaling", "paper": "gr", "study": "optimizers"}
    assert found and set(found) <= {item.id for item in ITEMS if item.study.startswith("optimizers.")}
    assert all(item.startswith("gr_") for item in found)
    gallery.goto("about:blank")
    gallery.goto(address)
    assert shown(gallery) == found and gallery.input_value("#query") == "gate rescaling"
    gallery.click("#reset")
    assert gallery.evaluate("location.search") == "" and len(shown(gallery)) > len(found)
    gallery.goto((folder / "index.html").as_uri() + "#paper=trex&verdict=undecided&q=lora")
    assert gallery.is_checked("input[name='paper'][value='trex']") and gallery.input_value("#query") == "lora"
    gallery.goto((folder / "index.html").as_uri() + "?paper=none&verdict=older&study=gone#gr_fig2")
    assert "gr_fig2" in shown(gallery) and gallery.locator("#reset").is_hidden(), "an address older than the page"
    assert tab.complaints == []


def test_a_verdict_of_the_summary_is_a_link_to_its_claims_which_are_then_open(gallery) -> None:
    gallery.locator(".totals a[href='?verdict=not-reproduced']").first.click()
    gallery.wait_for_function("location.search && document.getElementById('hits').textContent")
    assert gallery.locator("article.item:not([hidden]) .judged:not([open])").count() == 0
    wanted = {
        claim.get("name") or f"{item}{claim['claim']}"
        for item, claim in claims()
        if claim["verdict"] == "not reproduced"
    }
    count = f"{len(wanted)} claim{'s' * (len(wanted) != 1)}"
    assert gallery.locator("#hits").inner_text().endswith(f", {count}"), "a claim of several figures counts once"


@pytest.mark.parametrize("theme", ["system", "button"])
def test_pictures_are_dark_on_a_dark_page(gallery, theme: str) -> None:
    look = "getComputedStyle(document.querySelector('.picture')).filter"
    assert gallery.evaluate(look) == "none"
    if theme == "system":
        gallery.emulate_media(color_scheme="dark")
    else:
        gallery.click("#theme")
    assert gallery.evaluate(look).startswith("invert(")


def test_a_picture_on_a_phone_is_wide_enough_to_be_read_and_scrolls_inside_its_card(gallery) -> None:
    gallery.set_viewport_size({"width": 390, "height": 800})
    gallery.evaluate("document.querySelectorAll('.fold').forEach(details => { details.open = true; })")
    for picture in gallery.locator(".picture").all():
        width, natural = picture.locator("img").evaluate("image => [image.width, Number(image.getAttribute('width'))]")
        assert width >= min(natural / 1.8, 640) - 1
    assert gallery.evaluate("document.documentElement.scrollWidth") == 390
    gallery.wait_for_selector("#trex_fig2 .picture[data-more]")  # it says that there is more of it
    gallery.eval_on_selector("#trex_fig2 .picture", "picture => picture.scrollTo(9999, 0)")
    gallery.wait_for_selector("#trex_fig2 .picture:not([data-more])")


def test_on_a_phone_an_item_is_folded_to_its_result_until_it_is_opened(tab, gallery, folder) -> None:
    whole = gallery.evaluate("document.documentElement.scrollHeight")
    assert gallery.locator(".fold:not([open])").count() == 0 and gallery.locator(".thumbnail:visible").count() == 0
    gallery.set_viewport_size({"width": 390, "height": 800})
    gallery.wait_for_function("!document.querySelector('.fold[open]')")
    assert gallery.evaluate("document.documentElement.scrollHeight") < whole
    for item in shown(gallery):
        card = gallery.locator(f"#{item}")
        if card.locator(".fold").count():
            assert card.locator(".verdicts").is_visible() and not card.locator(".picture").is_visible(), item
            assert card.locator(".thumbnail").is_visible() == bool(card.locator(".picture").count()), item
    gallery.click("#gr_fig2 .fold > summary")
    assert gallery.locator("#gr_fig2 .picture").is_visible() and gallery.locator("#gr_fig2 .thumbnail").is_hidden()
    gallery.fill("#query", "GRSGD-embedded-s1 conditioning")
    assert gallery.locator("#gr_anatomy .fold").get_attribute("open") is not None, "the hit is inside"
    gallery.goto("about:blank")
    gallery.goto((folder / "index.html").as_uri() + "#trex_fig2")
    assert gallery.locator("#trex_fig2 .picture").is_visible() and gallery.locator("#gr_fig2 .picture").is_hidden()
    # leaving the page ends the loading of its pictures
    assert [one for one in tab.complaints if not one.endswith("net::ERR_ABORTED")] == []


@pytest.mark.parametrize("name", ["reproducibility", "contract"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_beside_the_gallery_can_be_read_on_a_phone_in_both_themes(
    tab, folder, name: str, scheme: str
) -> None:
    page = tab.open(folder / f"{name}.html")
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 390 and page.evaluate(CONTRASTS) == {}
    page.click("text=All figures")
    assert page.url.endswith("index.html") and tab.complaints == []


def opened(page) -> list[str]:
    return page.eval_on_selector_all(".group[open]", "found => found.map(group => group.parentElement.id)")


def test_groups_are_sheets_of_pictures_until_they_are_opened(tab, folder) -> None:
    page = tab.open(folder / "index.html")
    assert opened(page) == [] and page.locator("article.item:visible").count() == 0
    small = page.locator(".sheet:visible img").count()
    assert small == page.eval_on_selector_all(".editions > .item:first-child .picture", "found => found.length") > 20
    assert page.locator(".cover").first.bounding_box()["y"] < 400, "pictures are seen first"
    height = page.evaluate("document.documentElement.scrollHeight")
    page.click("#paper-gr .group > summary")
    assert opened(page) == ["paper-gr"] and page.locator("#gr_fig2 .picture").is_visible()
    assert page.locator("#paper-gr .sheet").is_hidden()
    page.click("#groups")
    assert len(opened(page)) == 4
    assert 5 * height < page.evaluate("document.documentElement.scrollHeight"), "closed groups are short"
    page.click("#groups")
    assert opened(page) == []


def test_a_filter_an_address_and_a_small_picture_open_the_groups_that_they_lead_into(tab, folder) -> None:
    page = tab.open(folder / "index.html")
    page.click("#paper-gr .group > summary")
    page.fill("#query", "three trees")
    assert "paper-smore" in opened(page) and page.locator("#smore_fig3").is_visible()
    page.click("#reset")
    assert opened(page) == ["paper-gr"], "what a filter opened closes with it"
    page.click(".sheet a[href='#smore_tree']")
    assert page.locator("#smore_tree .picture").is_visible() and page.evaluate("location.hash") == "#smore_tree"
    top = "document.getElementById('smore_tree').getBoundingClientRect().top"
    page.wait_for_function(f"Math.abs({top}) < 200")
    page.wait_for_load_state("networkidle")
    assert abs(page.evaluate(top)) < 200, "pictures that load late leave it where it is"
    page.goto("about:blank")
    page.goto((folder / "index.html").as_uri() + "#paper-trex")
    assert opened(page) == ["paper-trex"]


def test_groups_open_without_a_script(chromium, folder) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "index.html").as_uri())
    assert page.locator(".sheet:visible img").count() > 20 and page.locator("#gr_fig2 .picture").is_hidden()
    page.click("#paper-gr .group > summary")
    assert page.locator("#gr_fig2 .picture").is_visible()
    context.close()


def test_a_link_to_what_a_filter_hides_shows_it_again(gallery) -> None:
    chosen(gallery, "paper", "gr")
    gallery.click(".papers a[href='#paper-smore']")
    assert gallery.locator("#paper-smore").is_visible() and gallery.locator("#trex_fig2").count() == 1


def test_the_theme_is_the_systems_until_one_is_chosen_and_that_is_remembered(tab, folder) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page = tab.open(folder / "index.html")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert dark != light and page.get_attribute("#theme", "aria-pressed") == "true"
    for chosen in (lambda: page.click("#theme"), page.reload):
        chosen()
        page.wait_for_function(f"{ground} === '{light}'")
        assert page.get_attribute("#theme", "aria-pressed") == "false"


def test_the_keyboard_starts_at_the_skip_link_and_reaches_the_figures(tab, folder) -> None:
    gallery = tab.open(folder / "index.html")
    gallery.keyboard.press("Tab")
    assert gallery.evaluate("document.activeElement.textContent") == "Skip to the figures"
    assert gallery.locator(".skip").bounding_box()["width"] > 50, "it shows when it has the focus"
    gallery.keyboard.press("Enter")
    gallery.keyboard.press("Tab")
    assert gallery.evaluate("document.activeElement.matches('.group > summary')")
    gallery.keyboard.press("Enter")
    gallery.keyboard.press("Tab")
    assert gallery.evaluate("document.activeElement.closest('article').id") == shown(gallery)[0]
    assert gallery.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_nothing_is_wider_than_a_phone_and_no_text_is_smaller_than_nine_pixels(gallery) -> None:
    gallery.set_viewport_size({"width": 360, "height": 780})
    gallery.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    gallery.click("button[data-twin='trex_fig2.html']")
    assert gallery.evaluate("document.documentElement.scrollWidth") == 360
    cards = [card.bounding_box() for card in gallery.locator("#trex_fig2 .judged > .cards > .claim").all()]
    assert all(above["y"] + above["height"] < below["y"] for above, below in zip(cards, cards[1:])) and len(cards) > 1
    small = """[...document.querySelectorAll("body *")].filter(element => element.checkVisibility() &&
        [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()) &&
        parseFloat(getComputedStyle(element).fontSize) < 9).map(element => element.textContent)"""
    assert gallery.evaluate(small) == []


CONTRASTS = """() => {
  const parse = color => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const linear = part => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = element => { for (; element; element = element.parentElement) {
    const color = parse(getComputedStyle(element).backgroundColor); if (color[3] === 1) return color; } };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), low = {};
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, iframe")) continue;
    const both = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))].sort((a, b) => b - a);
    const contrast = (both[0] + 0.05) / (both[1] + 0.05);
    if (contrast < 4.5) low[element.className + ": " + walker.currentNode.data.trim()] = contrast;
  }
  return low; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_on_the_page_stands_out_from_what_is_behind_it(gallery, scheme: str) -> None:
    gallery.emulate_media(color_scheme=scheme)
    assert gallery.evaluate(CONTRASTS) == {}


def test_a_page_opens_in_the_place_of_its_picture_and_goes_away_again(tab, gallery) -> None:
    button, picture = gallery.locator("button[data-twin='smore_tree.html']"), gallery.locator("#smore_tree .picture")
    assert gallery.locator("iframe").count() == 0, "no frame is loaded before it is asked for"
    button.click()
    gallery.frame_locator("#twin-smore_tree iframe").locator(".main-svg").first.wait_for()
    assert not picture.is_visible() and button.get_attribute("aria-expanded") == "true"
    button.click()
    assert picture.is_visible() and not gallery.locator("#twin-smore_tree").is_visible()
    assert tab.complaints == []


def test_a_page_in_the_gallery_shows_its_figure_only_and_in_the_gallerys_theme(gallery) -> None:
    gallery.click("#theme")
    gallery.click("button[data-twin='smore_tree.html']")
    frame = gallery.frame_locator("#twin-smore_tree iframe")
    frame.locator("#smore_tree[data-drawn*=dark]").wait_for()
    assert frame.locator("h1").is_hidden() and frame.locator("#smore_tree").is_visible()


def test_the_copy_button_copies_the_command_and_says_so(gallery, folder) -> None:
    gallery.context.grant_permissions(["clipboard-read", "clipboard-write"])
    gallery.click("#gr_fig2 details.origin > summary")
    gallery.click("button[data-copy='command-gr_fig2']")
    gallery.wait_for_function("document.getElementById('told').textContent === 'Copied'")
    shown = gallery.inner_text("#command-gr_fig2")
    assert shown.startswith('make figures ARGS="--only gr_fig2 --preset quick') and shown.endswith(f'--out {folder}"')
    assert gallery.evaluate("navigator.clipboard.readText()") == shown


def test_paper_has_no_controls_shows_what_is_folded_and_starts_a_page_for_each_item(gallery) -> None:
    gallery.evaluate("""addEventListener("beforeprint", () => {
        window.folded = document.querySelectorAll("details:not([open])").length; })""")
    assert gallery.pdf(format="A4").startswith(b"%PDF") and gallery.evaluate("window.folded") == 0
    gallery.emulate_media(media="print", color_scheme="dark")
    assert gallery.locator("button:visible, input:visible, nav:visible").count() == 0
    assert gallery.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    second = gallery.locator(".paper .item:not(.missing)").nth(1)
    assert second.evaluate("item => getComputedStyle(item).breakBefore") == "page"
