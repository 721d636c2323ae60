"""The commands of the gallery make the figures that they stand beside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from moe_analysis.figures import choose
from moe_analysis.gallery.entries import collect, command_for, program
from moe_analysis.gallery.shelves import Shelf
from moe_analysis.places import home

from .pages import shipped, words_of


def test_every_command_names_what_the_command_line_knows(folder: Path) -> None:
    entries = [entry for group in collect([shipped()]).values() for entry in group]
    for entry in entries:
        words = words_of(entry.command or "")
        chosen = choose([words[words.index("--only") + 1]])
        assert {item.notebook for item in chosen} == {entry.notebook}


@pytest.mark.parametrize(
    ("place", "suite", "out"),
    [
        ("figures/quick", None, None),
        ("figures/quick/mine", "mine", None),
        ("figures/mine", None, "figures/mine"),
        ("figures", "mine", "figures"),
        ("/elsewhere/a b", "mine", "/elsewhere/a b"),
        ("/elsewhere/$HOME `x` \\", "mine", "/elsewhere/$HOME `x` \\"),
    ],
)
def test_a_command_names_the_folder_where_figures_would_go_elsewhere(place, suite, out) -> None:
    preset = {"preset": "quick", **({"suite": suite} if suite else {})}
    command = command_for("trex_fig2", preset, Shelf("here", home() / place, "", {}))
    name, *words = words_of(command)
    assert name == "figures" and words[:2] == ["--only", "trex_fig2"]
    assert words[words.index("--out") + 1] == out if out else "--out" not in words


def test_the_words_of_a_command_arrive_through_make_and_the_shell_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("figures:\n\t@printf '%s\\n' $(ARGS)\n")
    words = ["--suite", "my suite", "--out", '/a b/$HOME `x` \\ it\'s "#1"!']
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not under `make test`
    told = subprocess.run(
        program("figures", words), shell=True, cwd=tmp_path, env=alone, capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines() == words


def test_outside_a_clone_a_command_is_the_programs(monkeypatch) -> None:
    monkeypatch.setattr("moe_analysis.gallery.entries.IN_CLONE", False)
    assert program("figures", ["--only", "a b"]) == "python -m moe_analysis figures --only 'a b'"
