"""What an interrupted run resumes from: sound files of the rows, the backbone and the records that it began with."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.commands.train import progress_kept
from moe_analysis.training.checkpoints import (
    COMPLETE,
    checkpoint_to_resume,
    checkpoints,
    fault_of,
    rotate,
    seal,
    sound_checkpoint,
)
from moe_analysis.training.files import RunError, RunWarning
from moe_analysis.training.recorders.store import RecordError
from moe_analysis.training.run_folder import list_runs
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.trainer import AdapterTrainer


@pytest.fixture(scope="module")
def own(tmp_path_factory, backbone: str, suite: str) -> dict[str, str]:
    """A backbone and a suite that a test may change, if it puts them back."""
    home = tmp_path_factory.mktemp("own")
    return {
        "backbone": str(shutil.copytree(backbone, home / "backbone")),
        "suite": str(shutil.copytree(suite, home / "suite")),
    }


@pytest.fixture(scope="module")
def one(own) -> ma.TrainConfig:
    adapter = ma.MoeLoraConfig(num_experts=3, r=2, target_modules=["q_proj"])
    return ma.TrainConfig(
        **own, adapter=adapter, steps=6, batch_size=4, save_every=2, eval_rows=2, warmup_steps=3, record_experts_every=2
    )


@pytest.fixture(scope="module")
def whole(one, tmp_path_factory) -> ma.Run:
    return ma.train(one, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def interrupted(one, tmp_path_factory) -> Path:
    """Folder of the run, cut off in its sixth step, with checkpoints of the second and of the fourth."""
    out, original = tmp_path_factory.mktemp("interrupted"), AdapterTrainer.compute_loss

    def dies(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AdapterTrainer, "compute_loss", dies)
        ma.train(one, out)
    return out / one.run_name


@pytest.fixture
def path(interrupted: Path, out: Path) -> Path:
    """A copy of the interrupted run."""
    return Path(shutil.copytree(interrupted, out / interrupted.name))


def assert_same(first: ma.Run, second: ma.Run) -> None:
    pd.testing.assert_frame_equal(first.history, second.history)
    pd.testing.assert_frame_equal(first.evaluation, second.evaluation)
    for left, right in ((first.records, second.records), (first.expert_records, second.expert_records)):
        assert left["step"].values.tolist() == right["step"].values.tolist()
        for name in left.data_vars:
            np.testing.assert_array_equal(left[name].values, right[name].values)


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@contextmanager
def changed(file: Path, change: Callable[[Path], object]) -> Iterator[None]:
    before = file.read_bytes()
    change(file)
    try:
        yield
    finally:
        file.write_bytes(before)


# Checkpoints


@pytest.mark.parametrize("damage", [Path.unlink, halve, flip])
@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "adapter_model.safetensors"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_taken(path: Path, name: str, damage) -> None:
    damage(path / "checkpoints" / "checkpoint-4" / name)
    with pytest.warns(RunWarning, match=rf"checkpoint-4/{name} (is missing|has).*; the run resumes from checkpoint-2"):
        assert checkpoint_to_resume(path / "checkpoints") == path / "checkpoints" / "checkpoint-2"
    (path / "checkpoints" / "checkpoint-2" / name).unlink()
    with pytest.raises(RunError, match=rf"checkpoint-4/{name} .*checkpoint-2/{name} is missing; restore it, or delete"):
        checkpoint_to_resume(path / "checkpoints")


def test_from_the_checkpoint_before_a_run_comes_to_the_same_numbers(path: Path, one, whole: ma.Run) -> None:
    (path / "checkpoints" / "checkpoint-4" / "scheduler.pt").unlink()
    with pytest.warns(RunWarning, match=r"scheduler.pt is missing"):
        assert_same(ma.train(one, path.parent), whole)


@pytest.mark.parametrize("text", ["{}", "{broken", '{"files": {"optimizer.pt": 1}}'])
def test_a_damaged_seal_is_a_damaged_checkpoint(path: Path, text: str) -> None:
    (path / "checkpoints" / "checkpoint-4" / COMPLETE).write_text(text)
    assert fault_of(path / "checkpoints" / "checkpoint-4") == f"{path}/checkpoints/checkpoint-4/complete is damaged"


def test_a_run_of_an_older_version_resumes(path: Path, one, whole: ma.Run) -> None:
    """Its seals are empty, and its status says nothing of its rows and tokens."""
    for checkpoint in checkpoints(path / "checkpoints"):
        (checkpoint / COMPLETE).write_text("")
    status = json.loads((path / "status.json").read_text())
    del status["rows_sha256"], status["tokens_sha256"]
    (path / "status.json").write_text(json.dumps(status))
    assert_same(ma.train(one, path.parent), whole)


def test_a_checkpoint_of_an_older_version_needs_what_training_goes_on_from(path: Path) -> None:
    for checkpoint in checkpoints(path / "checkpoints"):
        (checkpoint / COMPLETE).write_text("")
    (path / "checkpoints" / "checkpoint-4" / "optimizer.pt").unlink()
    with pytest.warns(RunWarning, match=r"checkpoint-4/optimizer.pt is missing"):
        assert checkpoint_to_resume(path / "checkpoints") == path / "checkpoints" / "checkpoint-2"


def test_copies_and_archives_beside_checkpoints_are_left_alone(path: Path) -> None:
    folder = path / "checkpoints"
    shutil.copytree(folder / "checkpoint-4", folder / "checkpoint-90 copy")
    (folder / "checkpoint-9.zip").write_bytes(b"")
    (folder / "checkpoint-9").write_bytes(b"")
    assert checkpoint_to_resume(folder) == folder / "checkpoint-4"
    shutil.copytree(folder / "checkpoint-4", folder / "checkpoint-5")
    rotate(folder, folder / "checkpoint-5")
    kept = ["checkpoint-4", "checkpoint-5", "checkpoint-9", "checkpoint-9.zip", "checkpoint-90 copy"]
    assert sorted(one.name for one in folder.iterdir()) == kept


def test_a_damaged_checkpoint_ahead_costs_no_sound_one_its_place(path: Path) -> None:
    folder = path / "checkpoints"
    flip(folder / "checkpoint-4" / "optimizer.pt")
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-3")
    rotate(folder, folder / "checkpoint-3")
    assert [one.name for one in checkpoints(folder)] == ["checkpoint-4", "checkpoint-3", "checkpoint-2"]


def test_a_checkpoint_is_unsealed_while_it_is_written_again(path: Path, one, monkeypatch) -> None:
    """The fourth step is trained again because its checkpoint was damaged, and dies while it is written."""
    flip(path / "checkpoints" / "checkpoint-4" / "optimizer.pt")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AdapterTrainer, "_save_optimizer_and_scheduler", dies)
    with pytest.warns(RunWarning), pytest.raises(KeyboardInterrupt):
        ma.train(one, path.parent)
    assert not (path / "checkpoints" / "checkpoint-4" / COMPLETE).exists()


def test_the_message_of_an_interrupt_deletes_nothing(path: Path, one) -> None:
    cut_off = path / "checkpoints" / "checkpoint-6"
    cut_off.mkdir()
    (cut_off / "adapter_model.safetensors").write_bytes(b"another process is writing it")
    run = ma.Run(path, one)
    assert progress_kept(run).endswith("resumes from step 4 of 6.") and cut_off.is_dir()
    flip(path / "checkpoints" / "checkpoint-4" / "optimizer.pt")
    assert progress_kept(run).endswith("resumes from step 2 of 6.")
    with pytest.warns(RunWarning):
        checkpoint_to_resume(path / "checkpoints")
    assert not cut_off.exists()


def test_a_seal_holds_for_files_in_folders_too(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-1"
    (checkpoint / "inner").mkdir(parents=True)
    (checkpoint / "inner" / "part").write_text("one")
    seal(checkpoint)
    assert sound_checkpoint(tmp_path) == checkpoint
    (checkpoint / "inner" / "part").write_text("two")
    assert fault_of(checkpoint) == f"{checkpoint}/inner/part has changed since it was written"


# What it was made from


def other_answers(split: str) -> Callable[[Path], object]:
    def change(file: Path) -> None:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(r | {"answer": "old"} if r["split"] == split else r) + "\n" for r in rows))

    return change


def other_weights(file: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    save_file({name: weight + 0.01 for name, weight in weights.items()}, file, {"format": "pt"})


def other_words(file: Path) -> None:
    """A tokenizer in which two words have changed their places."""
    values = json.loads(file.read_text())
    vocabulary = values["model"]["vocab"]
    first, second = (next(token for token in vocabulary if word in token) for word in ("sees", "number"))
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    file.write_text(json.dumps(values))


CHANGES = {
    "the train rows of suite = ": ("suite", "say.jsonl", other_answers("train")),
    "the test rows of suite = ": ("suite", "say.jsonl", other_answers("test")),
    "backbone = ": ("backbone", "model.safetensors", other_weights),
    "the tokenizer of backbone = ": ("backbone", "tokenizer.json", other_words),
}


@pytest.mark.parametrize("said", CHANGES)
def test_a_run_does_not_go_on_with_anything_else_than_it_began_with(path: Path, one, own, said: str) -> None:
    where, name, change = CHANGES[said]
    status = (path / "status.json").read_text()
    with (
        changed(Path(own[where]) / name, change),
        pytest.raises(RunError, match=f"^{said}.* ha(s|ve) changed since {path} began; restore it, delete the run"),
    ):
        ma.train(one, path.parent)
    assert (path / "status.json").read_text() == status and sound_checkpoint(path / "checkpoints") is not None


def test_after_a_refusal_the_restored_rows_give_the_same_run(path: Path, one, own, whole: ma.Run) -> None:
    with changed(Path(own["suite"]) / "say.jsonl", other_answers("train")), pytest.raises(RunError):
        ma.train(one, path.parent)
    assert_same(ma.train(one, path.parent), whole)


def test_without_a_checkpoint_a_run_begins_with_what_is_there_now(path: Path, one, own, whole: ma.Run) -> None:
    shutil.rmtree(path / "checkpoints")
    with changed(Path(own["suite"]) / "say.jsonl", other_answers("train")):
        run = ma.train(one, path.parent)
    assert run.finished and not run.history["loss"].equals(whole.history["loss"])
    assert run.status["rows_sha256"]["test"] == whole.status["rows_sha256"]["test"]
    assert run.status["rows_sha256"]["train"] != whole.status["rows_sha256"]["train"]


def test_a_finished_run_is_returned_with_a_warning_where_its_rows_have_changed(one, own, whole: ma.Run) -> None:
    with (
        changed(Path(own["suite"]) / "say.jsonl", other_answers("train")),
        pytest.warns(RunWarning, match="the train rows of suite = .* have changed since .* was trained"),
    ):
        assert ma.train(one, whole.path.parent).history.equals(whole.history)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ma.train(one, whole.path.parent)
        away = Path(own["suite"]).rename(Path(own["suite"]).with_name("away"))
        try:
            assert ma.train(one, whole.path.parent).finished
        finally:
            away.rename(own["suite"])


def test_a_sweep_warns_once_of_all_finished_runs_whose_rows_have_changed(one, own, whole: ma.Run) -> None:
    again = shutil.copytree(whole.path, whole.path.with_name(replace(one, seed=1).run_name))
    (again / "config.json").write_text(json.dumps(replace(one, seed=1).to_dict()))
    with (
        changed(Path(own["suite"]) / "say.jsonl", other_answers("test")),
        pytest.warns(
            RunWarning, match="the test rows of .* have changed since .* and 1 other run were trained"
        ) as said,
    ):
        done = sweep([one, replace(one, seed=1)], whole.path.parent, executor=ThreadPoolExecutor(1))
    assert len(done.runs) == 2 and len([one for one in said if one.category is RunWarning]) == 1


def noted(file: Path) -> None:
    rows = [json.loads(line) | {"note": "seen"} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_fields_that_a_run_does_not_read_may_change(whole: ma.Run, one, own) -> None:
    with changed(Path(own["suite"]) / "say.jsonl", noted), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ma.train(one, whole.path.parent).finished


# Its records


def lose(name: str) -> Callable[[Path], object]:
    return lambda path: shutil.rmtree(path / name)


def spoil(name: str) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(b"{x")


LOSSES = {
    r"records.zarr has lost its zarr.json": lose("records.zarr"),
    r"array router_weight in .*records.zarr is missing": lose("records.zarr/router_weight"),
    r"array module in .*records.zarr is missing": lose("records.zarr/module"),
    r"records.zarr cannot be read as a zarr group": spoil("records.zarr/zarr.json"),
    r"array router_grad in .*records.zarr lacks 1 of 1 chunks": lose("records.zarr/router_grad/c"),
    r"array gate_load in .*records.zarr has a chunk that cannot be read": spoil("records.zarr/gate_load/c/0/0/0"),
    r"experts.zarr has lost its zarr.json": lose("experts.zarr"),
}


@pytest.mark.parametrize("said", LOSSES)
def test_a_run_whose_records_are_lost_or_damaged_is_named_and_not_trained(path: Path, one, said, monkeypatch) -> None:
    LOSSES[said](path)
    monkeypatch.setattr(AdapterTrainer, "training_step", lambda *_: pytest.fail("trained"))
    with pytest.raises(RecordError, match=f"{said}.*restore"):
        ma.train(one, path.parent)


# Its status


def test_a_damaged_status_says_to_delete_it_and_then_the_run_resumes(path: Path, one, whole: ma.Run) -> None:
    (path / "status.json").write_text("{x")
    assert list_runs([path])["state"].tolist() == ["damaged"]
    with pytest.raises(RunError, match=r"status.json is not readable JSON .*or delete it and train the run again"):
        ma.train(one, path.parent)
    (path / "status.json").unlink()
    assert_same(ma.train(one, path.parent), whole)
