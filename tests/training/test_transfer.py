"""A run on another suite: the numbers of a fresh evaluation, kept once, and the levels that they must beat."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import moe_analysis as ma
from moe_analysis.training import transfer
from moe_analysis.training.evaluation import evaluate
from moe_analysis.training.files import RunError
from moe_analysis.training.sweep.guard import UnguardedScript
from moe_analysis.training.transfer import evaluate_all, evaluate_on, levels_on
from tests.tiny_runs import row

TREX = {"num_down": 2, "num_up": 3, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a suite with test rows only: a task with choices and one with free answers, 8 rows each."""
    folder = tmp_path_factory.mktemp("other")
    for dataset in ("choose", "far"):
        rows = [row(dataset, "test", number) for number in range(40, 48)]
        (folder / f"{dataset}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(folder)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, backbone: str, suite: str) -> Path:
    """Folder of a run that routes by intuition."""
    settings = {
        "steps": 3,
        "batch_size": 8,
        "eval_rows": 4,
        "embedder": "tfidf",
        "warmup_steps": 0,
        "lr": 1e-2,
        "prompt_form": "options",
    }
    config = ma.TrainConfig(backbone=backbone, suite=suite, adapter=ma.TRexConfig(**TREX), **settings)
    return ma.train(config, tmp_path_factory.mktemp("trained")).path


@pytest.fixture
def run(trained: Path, out: Path) -> ma.Run:
    """A copy of the trained run, so that no test finds another's tables in its folder."""
    return ma.Run.load(shutil.copytree(trained, out / trained.name))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch):
    """A function after whose call no model may be read any more."""
    return lambda: monkeypatch.setattr(ma.Run, "model", lambda _: pytest.fail("computed again"))


def test_the_table_is_a_fresh_evaluation_with_the_runs_own_intuition(run: ma.Run, other: str) -> None:
    rows = ma.load_suite(other, split="test")
    expected = evaluate(run.model(), run.tokenizer, rows, run.intuition(rows))
    pd.testing.assert_frame_equal(evaluate_on(run, other), expected)


def test_on_its_own_suite_a_run_gets_the_numbers_it_ended_with(run: ma.Run) -> None:
    again = evaluate_on(run, run.config.suite, run.config.eval_rows)
    pd.testing.assert_frame_equal(again, run.evaluation, rtol=1e-5)


def test_a_table_is_computed_once_for_each_choice_of_rows(run: ma.Run, other: str, no_model) -> None:
    whole, few = evaluate_on(run, other), evaluate_on(run, other, 3)
    assert set(whole["rows"]) == {8} and set(few["rows"]) == {3}
    no_model()
    pd.testing.assert_frame_equal(evaluate_on(ma.Run.load(run.path), other), whole)
    pd.testing.assert_frame_equal(evaluate_on(run, other, 3), few)
    assert len(list(run.path.glob("evaluation-other*.parquet"))) == 2
    assert not list(run.path.glob(".evaluation*"))


def test_rows_that_changed_are_evaluated_anew(run: ma.Run, tmp_path: Path) -> None:
    folder = tmp_path / "changing"
    folder.mkdir()
    tables = []
    for number in (40, 41):
        (folder / "choose.jsonl").write_text(json.dumps(row("choose", "test", number)) + "\n")
        tables.append(evaluate_on(run, str(folder)))
    assert tables[0]["loss"].item() != tables[1]["loss"].item()


def test_a_table_that_was_cut_off_is_made_again(run: ma.Run, other: str) -> None:
    whole = evaluate_on(run, other)
    path = next(run.path.glob("evaluation-other*.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    pd.testing.assert_frame_equal(evaluate_on(run, other), whole)


def test_no_damage_of_a_kept_table_gives_another_one(run: ma.Run, other: str) -> None:
    """Whatever byte is flipped: the table is the same, or it is made again. Every byte holds; a few save time."""
    whole = evaluate_on(run, other)
    path = next(run.path.glob("evaluation-other*.parquet"))
    content = path.read_bytes()
    for place in range(0, len(content), 11):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        table = transfer._read(path, transfer.MEASURED)
        assert table is None or table.equals(whole), place
    path.write_bytes(content)
    pd.testing.assert_frame_equal(transfer._read(path, transfer.MEASURED), whole)


def test_a_table_with_other_columns_is_made_again(run: ma.Run, other: str) -> None:
    whole = evaluate_on(run, other)
    path = next(run.path.glob("evaluation-other*.parquet"))
    for table in (whole.drop(columns="acc"), whole.astype({"loss": str}), whole[:0], whole[whole.columns[::-1]]):
        table.to_parquet(path, index=False)
        pd.testing.assert_frame_equal(evaluate_on(run, other), whole)


def test_processes_compute_only_what_is_missing_and_return_it_in_order(config, run, out: Path, other, no_model) -> None:
    second = ma.train(config(steps=3), out)
    expected = [evaluate_on(run, other)]
    no_model()  # in this process; the other run is evaluated in one of its own
    first, new = evaluate_all([run, second], other, workers=1)
    pd.testing.assert_frame_equal(first, expected[0])
    assert set(new["dataset"]) == {"choose", "far"} and not np.allclose(new["loss"], first["loss"])


def test_no_workers_are_not_all_of_them(run: ma.Run, other: str) -> None:
    evaluate_on(run, other)
    with pytest.raises(ValueError, match="workers = 0 must be at least 1"):  # also where nothing is left to compute
        evaluate_all([run], other, workers=0)


@pytest.mark.parametrize("rows", [0, -1, 1.5, "3"])
def test_a_number_of_rows_that_is_none_is_refused_before_a_model_is_loaded(rows, run, other, no_model) -> None:
    no_model()
    for call in (evaluate_on, levels_on):
        with pytest.raises(ValueError, match="rows_per_dataset = .* must be at least 1, a whole number"):
            call(run, other, rows)


def test_one_run_is_a_list_of_one_and_a_path_is_none(run: ma.Run, other: str) -> None:
    expected = evaluate_on(run, other)
    pd.testing.assert_frame_equal(evaluate_all(run, other)[0], expected)
    for call in (lambda: evaluate_on(run.path, other), lambda: evaluate_all([run.path], other)):
        with pytest.raises(ValueError, match=r"run = .* is not a run; pass ma.Run.load\(path\)"):
            call()


def test_a_run_that_fails_is_named_and_stops_no_other(config, run: ma.Run, out: Path, other: str) -> None:
    broken = ma.train(config(steps=3, seed=1), out)
    for file in (broken.path / "adapter").iterdir():
        file.unlink()
    with pytest.raises(RunError, match=f"1 of 2 evaluations on (?s:.*){broken.id}"):
        evaluate_all([broken, run], other, workers=1)
    assert list(run.path.glob("evaluation-other*.parquet"))


def test_a_script_without_a_guard_is_no_failure_of_an_evaluation(run: ma.Run, other: str, monkeypatch) -> None:
    (failed := Future()).set_exception(UnguardedScript("put the script's code under a guard"))
    monkeypatch.setattr(transfer, "shared_pool", lambda workers: SimpleNamespace(submit=lambda *task: failed))
    with pytest.raises(UnguardedScript, match="^put the script's code under a guard"):
        evaluate_all([run], other, workers=1)


def test_a_run_that_is_not_finished_is_refused_before_anything_is_computed(config, out: Path, other, no_model) -> None:
    no_model()
    waiting = ma.Run(out / "waiting", config())
    for call in (lambda: evaluate_on(waiting, other), lambda: evaluate_all([waiting], other, workers=1)):
        with pytest.raises(RunError, match="run waiting is not started and has no model to evaluate; train it"):
            call()


def test_the_levels_are_guesses_and_the_backbone_without_its_adapter(run: ma.Run, other: str, backbone: str) -> None:
    table = levels_on(run, other).set_index("dataset")
    model, tokenizer = ma.load_backbone(backbone, torch.float32)
    rows = ma.load_suite(other)
    plain = evaluate(model, tokenizer, rows).set_index("dataset")
    np.testing.assert_allclose(table["untrained_loss"], plain["loss"], rtol=1e-6)
    assert table["untrained"].tolist() == plain["accuracy"].tolist()
    assert not np.allclose(table["untrained_loss"], evaluate_on(run, other).set_index("dataset")["loss"])
    choose = rows[rows["dataset"] == "choose"]
    assert table.loc["choose", "chance"] == pytest.approx(np.mean([1 / len(options) for options in choose["choices"]]))
    assert np.isnan(table.loc["far", "chance"]) and (table["majority"] > 0).all()


def test_levels_of_the_runs_own_suite_stand_beside_its_evaluation(run: ma.Run, no_model) -> None:
    table = levels_on(run, run.config.suite, run.config.eval_rows)
    assert table[["dataset", "kind", "rows"]].equals(run.evaluation[["dataset", "kind", "rows"]])
    no_model()
    pd.testing.assert_frame_equal(levels_on(run, run.config.suite, run.config.eval_rows), table)


def test_levels_count_the_train_rows_that_are_there_now(run: ma.Run, tmp_path: Path) -> None:
    folder = tmp_path / "say"
    folder.mkdir()
    tested = [row("say", "test", number) for number in (40, 41)]
    found = []
    for answer in ("red", tested[0]["answer"]):
        rows = [row("say", "train", number) | {"answer": answer} for number in range(3)] + tested
        (folder / "say.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        found.append(levels_on(run, str(folder))["majority"].item())
    assert found == [0.0, 0.5]


def test_answers_that_do_not_fit_are_left_out_with_a_warning(config, out: Path, tmp_path: Path) -> None:
    run = ma.train(config(steps=2, max_length=32), out)
    folder = tmp_path / "long"
    folder.mkdir()
    long = row("say", "test", 41) | {"answer": "red " * 40}
    rows = [row("say", "test", 40), long]
    (folder / "say.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    with pytest.warns(UserWarning, match="max_length = 32 cannot hold their answers: 1 of say"):
        assert evaluate_on(run, str(folder))["rows"].tolist() == [1]
    second = ma.train(config(steps=2, max_length=32, seed=1), out)
    with pytest.warns(UserWarning) as said:  # the processes that evaluate are silent
        evaluate_all([run, second], str(folder), rows_per_dataset=2, workers=1)
    assert [str(one.message).rpartition(": ")[2] for one in said] == ["1 of say"]
    (folder / "say.jsonl").write_text(json.dumps(long) + "\n")
    with pytest.raises(ValueError, match="no row has an answer shorter than max_length = 32 tokens"):
        evaluate_on(run, str(folder))


def test_a_suite_without_test_rows_is_refused(run: ma.Run, tmp_path: Path) -> None:
    folder = tmp_path / "train_only"
    folder.mkdir()
    (folder / "say.jsonl").write_text(json.dumps(row("say", "train", 1)) + "\n")
    with pytest.raises(ValueError, match="has no test rows"):
        transfer.evaluate_on(run, str(folder))
