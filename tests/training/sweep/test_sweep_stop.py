"""A sweep that is stopped, by its time, by Ctrl-C or by whoever deletes its permit: behind checkpoints, none lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import moe_analysis as ma
from moe_analysis.training.files import RunError
from moe_analysis.training.status import locked
from moe_analysis.training.sweep import work as sweep_work
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.sweep.work import BUSY, PREFIX, STOPPED, Outcome, TimeLimit, Work, attempt
from moe_analysis.training.trainer import AdapterTrainer

RARELY = 100_000  # no checkpoint but the one of a stop


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def checkpoints(out: Path) -> list[Path]:
    return list(out.glob("*/checkpoints/checkpoint-*/complete"))


@pytest.fixture
def slow_steps(monkeypatch) -> None:
    original = AdapterTrainer.training_step

    def slow(self: AdapterTrainer, *arguments: Any, **named: Any) -> Any:
        time.sleep(0.05)
        return original(self, *arguments, **named)

    monkeypatch.setattr(AdapterTrainer, "training_step", slow)


def assert_goes_on_to_the_same_runs(configs: list[ma.TrainConfig], out: Path, whole: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        done = sweep(configs, out, pool)
    assert not done.left and not done.failures and [run.config.seed for run in done.runs] == [0, 1]
    for run in done.runs:
        alone = ma.train(run.config, whole)
        pd.testing.assert_frame_equal(run.history, alone.history, check_exact=True)
        pd.testing.assert_frame_equal(run.outcomes, alone.outcomes, check_exact=True)


def test_at_the_end_of_its_time_a_run_stops_behind_a_checkpoint_and_goes_on_from_it(
    config, tmp_path: Path, monkeypatch, slow_steps
) -> None:
    configs, told = [config(steps=60, save_every=RARELY, seed=seed) for seed in (0, 1)], []
    with ThreadPoolExecutor(1) as pool:
        done = sweep(configs, tmp_path / "out", pool, on_change=lambda *ended: told.append(ended), time_limit=2)
    assert done.left == [one.run_name for one in configs] and not done.runs and not done.failures and not told
    assert done.table["state"].tolist() == ["waiting", "waiting"] and 0 < done.table.loc[0, "step"] < 60
    assert len(checkpoints(tmp_path / "out")) == 1 and not list((tmp_path / "out").glob(f"{PREFIX}*"))
    monkeypatch.undo()
    assert_goes_on_to_the_same_runs(configs, tmp_path / "out", tmp_path / "whole")


def test_deleting_the_permit_stops_a_sweep_from_anywhere(config, out: Path, slow_steps) -> None:
    configs = [config(steps=400, save_every=RARELY, seed=seed) for seed in (0, 1)]

    def delete() -> None:
        wait_until(lambda: list(out.glob("*/status.json")))
        for path in out.glob(f"{PREFIX}*"):
            path.unlink()

    threading.Thread(target=delete).start()
    with ThreadPoolExecutor(1) as pool:
        done = sweep(configs, out, pool)
    assert done.left == [one.run_name for one in configs] and len(checkpoints(out)) == 1


def test_a_run_in_its_last_step_goes_on_to_its_evaluation(config, tmp_path: Path) -> None:
    run = ma.train(config(steps=1), tmp_path, permit=tmp_path / "never there")
    assert run.finished


def test_a_run_without_permit_is_not_begun(config, tmp_path: Path) -> None:
    assert attempt(config(), tmp_path / "out", str(tmp_path / "gone")).state == STOPPED
    assert not (tmp_path / "out").exists()


def test_ctrl_c_in_a_terminal_lets_every_process_write_a_checkpoint(config, tmp_path: Path) -> None:
    """The terminal sends it to the driver and to its workers."""
    out, steps = tmp_path / "out", 3000
    base = config(steps=steps, save_every=RARELY).to_dict()
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump({"base": base, "grid": {"seed": [0, 1, 2]}}))
    command = [
        sys.executable,
        "-m",
        "moe_analysis",
        "sweep",
        str(tmp_path / "grid.yaml"),
        "--out",
        str(out),
        "--workers",
        "2",
    ]
    driver = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=hear
    )
    wait_until(lambda: len(list(out.glob("*/status.json"))) == 2 or driver.poll() is not None)
    os.killpg(driver.pid, signal.SIGINT)
    _, told = driver.communicate(timeout=120)
    assert driver.returncode == 130 and "checkpoints are written" in told and "to resume" in told
    saved = checkpoints(out)
    assert len(saved) == 2 and not list(out.glob(f"{PREFIX}*")) and not list(out.glob("*/failure.txt"))
    assert all(0 < int(path.parent.name.rpartition("-")[2]) < steps for path in saved)
    with pytest.raises(ProcessLookupError):  # nobody is left behind
        wait_until(lambda: os.killpg(driver.pid, 0), seconds=20)


def hear() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Queued:
    """A job that never begins."""

    def __init__(self) -> None:
        self.cancelled = False

    def done(self) -> bool:
        return False

    def cancel(self) -> None:
        self.cancelled = True


class Queue:
    """Takes jobs and does nothing."""

    def __init__(self) -> None:
        self.jobs, self.stopped = [], 0

    def submit(self, *_: Any) -> Queued:
        self.jobs.append(Queued())
        return self.jobs[-1]

    def stop(self) -> None:
        self.stopped += 1


def test_what_waits_in_a_queue_is_taken_back_when_the_time_ends(config, out: Path) -> None:
    configs, queue = {one.run_name: one for one in (config(seed=seed) for seed in range(3))}, Queue()
    work = Work(queue, configs, out, 2, 1, None, TimeLimit(0.3))
    assert work.finish() == {} and work.left == list(configs)
    assert len(queue.jobs) == 2 and all(job.cancelled for job in queue.jobs) and not queue.stopped


def test_a_job_that_ended_while_it_was_taken_back_is_told_of(config, out: Path) -> None:
    run, told = ma.train(config(steps=1), out), []
    work = Work(Queue(), {run.id: run.config}, out, 1, 1, lambda *ended: told.append(ended), TimeLimit(0.3))
    work.finish()
    assert [(name, outcome.state) for name, outcome in told] == [(run.id, "finished")] and not work.left


def test_a_second_ctrl_c_does_not_wait_for_what_trains(config, out: Path, monkeypatch, capfd) -> None:
    one, queue, slept = config(), Queue(), []

    def interrupted(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) in (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(sweep_work.time, "sleep", interrupted)
    with locked(out / one.run_name), pytest.raises(KeyboardInterrupt):
        work = Work(queue, {one.run_name: one}, out, 1, 1, None)
        monkeypatch.setattr(sweep_work, "held", lambda path: len(slept) > 0)  # taken up after it was submitted
        work.finish()
    assert len(slept) == 4 and queue.stopped and "again to stop now" in capfd.readouterr().err


def test_what_does_not_end_by_itself_is_ended(config, out: Path, monkeypatch) -> None:
    one, queue = config(), Queue()
    monkeypatch.setattr(sweep_work, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(sweep_work, "held", lambda path: bool(queue.jobs))
    work = Work(queue, {one.run_name: one}, out, 1, 1, None, TimeLimit(0.3))
    work.finish()
    assert queue.stopped == 1 and queue.jobs[0].cancelled and work.left == [one.run_name]


def test_no_run_begins_in_the_last_moments_of_a_sweep() -> None:
    assert TimeLimit(None).left == float("inf") and not TimeLimit(None).too_late_to_begin
    limit = TimeLimit(7200)
    limit.started -= 7200 - 61
    assert not limit.too_late_to_begin and not limit.ended
    limit.started -= 2
    assert limit.too_late_to_begin and not limit.ended
    limit.started -= 60
    assert limit.ended


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused(config, out: Path, seconds: float) -> None:
    with pytest.raises(ValueError, match="time_limit = .* must be a positive number of seconds"):
        sweep([config()], out, time_limit=seconds)


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_submitted(config, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    queue = Queue()
    with pytest.raises(RunError, match="cannot be written"):
        sweep([config()], tmp_path / "file", queue)
    assert not queue.jobs


def test_outcomes_of_attempts_that_were_put_off_are_no_failures(config, out: Path) -> None:
    one = config()
    work = Work(Queue(), {one.run_name: one}, out, 1, 1, None)
    work.queue.clear()
    work.close((one.run_name,), [Outcome(STOPPED)])
    work.close((one.run_name,), [Outcome(BUSY)])
    assert list(work.queue) == [one.run_name] * 2 and not work.failures
