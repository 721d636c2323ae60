"""A page that stands alone: sent by mail, it opens without a network and without a file beside it."""

from __future__ import annotations

import numpy as np
import pytest

from moe_analysis.drawing import SaveError, save_page
from tests.studies.fake_tokens import routed

pytest_plugins = ["tests.browser"]


@pytest.fixture(scope="module")
def found():
    gates = np.zeros((3, 11, 4))
    for layer, experts in enumerate(("00112233001", "33221100332", "01230123012")):
        gates[layer, np.arange(11), [int(expert) for expert in experts]] = 1.0
    return routed(gates, "lookatthese")


@pytest.mark.parametrize("width", [1280, 360], ids=["desktop", "phone"])
def test_the_page_asks_for_nothing_and_shows_the_gates_of_a_token_in_the_layer_that_is_chosen(
    found, tab, tmp_path, width
):
    files = found.save(tmp_path / "new" / "tokens.html")
    assert list(files) == ["html"] and [one.name for one in files["html"].parent.iterdir()] == ["tokens.html"]
    tab.page.set_viewport_size({"width": width, "height": 900})
    page = tab.open(files["html"])
    page.wait_for_selector("#routing_tokens[data-drawn]")
    assert page.locator("a").count() == 0 and page.locator("h1").text_content() == found.title

    def shown(number: int) -> str:
        box = page.locator(".bars .point path").nth(number).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        return page.locator(".hoverlayer .hovertext").text_content()

    assert "takes expert 3, gate 1" in shown(0)  # the middle one of three layers is shown at first
    page.locator("#controls select").select_option(label="layer 0, gate")
    page.wait_for_function("document.querySelector('#routing_tokens').data[0].visible === true")
    assert "takes expert 0, gate 1" in shown(1)
    assert page.locator(".sankey-node").count() == 12
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert tab.complaints == [] and set(tab.asked) <= {files["html"].resolve().as_uri(), "data:,"}


def test_the_same_result_gives_the_same_page_and_a_place_that_cannot_be_written_is_named(found, tmp_path):
    first, second = (found.save(tmp_path / name)["html"].read_bytes() for name in ("a.html", "b.html"))
    assert first == second and b"plotly.min.js" not in first[:20_000]
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="path = .*tokens.docx' is not a page; pass a name that ends in .html"):
        save_page(tmp_path / "tokens.docx", "routing_tokens", found.interactive())
    with pytest.raises(SaveError, match="ends in .docx, and several files are written; pass a folder"):
        found.save(tmp_path / "tokens.docx")
    assert not list(tmp_path.glob("*.docx"))
    with pytest.raises(SaveError, match="path = .*file/tokens.html' cannot be written .*; pass another file"):
        save_page(tmp_path / "file" / "tokens.html", "routing_tokens", found.interactive())
