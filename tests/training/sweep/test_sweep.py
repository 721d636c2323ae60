from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import moe_analysis as ma
from moe_analysis.__main__ import app
from moe_analysis.training.files import RunError
from moe_analysis.training.status import locked
from moe_analysis.training.sweep import running
from moe_analysis.training.sweep.executors import WorkerPool, open_executor, shared_pool
from moe_analysis.training.sweep.grid import read_grid
from moe_analysis.training.sweep.running import Sweep, sweep, train_all

MOE = {"peft_type": "MOELORA", "num_experts": 4, "top_k": 2, "gate": "switch", "r": 2, "target_modules": ["q_proj"]}
UNSTABLE = {"optimizer": "riemannian_sgd", "max_grad_norm": None}  # at any lr that is large enough
TREX = {"peft_type": "TREX", "num_down": 2, "num_up": 3, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def grid_file(tmp_path_factory: pytest.TempPathFactory, backbone: str, suite: str) -> Path:
    """A grid of twelve runs of five steps: two systems, two learning rates, three seeds."""
    base = {
        "backbone": backbone,
        "suite": suite,
        "steps": 5,
        "batch_size": 8,
        "save_every": 2,
        "eval_rows": 4,
        "embedder": "tfidf",
        "warmup_steps": 0,
    }
    path = tmp_path_factory.mktemp("grid") / "grid.yaml"
    sections = {"base": base, "list": [{"adapter": MOE}, {"adapter": TREX}], "grid": {"lr": [0.01, 0.001]}}
    path.write_text(yaml.safe_dump({**sections, "seeds": [0, 1, 2]}))
    return path


@pytest.fixture(scope="module")
def configs(grid_file: Path) -> list[ma.TrainConfig]:
    return read_grid(grid_file).configs


@pytest.fixture(scope="module")
def undisturbed(configs, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The twelve runs through the process pool, two at a time, with nothing in their way."""
    return sweep(configs, tmp_path_factory.mktemp("undisturbed"), workers=2)


def assert_same_runs(done: Sweep, undisturbed: list[ma.Run]) -> None:
    assert [run.id for run in done.runs] == [run.id for run in undisturbed]
    for one, other in zip(done.runs, undisturbed):
        pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
        pd.testing.assert_frame_equal(one.evaluation, other.evaluation, check_exact=True)


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of status.json of every finished run: neither survives if the run is written again."""
    runs = [ma.Run.load(path.parent) for path in out.glob("*/config.json")]
    stats = {run.id: (run.path / "status.json").stat() for run in runs if run.finished}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def wait_until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def in_the_middle(out: Path, done: int) -> bool:
    """At least `done` runs are finished and another has left its first checkpoint."""
    # first what costs least: the processes that train need the cores
    return bool(list(out.glob("*/checkpoints/checkpoint-2/complete"))) and len(finished(out)) >= done


def test_a_sweep_gives_the_runs_in_order_as_one_process_would_train_them(undisturbed, configs, out: Path) -> None:
    assert [run.id for run in undisturbed.runs] == [config.run_name for config in configs]
    assert not undisturbed.failures and (undisturbed.table["state"] == "finished").all()
    assert undisturbed.table["run"].tolist() == [run.id for run in undisturbed.runs]
    assert shared_pool(2).submit(gc.get_freeze_count).result() > 100_000, "each run looks for garbage in all imports"
    for number in (1, 7):
        alone = ma.train(configs[number], out).history
        # to rounding: a worker computes with one thread, and this process may have more, which sum in another order
        pd.testing.assert_frame_equal(undisturbed.runs[number].history, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("kind", "workers", "per_job"), [("dask", 1, 1), ("submitit", 2, 3)])
def test_a_dask_cluster_and_a_job_queue_give_the_histories_of_the_process_pool(
    undisturbed, configs, out: Path, kind: str, workers: int, per_job: int
) -> None:
    half = slice(3, 9)  # three runs of each system
    with open_executor(kind, out, workers=workers, slurm={"timeout_min": 10}) as (executor, limit):
        done = sweep(configs[half], out, executor, limit, per_job=per_job)
    assert_same_runs(done, undisturbed.runs[half])


def test_a_killed_worker_loses_nothing_repeats_nothing_and_disturbs_no_other(undisturbed, configs, out: Path) -> None:
    pool, kept = shared_pool(2), {}
    before = pool.pids

    def kill_one() -> None:
        wait_until(lambda: in_the_middle(out, done=2))
        kept.update(finished(out))
        os.kill(before[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    done = sweep(configs[:6], out, workers=2)
    killer.join()
    assert_same_runs(done, undisturbed.runs[:6])
    assert shared_pool(2) is pool and before[0] not in pool.pids and before[1] in pool.pids
    assert len(kept) < 6 and kept.items() <= finished(out).items()


def test_a_killed_sweep_goes_on_where_it_stopped(undisturbed, configs, grid_file: Path, out: Path) -> None:
    half = grid_file.with_name("half.yaml")
    half.write_text(yaml.safe_dump({**yaml.safe_load(grid_file.read_text()), "list": [{"adapter": MOE}]}))
    command = [sys.executable, "-m", "moe_analysis", "sweep", str(half), "--out", str(out), "--workers", "1"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_until(lambda: in_the_middle(out, done=2) or driver.poll() is not None)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, "the sweep ended before it could be killed"
    kept = finished(out)
    assert 2 <= len(kept) < 6
    assert_same_runs(sweep(configs[:6], out, workers=2), undisturbed.runs[:6])
    assert kept.items() <= finished(out).items()


def test_the_command_sweeps_a_grid_and_prints_its_runs(grid_file: Path, undisturbed, tmp_path: Path) -> None:
    folder = undisturbed.runs[0].path.parent
    sections = yaml.safe_load(grid_file.read_text())
    bad = {
        "base": sections["base"],
        "list": [{"adapter": MOE, "lr": 0.01}, {"adapter": MOE, "lr": 1e30, **UNSTABLE}],
        "seeds": [0],
    }
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad))
    good, failed = (
        CliRunner().invoke(app, ["sweep", str(path), "--out", str(folder), "--workers", "2", "--json"])
        for path in (grid_file, tmp_path / "bad.yaml")
    )
    assert (good.exit_code, failed.exit_code) == (0, 1), failed.output
    listed = yaml.safe_load(good.stdout)
    assert [one["run"] for one in listed] == [run.id for run in undisturbed.runs]
    assert listed[0]["loss"] == pytest.approx(undisturbed.runs[0].evaluation["loss"].mean())
    assert [one["state"] for one in yaml.safe_load(failed.stdout)] == ["finished", "failed"]
    assert "FloatingPointError" in failed.stderr and "failure.txt" in failed.stderr


def test_a_pool_starts_no_process_before_a_task_wants_one() -> None:
    pool = WorkerPool(4)
    try:
        assert not pool.pids
        workers = {pool.submit(os.getpid).result() for _ in range(3)}  # one after another
        assert set(pool.pids) == workers and len(workers) == 1
        assert not pool.submit(eval, "'torch' in __import__('sys').modules").result(), (
            "it begins without what it may need"
        )
    finally:
        pool.shutdown()


def test_a_worker_that_ends_or_is_stopped_says_how() -> None:
    pool = shared_pool(2)
    with pytest.raises(BrokenExecutor, match="ended with exit code 3"):
        pool.submit(os._exit, 3).result()
    asleep = pool.submit(time.sleep, 600)
    wait_until(asleep.running)
    while not asleep.done():  # a process that is only being started cannot be ended yet
        pool.stop()
        time.sleep(0.1)
    with pytest.raises(BrokenExecutor, match="SIGKILL"):
        asleep.result()
    wait_until(lambda: not pool.pids, seconds=10)


def test_a_failing_run_is_named_and_stops_no_other(config, out: Path) -> None:
    good = config(seed=5)
    bad = config(lr=1e30, steps=9, **UNSTABLE)
    message = f"1 of 2 runs failed(?s:.*){bad.run_name}.*FloatingPointError"
    with ThreadPoolExecutor(1) as pool, pytest.raises(RunError, match=message):
        train_all([bad, good], out, executor=pool)
    assert ma.Run.load(out / good.run_name).finished
    assert "Traceback" in (out / bad.run_name / "failure.txt").read_text()


@pytest.mark.parametrize(
    ("argument", "value", "told"),
    [
        ("configs", [{"steps": 2}], r"config = \{'steps': 2\} is not a TrainConfig; pass ma.TrainConfig"),
        ("out", None, "out = None is not a path; pass a folder"),
        ("executor", "dask", "executor = 'dask' has no method submit"),
        ("workers", "2", "workers = '2' must be at least 1"),
        ("per_job", 1.5, "per_job = 1.5 must be at least 1"),
        ("time_limit", "2h", "time_limit = '2h' must be a positive number of seconds"),
        ("on_change", "print", "on_change = 'print' cannot be called"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_named_and_leaves_nothing(
    argument: str, value: object, told: str, config, out: Path
) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match=told):
        sweep(**{"configs": [config()], "out": out, "executor": pool, argument: value})
    assert not out.exists()
    if argument in ("configs", "out"):
        one = value[0] if argument == "configs" else config()
        with pytest.raises(ValueError, match=told):
            ma.train(one, value if argument == "out" else out)


def test_a_folder_that_cannot_be_written_is_refused_before_data_are_read(config, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(running, "read_once", lambda configs: pytest.fail("data was read"))
    (tmp_path / "file").touch()
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(RunError, match="file' cannot be written .*choose another folder"),
    ):
        sweep([config()], tmp_path / "file", pool)
    (tmp_path / "grid.yaml").write_text("base: {steps: 2}")
    refused = CliRunner().invoke(app, ["sweep", str(tmp_path / "grid.yaml"), "--out", str(tmp_path / "file")])
    assert refused.exit_code == 2 and "cannot be written" in refused.stderr


def test_a_failure_is_listed_with_its_traceback_until_an_attempt_succeeds(config, out: Path, monkeypatch) -> None:
    run, note = config(steps=2), out / config(steps=2).run_name / "failure.txt"
    told = []
    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr("moe_analysis.training.trainer.train", broken_disk)
        done = sweep([run], out, pool, on_change=lambda name, outcome: told.append((name, outcome.state)))
    assert (done.runs, told) == ([], [(run.run_name, "failed")])
    assert "in broken_disk" in note.read_text() and note.read_text() == done.failures[run.run_name].traceback
    assert done.table.loc[0, ["state", "error"]].tolist() == ["failed", "OSError: no space left"]
    with ThreadPoolExecutor(1) as pool:
        assert sweep([run], out, pool).runs[0].finished
    assert not note.exists()


def broken_disk(config: ma.TrainConfig, out: Path, **_: object) -> None:
    raise OSError("no space left")


def test_a_run_that_another_process_trains_is_waited_for(config, out: Path) -> None:
    one, other = config(steps=2), config(steps=2, seed=1)
    taken, told = threading.Event(), []

    def elsewhere() -> None:
        with locked(out / one.run_name):
            taken.set()
            wait_until(lambda: told)

    holder = threading.Thread(target=elsewhere)
    holder.start()
    taken.wait()
    with ThreadPoolExecutor(1) as pool:
        done = sweep([one, other], out, pool, on_change=lambda name, outcome: told.append(name))
    holder.join()
    assert told == [other.run_name, one.run_name] and not done.failures
    assert [run.config.seed for run in done.runs] == [0, 1]
