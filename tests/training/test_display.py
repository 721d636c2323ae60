"""Where the panel is shown, and where it is not."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import moe_analysis as ma
from moe_analysis.training import panel
from moe_analysis.training.files import RunError
from moe_analysis.training.panel import Panel, look_at, shown, steady
from moe_analysis.training.progress import RunProgress
from moe_analysis.training.sweep.running import sweep

ROW = RunProgress("some-run", "running", 1, 4, 3.0)


def look() -> Any:
    return lambda: Panel([ROW])


def terminal() -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=True)


def nobody() -> Any:
    raise AssertionError("nobody is there to see it")


def test_a_terminal_shows_it_unless_quiet() -> None:
    console = terminal()
    with shown(look, None, console):
        pass
    assert "some-run" in console.file.getvalue() and "step 1 of 4" in console.file.getvalue()
    quiet = terminal()
    with shown(nobody, False, quiet):
        pass
    assert quiet.file.getvalue() == ""


def test_a_pipe_gets_nothing_or_lines_where_asked(monkeypatch) -> None:
    monkeypatch.setattr(panel, "LINE_SECONDS", 0.01)
    console = Console(file=io.StringIO())
    with shown(nobody, None, console):
        pass
    assert console.file.getvalue() == ""
    with shown(look, True, console):
        time.sleep(0.2)
    assert set(console.file.getvalue().splitlines()) == {"some-run: step 1 of 4, about 9 s left"}


def test_one_panel_moves_at_a_time() -> None:
    outer, inner = terminal(), terminal()
    with shown(look, None, outer), shown(look, None, inner):
        pass
    assert inner.file.getvalue() == "" and "some-run" in outer.file.getvalue()
    with shown(look, None, inner):
        pass
    assert "some-run" in inner.file.getvalue()


def test_what_cannot_be_read_for_a_moment_is_shown_as_it_was() -> None:
    answers = iter([Panel([ROW]), RunError("torn"), OSError("gone")])

    def read() -> Panel:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    again = steady(read)
    assert [str(again()) for _ in range(3)] == ["some-run: step 1 of 4, about 9 s left"] * 3
    with shown(lambda: lambda: read_nothing(), None, terminal()):
        pass


def read_nothing() -> Panel:
    raise RunError("status.json is not readable JSON")


def test_nothing_is_shown_of_runs_that_are_finished(config, out: Path, capfd, monkeypatch) -> None:
    run = ma.train(config(steps=2), out, progress=False)
    monkeypatch.setattr("moe_analysis.training.trainer.shown", nobody)
    monkeypatch.setattr("moe_analysis.training.sweep.running.shown", nobody)
    assert ma.train(config(steps=2), out).id == run.id
    assert [one.id for one in sweep([config(steps=2)], out).runs] == [run.id]
    assert "step" not in capfd.readouterr().err


def test_training_is_quiet_outside_terminals(config, out: Path, capfd) -> None:
    assert not panel.in_page()
    ma.train(config(steps=2), out)
    sweep([config(steps=2, seed=1)], out, workers=1)
    assert capfd.readouterr() == ("", "")


def test_a_folder_tells_where_its_run_is(config, out: Path) -> None:
    run = ma.train(config(steps=2), out)
    assert look_at(run)().rows[0].state == "finished" and look_at(run)().rows[0].live.step == 2
