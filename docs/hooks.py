"""What mkdocs asks us while it builds: the pages made from the sources, and the order of all pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from command_pages import command_page
from generated import api_pages, items_page, prepared_page
from mkdocs.structure.files import File, Files
from public_names import public_names

WRITTEN = {
    "Start": "index.md",
    "Training": "training.md",
    "A run on disk": "runs.md",
    "Campaigns": "campaigns.md",
    "Your own adapter": "adapters.md",
    "Your own loop": "loop.md",
    "Your own sentences": "sentences.md",
    "In PEFT and torch": "peft.md",
    "What works": "contract.md",
}
MADE = {"Command line": "commands.md", "Paper items": "items.md", "Results": "results.md"}
RESULTS = Path(__file__).with_name("results.md")  # written by tools/results.py
SECTIONS = {  # title -> the modules below it; what nothing claims would be left out, and the build stops
    "Models and runs": (
        "backbones",
        "peft_bridge",
        "adapters",
        "optim",
        "tasks",
        "training",
        "presets",
        "comparison",
        "run_comparison",
        "campaigns",
        "places",
    ),
    "Theory": ("theory",),
    "Studies": ("studies", "papers"),
    "Figures": ("drawing", "evidence"),
}


def on_config(config: Any) -> Any:
    """The navigation: written pages first, then the reference, one page per module."""
    config.nav = [
        {"Manual": [{title: page} for title, page in {**WRITTEN, **MADE}.items()]},
        {"Reference": reference()},
    ]
    return config


def reference() -> list[Any]:
    modules = sorted({one.module for one in public_names()})
    entries: list[Any] = [{"moe_analysis": "api/index.md"}, {"Names in the examples": "api/examples.md"}]
    for title, parts in SECTIONS.items():
        own = [module for part in parts for module in modules if module.split(".")[1] == part]
        if own:
            entries.append({title: [{module.partition(".")[2]: page} for module in own for page in [page_of(module)]]})
    return entries


def page_of(module: str) -> str:
    return next(one.page for one in public_names() if one.module == module)


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages that are made of the sources."""
    made = {
        **api_pages(),
        "api/examples.md": prepared_page(),
        "items.md": items_page(),
        "commands.md": command_page(),
        "results.md": RESULTS.read_text("utf-8"),
    }
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files
