"""A headless Chromium for tests that look at pages. Ask for it with `pytest_plugins = ["tests.browser"]`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXECUTABLE = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NO_WEBGL = ("--disable-webgl", "--disable-webgl2", "--disable-3d-apis")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Playwright's Browser, Debian's Chromium; skips where either is not installed.

    One for each test file, because Playwright keeps an event loop running in which `asyncio.run` fails.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not shutil.which(EXECUTABLE):
        pytest.skip(f"{EXECUTABLE} is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=[*FLAGS])
        yield browser
        browser.close()


class Tab:
    """A page with what went wrong on it. complaints: console errors, exceptions, failed requests. asked: all URLs."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"{request.url}: {request.failure}"))
        page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str | Path) -> Any:
        self.page.goto(Path(path).resolve().as_uri())
        return self.page


@pytest.fixture
def tab(chromium: Any) -> Iterator[Tab]:
    """A fresh profile with one page of 1280 × 900, light theme."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    context.set_default_timeout(60_000)  # plotly alone takes seconds to start where cores are shared
    yield Tab(context.new_page())
    context.close()
