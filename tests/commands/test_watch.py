"""`watch`, and how quiet the commands are that train."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from moe_analysis.commands import train
from moe_analysis.training import panel
from moe_analysis.training.progress import FILE, Live, Point, write_live
from moe_analysis.training.status import locked
from moe_analysis.training.sweep.work import failure, keep_failure
from tests.commands.calls import call, document, write_run

LIVE = Live(4, 0.5, 2, 8, 0.25, (0.5, 0.25, 0.25, 0.0), (Point(1, 2.0, 0.9, 0.4, 0.0), Point(4, 0.5, 0.8, 0.5, 1.0)))


@pytest.fixture
def half(config, out: Path) -> Path:
    """A run that stands at step 4 of 10."""
    path = write_run(out, config(steps=10), steps=4, finished=False)
    write_live(path, LIVE)
    return path


def test_a_run_that_is_being_trained_is_shown_until_it_ends(half: Path, monkeypatch) -> None:
    monkeypatch.setattr(panel, "LINE_SECONDS", 0.02)
    monkeypatch.setattr(train, "POLL_SECONDS", 0.05)
    release = threading.Event()

    def hold() -> None:
        with locked(half):
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    threading.Timer(0.5, release.set).start()
    started = time.monotonic()
    result = call("watch", half.name[:12], "--out", str(half.parent))
    holder.join()
    assert result.exit_code == 0 and time.monotonic() - started >= 0.4
    assert f"{half.name}: step 4 of 10, loss 0.500, about 2 s left" in result.stderr.splitlines()
    assert result.stdout == (
        f"{half.name} stopped at step 4 of 10 and is not being trained; the command that started it resumes it\n"
    )


def test_without_a_name_the_runs_that_are_being_trained_are_shown(half: Path, config) -> None:
    write_run(half.parent, config(seed=1))
    with locked(half):
        rows = document(call("watch", "--out", str(half.parent), "--json").stdout)
    assert [row["name"] for row in rows] == [half.name]
    assert (rows[0]["state"], rows[0]["step"], rows[0]["seconds_left"]) == ("running", 4, 1.5)
    assert rows[0]["live"]["points"][-1] == [4, 0.5, 0.8, 0.5, 1.0]
    nobody = call("watch", "--out", str(half.parent))
    assert nobody.exit_code == 0 and f"no run of {half.parent} is being trained" in nobody.stdout
    assert document(call("watch", "--out", str(half.parent), "--json").stdout) == []


def test_a_run_that_nobody_trains_is_told_at_once(config, out: Path) -> None:
    done, bad = config(), config(seed=1)
    write_run(out, done)
    keep_failure(bad, out, failure(OSError("full"), "Traceback\nOSError: full"))
    told = call("watch", done.run_name, "--out", str(out))
    assert told.exit_code == 0
    assert told.stdout == f"{done.run_name} is finished: step 6 of 6 in 2 s, test loss 1.000, accuracy 0.500\n"
    both = call("watch", "moelora*", "--out", str(out))
    assert both.exit_code == 1 and f"{bad.run_name} failed at step 0 of 6: OSError: full" in both.stdout


def test_a_run_that_is_not_there_is_named(half: Path, tmp_path: Path) -> None:
    absent = call("watch", "T-REX", "--out", str(half.parent))
    assert absent.exit_code == 2 and "'T-REX' matches no run" in absent.stderr
    nowhere = call("watch", "--out", str(tmp_path / "none"))
    assert nowhere.exit_code == 2 and "is not a folder" in nowhere.stderr


def test_a_damaged_file_shows_the_step_alone(half: Path) -> None:
    (half / FILE).write_text("{")
    with locked(half):
        row = document(call("watch", half.name, "--out", str(half.parent), "--json").stdout)[0]
    assert row["step"] == 4 and row["live"] is None


def test_train_and_sweep_say_nothing_when_quiet(config, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config(steps=2).to_dict()))
    result = call("train", str(tmp_path / "config.json"), "--out", str(tmp_path / "a"), "--quiet")
    assert result.exit_code == 0 and result.stderr == "" and "test loss" in result.stdout
    base = {name: value for name, value in config(steps=2).to_dict().items() if value is not None}
    (tmp_path / "grid.yaml").write_text(json.dumps({"base": base, "seeds": [1, 2]}))
    result = call("sweep", str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "a"), "--workers", "1", "-q")
    assert result.exit_code == 0 and (result.stdout, result.stderr) == ("", "")
    assert len(list((tmp_path / "a").glob("*/status.json"))) == 3
