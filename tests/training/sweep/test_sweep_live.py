from __future__ import annotations

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from rich.console import Console
from submitit.slurm.slurm import SlurmJob

import moe_analysis as ma
from moe_analysis.training.files import RunError, held, state_of
from moe_analysis.training.panel import shortened
from moe_analysis.training.progress import RunProgress, clock, seconds_left
from moe_analysis.training.status import locked
from moe_analysis.training.sweep.executors import ask_the_queue, keeps_accounts, open_executor
from moe_analysis.training.sweep.running import SweepStatus, display, sweep
from moe_analysis.training.sweep.work import Outcome, failure, keep_failure

from ...commands.calls import write_run
from ..test_panel import printed


def rows() -> list[RunProgress]:
    return [
        RunProgress("done", "finished", 10, 10, 20.0, 0.5, 0.75),
        RunProgress("now", "running", 4, 10, 8.0),
        RunProgress("begun", "running", 0, 10, 0.0),
        RunProgress("next", "waiting", 0, 10, 0.0),
        RunProgress("lost", "failed", 2, 10, 4.0),
    ]


def test_time_left_is_the_open_steps_at_the_pace_so_far() -> None:
    assert rows()[1].seconds_left == 8.0 * 6 / 4
    assert [row.seconds_left for row in rows() if row.name != "now"] == [None] * 4
    assert seconds_left(rows()) == 2.0 * (6 + 10 + 10) / 2  # two seconds a step, two at a time
    assert seconds_left(rows()[3:]) is None


def test_a_table_shows_every_run_or_those_of_most_interest() -> None:
    whole = printed(*rows())
    assert all(row.name in whole for row in rows()) and "0.500" in whole and "4/10" in whole and "12 s left" in whole
    assert "1 finished, 2 running, 1 waiting, 1 failed of 5; about 26 s left" in whole
    short = printed(*rows(), height=10)
    assert [row.name for row in rows() if row.name in short] == ["now", "begun", "lost"]
    assert "2 not shown" in short


def test_a_narrow_terminal_shows_both_ends_of_a_name_and_every_number() -> None:
    names = [f"MixLoRA (noisy top-k)-embedded-s{seed}-87cba433c{seed}" for seed in (0, 1)]
    runs = [
        RunProgress(names[0], "finished", 1000, 1000, 3725.0, 0.5, 0.75),
        RunProgress(names[1], "running", 400, 1000, 900.0),
    ]
    lines = printed(*runs, width=80, height=24).splitlines()
    assert max(map(len, lines)) <= 80
    first, second = (next(line for line in lines if state in line) for state in ("finished ", "running "))
    assert first.split() == ["MixLoRA", "(noisy…-s0-87cb…", "finished", "1000/1000", "0.500", "0.750", "1:02", "h"]
    assert second.split() == ["MixLoRA", "(noisy…-s1-87cb…", "running", "400/1000", "22:30", "min", "left"]
    assert [shortened(names[0], room) for room in (50, 12, 9, 4, 1)] == [
        names[0],
        "Mi…-s0-87cb…",
        "…-s0-87cb",
        "…7cb",
        "…",
    ]
    assert names[0] in printed(*runs, width=120, height=24)


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0.4, "0 s"), (185, "3:05 min"), (7800, "2:10 h")])
def test_times_are_short(seconds, text) -> None:
    assert clock(seconds) == text


def test_the_state_of_a_run_follows_its_folder(config, out: Path) -> None:
    one, run = config(), ma.training.Run(out / config().run_name, config())
    status = SweepStatus([one], out)
    assert (state_of(run.path, run.status), status.read()[0].state) == ("stopped", "waiting")
    with locked(run.path):
        assert held(run.path) and (state_of(run.path, run.status), status.read()[0].state) == ("running", "running")
    assert not held(run.path)
    keep_failure(one, out, failure(OSError("full"), "Traceback"))
    assert (state_of(run.path, run.status), status.read()[0].state) == ("failed", "failed")
    assert SweepStatus([one], out).read()[0].state == "waiting"  # an earlier sweep's failure is tried again
    assert ma.Run.load(run.path).config.digest == one.digest
    (run.path / "status.json").write_text(json.dumps({"state": "finished", "step": 6}))
    assert state_of(run.path, run.status) == "finished"
    keep_failure(one, out, failure(OSError("late"), "a later one"))
    assert (run.path / "failure.txt").read_text() == "Traceback"


def test_a_folder_that_another_process_holds_gets_no_failure(config, out: Path) -> None:
    folder = out / config().run_name
    with locked(folder):
        keep_failure(config(), out, failure(OSError("full"), "Traceback"))
        with pytest.raises(RunError, match="another process"), locked(folder):
            pass
    assert not (folder / "failure.txt").exists()


def test_without_a_terminal_every_end_of_a_run_is_a_line(config, out: Path) -> None:
    done, bad = config(steps=2), config(steps=2, seed=1)
    console = Console(file=io.StringIO(), width=60)
    with display(SweepStatus([done, bad], out), console) as tell:
        ma.train(done, out)
        tell(done.run_name, Outcome("finished"))
        tell(bad.run_name, Outcome("failed", "OSError: [Errno 28] full\nmore", "Traceback"))
    first, second = console.file.getvalue().splitlines()
    assert first.startswith(f"1/2 {done.run_name}: finished 2 steps in ") and ", test loss " in first
    assert second == f"2/2 {bad.run_name}: failed: OSError: [Errno 28] full"
    again = Console(file=io.StringIO())
    with display(SweepStatus([done], out), again):
        pass
    assert again.file.getvalue() == "1 of 1 runs are finished already\n"


def test_in_a_terminal_the_table_is_live(config, out: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=20)
    with display(SweepStatus([config()], out), console) as tell:
        tell(config().run_name, Outcome("finished"))
    assert config().run_name in console.file.getvalue() and "waiting" in console.file.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "spark"}, "executor = 'spark' is unknown; choose one of process, dask, submitit"),
        (
            {"kind": "process", "scheduler": "tcp://x:1"},
            "works only with Dask, but executor = 'process'; pass --executor dask",
        ),
        ({"kind": "process", "workers": 0}, "workers = 0 must be at least 1"),
        ({"kind": "dask", "scheduler": "tcp://127.0.0.1:1"}, "does not answer"),
        ({"kind": "submitit", "slurm": {"partitions": "gpu"}}, "refused by submitit: Unknown argument 'partitions'"),
    ],
)
def test_an_executor_that_cannot_be_had_is_refused(tmp_path: Path, monkeypatch, arguments, message: str) -> None:
    monkeypatch.setattr("moe_analysis.training.sweep.executors.CONNECT_SECONDS", 1)
    with pytest.raises(ValueError, match=message), open_executor(out=tmp_path, **arguments):
        pass


def test_the_processes_are_the_sweeps_own(tmp_path: Path) -> None:
    with open_executor("process", tmp_path, workers=3) as opened:
        assert opened == (None, 3)
    with open_executor("submitit", tmp_path, slurm={"partition": "gpu", "timeout_min": 5}) as (queue, limit):
        assert queue.cluster == "local" and limit  # what is submitted here starts at once


def test_a_job_that_was_killed_has_ended_where_slurm_keeps_no_accounts(tmp_path: Path, monkeypatch) -> None:
    commands = {
        "sacct": "echo Slurm accounting storage is disabled >&2; exit 1",
        "squeue": "printf '7|RUNNING\\n8|FAILED\\n'",
    }
    for name, line in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(SlurmJob, "watcher", SlurmJob.watcher)
    assert not keeps_accounts()
    ask_the_queue()
    watcher = SlurmJob.watcher
    states = {
        job: (watcher.get_state(job, mode="force"), watcher.is_done(job, mode="cache")) for job in ("7", "8", "9")
    }
    assert states == {"7": ("RUNNING", False), "8": ("FAILED", True), "9": ("ENDED", True)}


# Damaged folders


@pytest.mark.parametrize("file", ["history.parquet", "status.json", "config.json"])
def test_a_damaged_run_fails_alone_in_a_sweep(config, out: Path, file: str) -> None:
    damaged, sound, waiting = config(seed=1), config(seed=2), config(steps=1)
    for finished in (damaged, sound):
        write_run(out, finished)
    (out / damaged.run_name / file).write_bytes(b"{x")
    console, ended = Console(file=io.StringIO(), width=100), {}
    with display(SweepStatus([damaged, sound, waiting], out), console) as tell:

        def heard(name: str, outcome: Outcome) -> None:
            ended[name] = outcome.state
            tell(name, outcome)

        done = sweep([damaged, sound, waiting], out, ThreadPoolExecutor(1), on_change=heard, progress=False)
    assert [run.id for run in done.runs] == [sound.run_name, waiting.run_name] and not done.left
    assert list(done.failures) == [damaged.run_name] and file in done.failures[damaged.run_name].error
    assert done.table["state"].tolist() == ["failed", "finished", "finished"]
    assert file in done.table.loc[0, "error"] and ended == {damaged.run_name: "failed", waiting.run_name: "finished"}
    assert f"{damaged.run_name}: failed: RunError" in console.file.getvalue()


def test_a_status_that_is_damaged_while_others_train_fails_alone(config, out: Path) -> None:
    finished, waiting = config(seed=1), config(steps=1)
    status = write_run(out, finished) / "status.json"

    def damage(name: str, outcome: Outcome) -> None:
        status.write_text("{x")

    view = SweepStatus([finished, waiting], out)
    done = sweep([finished, waiting], out, ThreadPoolExecutor(1), on_change=damage, progress=False)
    assert [run.id for run in done.runs] == [finished.run_name, waiting.run_name], "it was read before"
    assert done.table["state"].tolist() == ["failed", "finished"] and "status.json" in done.table.loc[0, "error"]
    assert [row.state for row in view.read()] == ["finished", "finished"]  # seen before
    assert [row.state for row in SweepStatus([finished, waiting], out).read()] == ["failed", "finished"]
