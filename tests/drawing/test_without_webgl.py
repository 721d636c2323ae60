"""A browser without WebGL says so where a three-dimensional picture would be."""

from __future__ import annotations

import shutil

import plotly.graph_objects as go
import pytest

from tests.browser import EXECUTABLE, FLAGS, NO_WEBGL

sync_api = pytest.importorskip("playwright.sync_api")


@pytest.mark.skipif(not shutil.which(EXECUTABLE), reason="Chromium is not installed")
def test_a_scene_tells_that_it_needs_webgl(tmp_path):
    from moe_analysis.studies.router_paths.explore import turning_figure

    figure = go.Figure([go.Scatter3d(x=[0, 1], y=[0, 1], z=[0, 1])], turning_figure().layout)
    figure.write_html(page := tmp_path / "page.html")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=[*FLAGS, *NO_WEBGL])
        opened = browser.new_page()
        opened.goto(page.as_uri())
        opened.get_by_text("WebGL is not supported by your browser").first.wait_for(timeout=60_000)
        browser.close()
