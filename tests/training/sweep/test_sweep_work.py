"""Who is blamed when jobs die, with an executor that kills runs as a plan says and trains nothing."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moe_analysis as ma
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.sweep.work import DEATHS, FAILED, FINISHED, Outcome, Work, keep_failure

ENDS = {"finishes": FINISHED, "fails": FAILED}


@pytest.fixture(autouse=True, scope="module")
def no_pauses() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("moe_analysis.training.sweep.work.POLL_SECONDS", 0)
        yield


class Bare:
    """The least that a future can be."""

    def __init__(self, outcomes: list[Outcome] | None) -> None:
        self.outcomes = outcomes

    def result(self) -> list[Outcome]:
        if self.outcomes is None:
            raise BrokenExecutor("killed")
        return self.outcomes


class Asked(Bare):
    """One that says at the second question that it is done."""

    asked = 0

    def done(self) -> bool:
        self.asked += 1
        return self.asked > 1


class Deadly:
    """Does a job when it is submitted: a run kills it as often as its plan says and then finishes or fails."""

    def __init__(self, plan: dict[int, tuple[int, str]], future: type[Bare]) -> None:
        self.plan, self.future, self.begun, self.open, self.most_open = plan, future, Counter(), [], 0

    def submit(self, task: Any, configs: list[dict], out: str) -> Bare:
        self.open = [job for job in self.open if isinstance(job, Asked) and job.asked < 2]
        self.open.append(self.future(self.do(configs, out)))
        self.most_open = max(self.most_open, len(self.open))
        return self.open[-1]

    def do(self, configs: list[dict], out: str) -> list[Outcome] | None:
        outcomes = []
        for config in map(ma.TrainConfig.from_dict, configs):
            deaths, end = self.plan[config.seed]
            self.begun[config.seed] += 1
            if self.begun[config.seed] <= deaths:
                return None
            outcomes.append(Outcome(ENDS[end], "its own", f"Traceback:\nits own {self.begun}\n"))
            (Path(out) / config.run_name).mkdir(parents=True)
            if end == "fails":
                keep_failure(config, Path(out), outcomes[-1])
            else:
                (Path(out) / config.run_name / "status.json").write_text(json.dumps({"state": FINISHED}))
        return outcomes


@settings(max_examples=30, deadline=None)
@given(
    plan=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(ENDS))), min_size=1, max_size=6),
    limit=st.integers(1, 3),
    per_job=st.integers(1, 4),
    future=st.sampled_from([Bare, Asked]),
)
def test_a_run_that_kills_twice_fails_and_any_other_ends_as_it_would_alone(plan, limit, per_job, future) -> None:
    configs = {config.run_name: config for config in (ma.TrainConfig(seed=seed) for seed in range(len(plan)))}
    executor, told = Deadly(dict(enumerate(plan)), future), []
    with tempfile.TemporaryDirectory() as out:
        failures = Work(executor, configs, Path(out), limit, per_job, lambda *ended: told.append(ended)).finish()
        for name, config in configs.items():
            deaths, end = plan[config.seed]
            expected = FAILED if deaths >= DEATHS else ENDS[end]
            assert [outcome.state for told_name, outcome in told if told_name == name] == [expected]
            assert (name in failures) == (expected == FAILED)
            if name in failures:
                reason = "BrokenExecutor: killed" if deaths >= DEATHS else "its own"
                assert failures[name].error.startswith(reason)
                assert (Path(out) / name / "failure.txt").read_text() == failures[name].traceback
            assert executor.begun[config.seed] == min(deaths, DEATHS) + (deaths < DEATHS)
    assert executor.most_open <= limit


class Broken:
    def submit(self, *_: Any) -> None:
        raise BrokenExecutor("a process in the process pool was terminated abruptly")


def test_an_executor_that_takes_nothing_any_more_fails_its_runs(config, out: Path) -> None:
    done = sweep([config(seed=0), config(seed=1)], out, Broken())
    assert len(done.failures) == 2 and not done.runs
    assert all("terminated abruptly" in outcome.traceback for outcome in done.failures.values())


class Interrupted(Bare):
    cancelled = 0

    def result(self) -> list[Outcome]:
        raise KeyboardInterrupt

    def cancel(self) -> None:
        type(self).cancelled += 1


def test_an_interrupt_cancels_what_was_submitted(config, out: Path) -> None:
    executor = Deadly({0: (0, "finishes"), 1: (0, "finishes")}, Interrupted)
    configs = {one.run_name: one for one in (config(seed=0), config(seed=1))}
    with pytest.raises(KeyboardInterrupt):
        Work(executor, configs, out, 2, 1, None).finish()
    assert Interrupted.cancelled == 2


def test_a_sweep_inside_torchrun_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="WORLD_SIZE = 2: start a sweep without torchrun"):
        sweep([], tmp_path)
