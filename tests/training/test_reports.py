"""Where a run's numbers go beside its folder: TensorBoard by its own reader, the others by what they are told."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

import moe_analysis as ma
from moe_analysis.campaigns.row import configuration_digest
from moe_analysis.training.status import TENSORBOARD
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.trainer import AdapterTrainer

OURS = ("loss", "accuracy", "balance_loss", "grad_norm", "learning_rate", "gate_entropy", "busiest_expert")


def scalars(run: ma.Run, tag: str, folder: Path | None = None) -> list[tuple[int, float]]:
    """(step, value) of a curve, as TensorBoard reads it."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed"
    )
    events = accumulator.EventAccumulator(str(folder or run.path / TENSORBOARD), purge_orphaned_data=True)
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")


def test_tensorboard_reads_what_the_history_has(tensorboard, config, out: Path) -> None:
    run = ma.train(config(report_to="tensorboard", eval_every=3), out)
    train = run.history[run.history["split"] == "train"]
    for name, column in (("loss", "loss"), ("accuracy", "accuracy"), ("learning_rate", "lr")):
        steps, values = zip(*scalars(run, f"train/{name}"))
        assert list(steps) == train["step"].tolist()
        np.testing.assert_allclose(values, train[column], rtol=1e-6)
    recorded = run.records["gate_entropy"].mean("module").values
    np.testing.assert_allclose([value for _, value in scalars(run, "train/gate_entropy")], recorded, rtol=1e-5)
    assert all(0.25 <= value <= 1 for _, value in scalars(run, "train/busiest_expert"))
    assert all(value >= 0 for _, value in scalars(run, "train/dead_experts"))
    tests = run.history[run.history["split"] == "test"]
    found = dict(scalars(run, "eval/loss"))
    assert list(found) == tests["step"].tolist() == [3, 6]
    np.testing.assert_allclose(list(found.values()), tests["loss"], rtol=1e-6)


def test_a_run_that_died_goes_on_without_a_trace_in_tensorboard(
    tensorboard, config, tmp_path: Path, monkeypatch
) -> None:
    one = config(report_to="tensorboard", save_every=2)
    whole = ma.train(one, tmp_path / "whole")
    original = AdapterTrainer.log

    def dies(self: AdapterTrainer, logs: dict, *rest: Any) -> None:
        original(self, logs, *rest)
        if self.state.global_step == 5:
            raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(AdapterTrainer, "log", dies)
        with pytest.raises(OSError, match="full"):
            ma.train(one, tmp_path / "out")
    again = ma.train(one, tmp_path / "out")
    for name in OURS:
        assert scalars(again, f"train/{name}") == scalars(whole, f"train/{name}")


def test_the_runs_of_a_sweep_lie_side_by_side_in_a_folder_of_the_users(
    tensorboard, config, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    runs = [ma.train(config(steps=2, seed=seed, report_to=["tensorboard"]), tmp_path / "runs") for seed in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "board").iterdir()) == sorted(run.id for run in runs)
    assert len(scalars(runs[0], "train/loss", tmp_path / "board" / runs[0].id)) == 2
    assert not (runs[0].path / TENSORBOARD).exists()


class Heard(TrainerCallback):
    """A report that only remembers what it was told."""

    told: list[tuple[str, int, dict]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.told.append(("begin", state.global_step, {"run_name": args.run_name}))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict | None = None, **_: Any) -> None:
        self.told.append(("log", state.global_step, dict(logs or {})))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.told.append(("end", state.global_step, {}))


@pytest.fixture
def heard(monkeypatch) -> list[tuple[str, int, dict]]:
    """What a report hears that stands in for every library."""
    for name in ma.training.config.REPORTS:
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, Heard)
        monkeypatch.setattr(integration_utils, f"is_{name}_available", lambda: True)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None, finish=lambda: None))
    monkeypatch.setattr(Heard, "told", [])
    return Heard.told


def test_a_report_begins_with_the_runs_name_and_ends_behind_the_last_evaluation(heard, config, out: Path) -> None:
    run = ma.train(config(steps=2, report_to="mlflow", record_every=0), out)
    kinds = [kind for kind, *_ in heard]
    assert kinds == ["begin", "log", "log", "log", "log", "end"] and heard[0][2]["run_name"] == run.id
    assert set(OURS) <= heard[1][2].keys() and "train_runtime" in heard[3][2] and "eval_loss" in heard[4][2]


def test_a_run_that_fails_ends_its_report(heard, config, out: Path, monkeypatch) -> None:
    def dies(*_: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(AdapterTrainer, "_save_checkpoint", dies)
    with pytest.raises(OSError, match="full"):
        ma.train(config(report_to="mlflow"), out)
    assert heard[-1][:2] == ("end", 2)


def test_each_run_of_a_process_has_a_run_of_wandb_to_itself(heard, config, out: Path, monkeypatch) -> None:
    ended = []
    wandb = SimpleNamespace(run=None, finish=lambda: ended.append(len(heard)))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    ma.train(config(steps=2, report_to="wandb"), out)
    assert ended == [len(heard)]
    wandb.run = "begun by hand"  # and so ended by hand
    ma.train(config(steps=2, seed=1, report_to="wandb"), out)
    assert len(ended) == 1


def test_several_reports_hear_the_same(heard, config, out: Path) -> None:
    ma.train(config(steps=2, report_to=["wandb", "mlflow", "wandb"]), out)
    assert heard[0] == heard[1] and [kind for kind, *_ in heard].count("end") == 2


def test_where_numbers_go_is_no_part_of_a_run(config, heard, out: Path) -> None:
    plain, told = config(steps=2), config(steps=2, report_to=["mlflow"])
    assert plain.digest == told.digest and plain.run_name == told.run_name
    assert configuration_digest(plain) == configuration_digest(told)
    assert ma.TrainConfig.from_dict(told.to_dict()) == told
    run = ma.train(plain, out)
    assert ma.train(told, out).id == run.id and heard == []  # a finished run is read


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("tensorbord", "report_to = 'tensorbord' is unknown; choose one of tensorboard, wandb, mlflow, or several"),
        (["wandb", "all"], "report_to = 'all' is unknown"),
    ],
)
def test_an_unknown_report_is_refused(value: Any, message: str, config, out: Path) -> None:
    with pytest.raises(ValueError, match=message):
        ma.train(config(report_to=value), out)
    assert not out.exists()


def test_a_value_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match=r"report_to = 3 is int; it must be list\[str\] or str or None"):
        ma.TrainConfig.from_dict({"report_to": 3})


def test_a_library_that_is_missing_is_named_before_anything_is_trained(config, out: Path, monkeypatch) -> None:
    monkeypatch.setattr(integration_utils, "is_wandb_available", lambda: False)
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: False)
    with pytest.raises(ValueError, match=r"'wandb' needs a library that is not installed; pip install wandb, or"):
        ma.train(config(report_to="wandb"), out)
    with pytest.raises(ValueError, match=r'pip install "moe_analysis\[tensorboard\]"'):
        sweep([config(report_to="tensorboard")], out, workers=1)
    assert not out.exists()
