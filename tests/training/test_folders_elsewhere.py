"""Folders of runs that were copied, renamed, moved, cut off on the way, or that nobody may write to."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.tasks.cache import CacheWarning
from moe_analysis.training import transfer
from moe_analysis.training.files import RunError
from moe_analysis.training.run_folder import delete_run, find_runs, list_runs, run_paths
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.transfer import evaluate_all, evaluate_on


@pytest.fixture(scope="module")
def trained(tmp_path_factory, backbone: str, suite: str) -> ma.Run:
    adapter = ma.MoeLoraConfig(num_experts=3, r=2, target_modules=["q_proj"])
    config = ma.TrainConfig(
        adapter=adapter,
        backbone=backbone,
        suite=suite,
        steps=2,
        batch_size=4,
        eval_rows=2,
        warmup_steps=0,
        embedder="tfidf",
    )
    return ma.train(config, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def path(trained: ma.Run, out: Path) -> Path:
    return Path(shutil.copytree(trained.path, out / trained.id))


# Copied and renamed


def test_a_copy_of_another_name_is_the_run_under_that_name(path: Path, trained: ma.Run) -> None:
    copy = Path(shutil.copytree(path, path.with_name("best so far")))
    run = ma.Run.load(copy)
    assert run.id == "best so far" and run.config == trained.config
    pd.testing.assert_frame_equal(run.history, trained.history)
    first = ma.Run.load(path)
    pd.testing.assert_frame_equal(evaluate_on(run, run.config.suite, 2), evaluate_on(first, run.config.suite, 2))
    assert list_runs(run_paths(path.parent))["run"].tolist() == ["best so far", trained.id]
    assert find_runs(path.parent, ["best"]) == [copy]


def test_a_run_is_found_again_by_its_configuration_and_not_by_another_folders_name(path: Path, monkeypatch) -> None:
    config = ma.Run.load(path).config
    monkeypatch.setattr("moe_analysis.training.trainer.prepare_model", lambda _: 1 / 0)  # nothing is trained
    assert ma.train(config, path.parent).path == path
    path.rename(path.with_name("renamed"))
    with pytest.raises(ZeroDivisionError):
        ma.train(config, path.parent)


def test_runs_of_one_id_in_two_folders_are_evaluated_each(path: Path, trained: ma.Run) -> None:
    other = Path(shutil.copytree(path, path.parents[1] / "others" / path.name))
    runs = [ma.Run.load(path), ma.Run.load(other)]
    first, second = evaluate_all(runs, trained.config.suite, workers=1, rows_per_dataset=1)
    pd.testing.assert_frame_equal(first, second)
    assert [len(list(one.path.glob("evaluation-*"))) for one in runs] == [1, 1]


# Where nothing can be written


def closed(path: Path) -> Path:
    """A folder in which no lock can be taken, which holds for every user, unlike rights."""
    (path / ".lock").unlink(missing_ok=True)
    (path / ".lock").mkdir()
    return path


def test_a_finished_run_is_read_where_nothing_can_be_written(path: Path) -> None:
    run = ma.train(ma.Run.load(closed(path)).config, path.parent)
    assert run.path == path and run.finished
    (path / "failure.txt").mkdir()  # which cannot be deleted as a file
    assert [one.id for one in sweep([run.config], path.parent).runs] == [path.name]
    assert list_runs([path])["state"].tolist() == ["finished"]


def test_a_run_to_be_trained_there_is_refused_before_any_work(path: Path, monkeypatch) -> None:
    config = replace(ma.Run.load(path).config, seed=9)
    (path.parent / config.run_name).mkdir()
    closed(path.parent / config.run_name)
    monkeypatch.setattr("moe_analysis.training.trainer.prepare_model", lambda _: 1 / 0)
    with pytest.raises(RunError, match="cannot be written .*choose another folder"):
        ma.train(config, path.parent)


def test_a_run_that_cannot_be_deleted_says_which_rights_it_lacks(path: Path) -> None:
    with pytest.raises(RunError, match="cannot be deleted .*check the permissions of"):
        delete_run(closed(path))
    assert ma.Run.load(path).finished


def test_an_evaluation_that_cannot_be_kept_is_given_with_a_warning(path: Path, monkeypatch) -> None:
    run = ma.Run.load(path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(transfer, "write_table", refuse)
    with pytest.warns(
        CacheWarning, match="evaluation-.* cannot be written .Permission denied.; it is computed every time"
    ):
        table = evaluate_on(run, run.config.suite, 2)
    assert set(table["dataset"]) == {"choose", "say"} and not list(path.glob("evaluation-*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_rights_to_write_is_read_to_the_end(path: Path) -> None:
    for base, _, _ in os.walk(path.parent):
        Path(base).chmod(0o555)
    try:
        run = ma.train(ma.Run.load(path).config, path.parent)
        assert len(run.history) == 3 and run.records["router_weight"].values.any() and run.model() is not None
        with pytest.warns(CacheWarning):
            assert len(evaluate_on(run, run.config.suite, 2)) == 2
        with pytest.raises(RunError, match="check the permissions"):
            delete_run(path)
    finally:
        for base, _, _ in os.walk(path.parent):
            Path(base).chmod(0o755)


# Cut off on the way


DAMAGES = {
    "no weights": ("adapter_model.safetensors", None),
    "no configuration": ("adapter_config.json", None),
    "half the weights": ("adapter_model.safetensors", lambda content: content[: len(content) // 2]),
    "empty weights": ("adapter_model.safetensors", lambda content: b""),
    "half a configuration": ("adapter_config.json", lambda content: content[:40]),
    "another size": ("adapter_config.json", lambda content: content.replace(b'"num_experts": 3', b'"num_experts": 5')),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_adapter_that_is_cut_off_is_named_with_the_remedy(damage: str, path: Path) -> None:
    name, change = DAMAGES[damage]
    file = path / "adapter" / name
    content = file.read_bytes()
    file.unlink()
    if change is not None:
        assert change(content) != content
        file.write_bytes(change(content))
    with pytest.raises(RunError, match=f"{path / 'adapter'}.*; restore it, or train the run again"):
        ma.Run.load(path).model()


def test_weights_in_a_format_that_can_hold_code_are_not_taken(path: Path) -> None:
    weights = path / "adapter" / "adapter_model.safetensors"
    weights.rename(weights.with_name("adapter_model.bin"))
    with pytest.raises(RunError, match="adapter_model.safetensors is missing"):
        ma.Run.load(path).model()


def test_a_run_whose_backbone_or_suite_stayed_behind_opens_and_says_so(path: Path) -> None:
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**values, "backbone": "/gone/model", "suite": "/gone/suite"}))
    run = ma.Run.load(path)
    assert np.isfinite(run.history["loss"]).all() and run.config.run_name != trained_name(values)
    with pytest.raises(ValueError, match="backbone = '/gone/model' cannot be loaded"):
        run.model()
    with pytest.raises(ValueError, match="suite '/gone/suite' is neither a folder"):
        evaluate_on(run, run.config.suite)


def trained_name(values: dict) -> str:
    return ma.TrainConfig.from_dict(values).run_name


def test_a_configuration_of_a_newer_version_says_to_update(path: Path) -> None:
    values = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**values, "curriculum": "hard first"}))
    with pytest.raises(RunError, match=r"unknown fields \['curriculum'\].*or update moe_analysis if a newer"):
        ma.Run.load(path)
    assert list_runs([path])["state"].tolist() == ["finished"], "its files are whole"
