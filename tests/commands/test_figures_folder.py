"""Where the figures of a suite go: a folder of their own below figures/, whatever the suite is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_analysis.commands.figures import checked_suite
from moe_analysis.presets import PROJECT
from tests.tasks.suites import free_row, write


@pytest.mark.parametrize("named", [".", "../mine", "../mine/", "{}"])
def test_figures_of_a_suite_go_to_its_own_folder_however_it_is_called(named: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(write(tmp_path / "mine", "a.jsonl", free_row()))
    mine = tmp_path / "mine"
    assert checked_suite(named.format(mine), None) == (str(mine), PROJECT / "figures" / "mine")


def test_a_folder_that_was_asked_for_is_taken(tmp_path: Path) -> None:
    assert checked_suite("embedded", tmp_path) == ("embedded", tmp_path)
    assert checked_suite(None, None) == (None, None)
