"""What a person who waits is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import moe_analysis as ma
from moe_analysis.commands import terminal
from moe_analysis.training import panel
from moe_analysis.training.status import locked
from tests.commands.calls import write_run


def test_outside_a_terminal_a_run_tells_its_step_and_the_time_left_now_and_then(
    config, out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel, "LINE_SECONDS", 0.01)
    run = config(steps=10)
    path = write_run(out, run, steps=4, finished=False)
    with locked(path), panel.shown(lambda: panel.look_at(ma.Run(path, run)), True, terminal.notes):
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    # 2.5 seconds for four steps, and six to go
    assert len(lines) > 1 and set(lines) == {f"{run.run_name}: step 4 of 10, about 4 s left"}


def test_bars_give_back_what_they_are_given_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(terminal.each("abc", "reading")) == list("abc") == list(terminal.counted("abc"))
    with terminal.spinner("loading"):
        pass
    assert capsys.readouterr() == ("", "")
