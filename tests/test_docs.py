"""The manual: it builds without a warning, has a place for every public name, and opens from disk without a network."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from moe_analysis.papers import ITEMS

from .docs.harness import public_names

pytest_plugins = ["tests.browser"]

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "pages"
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}


class Page(HTMLParser):
    """What a page links to, loads, and offers to be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.anchors |= {value for name in ("id", "name") if (value := found.get(name))}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"] or "")
        elif tag in LOADED and found.get(LOADED[tag]) and found.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(found[LOADED[tag]] or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual, built as `make docs` does; a warning is an error, which mkdocs counts only where it may print it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "docs/mkdocs.yml", "-d", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_public_name_has_its_place(pages) -> None:
    missing = [
        one.path
        for one in public_names()
        if one.kind != "constant" and one.path not in pages[one.page.replace(".md", ".html")].anchors
    ]
    assert not missing and len(public_names()) > 80


def test_every_link_inside_leads_somewhere(pages) -> None:
    broken = []
    for name, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(unquote(link))
            if re.match(r"[a-z]+:", target) or name == "404.html":
                continue
            path = os.path.normpath(Path(name).parent / target) if target else name
            if path not in pages or (anchor and anchor not in pages[path].anchors):
                broken.append(f"{name}: {link}")
    assert not broken


def test_no_page_loads_anything_from_elsewhere(site, pages) -> None:
    assert {link for page in pages.values() for link in page.loaded if re.match(r"(https?:)?//", link)} == set()
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", path.read_text("utf-8"))


def test_docstrings_are_shown_as_they_were_meant(site) -> None:
    text = (site / "api" / "tasks.html").read_text("utf-8")
    assert 'class="language-pycon highlight"' in text and "<blockquote>" not in text
    assert re.search(r'<a [^>]*href="#moe_analysis.tasks.SuiteWarning"[^>]*><code>SuiteWarning</code>', text)


def test_the_page_of_the_command_line_has_every_command(site) -> None:
    import typer.main

    from moe_analysis.__main__ import app

    text = (site / "commands.html").read_text("utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert commands and all(f'id="{name}"' in text for name, command in commands.items() if not command.hidden)
    assert "[bold]" not in text and "[cyan]" not in text and "--workers" in text


def test_the_page_of_the_papers_has_every_item_with_its_study_and_checks(site: Path) -> None:
    text = (site / "items.html").read_text("utf-8")
    assert not [item.id for item in ITEMS if item.study not in text or item.checks not in text]


def test_the_page_of_a_run_names_what_a_run_has(training_config, out) -> None:
    import moe_analysis as ma

    text = (PAGES / "runs.md").read_text("utf-8")
    named = set(re.findall(r"^    ([\w.]+)/?  ", text, flags=re.MULTILINE))
    only_sometimes = {"adapter_source", "clusters.npz", "experts.zarr", "trees.zarr", "tensorboard", "checkpoints"}
    run = ma.train(training_config, out)
    found = {path.name for path in run.path.iterdir() if not path.name.startswith(".")}
    assert named - only_sometimes <= found <= named
    columns = re.search(r"evaluation.parquet +one line per data set: (.*)", text)[1].split(", ")
    assert columns == list(run.evaluation.columns.drop("dataset"))


def test_the_first_steps_do_what_they_say() -> None:
    text = (PAGES / "index.md").read_text("utf-8").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, "index.md", "index.md", 0)
    assert len(test.examples) > 4 and doctest.DocTestRunner().run(test).failed == 0


# in a browser ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["index.html", "api/theory.html", "commands.html"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_page_opens_from_disk_without_a_complaint(site, tab, name, width) -> None:
    tab.page.set_viewport_size({"width": width, "height": 800})
    page = tab.open(site / name)
    page.wait_for_load_state("networkidle")
    assert page.locator("article h1").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not tab.complaints and all(url.startswith(("file:", "data:", "about:")) for url in tab.asked)


def test_the_search_finds_a_name_and_goes_to_it(site, tab) -> None:
    page = tab.open(site / "index.html")
    page.locator(".md-search__input").first.click()
    page.locator(".md-search__input").first.press_sequentially("load_suite", delay=20)
    page.locator(".md-search-result__link", has_text="name: str | Path").first.click()
    page.wait_for_url("**/api/tasks.html**")
    assert page.locator("[id='moe_analysis.tasks.load_suite']").is_visible() and not tab.complaints


def test_the_colors_follow_the_reader_and_the_button(site, chromium) -> None:
    context = chromium.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    assert page.locator("body").get_attribute("data-md-color-scheme") == "slate"
    page.locator("label[title='Light colors']").click()
    assert page.locator("body").get_attribute("data-md-color-scheme") == "default"
    context.close()
