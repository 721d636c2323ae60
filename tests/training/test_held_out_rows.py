"""Rows held out of training to tune on, further suites to transfer to, and what a run keeps row by row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.training.evaluation import answers_of, best_is_right, by_dataset, evaluate_rows, row_numbers
from moe_analysis.training.files import RunError
from moe_analysis.training.prepare import run_rows
from moe_analysis.training.sweep.running import read_once
from tests.tiny_runs import row


def prompts(frame: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(frame["dataset"], frame["prompt"]))


def test_digests_of_runs_from_before_these_fields_are_what_they_were() -> None:
    """The numbers are those of version 0.1.0 at commit f2e7be5."""
    assert ma.TrainConfig().digest == "8e23159047"
    trex = ma.TrainConfig(adapter=ma.TRexConfig(target_modules=["q_proj"]), router_lr=1e-4, seed=3)
    assert trex.digest == "36108f1f4f"


def test_a_configuration_without_the_new_fields_is_read_as_the_same_run() -> None:
    values = ma.TrainConfig().to_dict()
    del values["holdout_rows"], values["transfer_suites"]
    assert ma.TrainConfig.from_dict(values) == ma.TrainConfig()
    assert len({ma.TrainConfig(holdout_rows=number).digest for number in (None, 1, 2)}) == 3


def test_rows_held_out_are_train_rows_that_are_not_trained_on_whatever_the_seed(config, suite: str) -> None:
    train, test = (prompts(ma.load_suite(suite, split=split)) for split in ("train", "test"))
    rows = run_rows(config(holdout_rows=5, eval_rows=1))
    held, left = prompts(rows["test"]), prompts(rows["train"])
    assert rows["test"].groupby("dataset").size().to_dict() == {"choose": 5, "say": 5}
    assert held | left == train and not held & left and not held & test
    again = run_rows(config(holdout_rows=5, seed=7, lr=0.5, rows_per_dataset=3))
    pd.testing.assert_frame_equal(again["test"], rows["test"])
    assert again["train"].groupby("dataset").size().to_dict() == {"choose": 3, "say": 3}
    assert not prompts(again["train"]) & held


def test_a_row_with_the_prompt_of_one_held_out_is_not_trained_on(config, tmp_path: Path) -> None:
    rows = [row("say", "train", number % 12) for number in range(24)]
    (tmp_path / "say.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = run_rows(config(suite=str(tmp_path), holdout_rows=6))
    assert not prompts(found["test"]) & prompts(found["train"])
    assert len(found["train"]) == 24 - sum(found["test"]["prompt"].nunique() * [2])


def test_a_data_set_that_would_have_no_train_row_left_is_named_before_any_run(config) -> None:
    with pytest.raises(ValueError, match="holdout_rows = 24 leaves no train row of data set 'choose', which has 24"):
        read_once([config(holdout_rows=24)])


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"holdout_rows": 0}, "holdout_rows = 0 must be at least 1"),
        ({"transfer_suites": []}, "transfer_suites is an empty list"),
        ({"transfer_suites": ["embedded"]}, "'embedded', which is already evaluated"),
        ({"transfer_suites": ["a", "a"]}, "'a', which is already evaluated"),
        ({"transfer_suites": ["test"]}, "the name of a split; pass './test'"),
        ({"transfer_suites": ["a"], "holdout_rows": 5}, "transfer_suites = .'a'. are test rows; omit one of them"),
    ],
)
def test_a_choice_of_rows_that_cannot_be_is_refused(changes: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ma.TrainConfig(**changes).check()


@pytest.fixture
def other_suite(tmp_path: Path) -> str:
    """A suite of test rows alone, some of them those of `choose` under another name."""
    (tmp_path / "other").mkdir()
    rows = [{**row("choose", "test", number), "dataset": "elsewhere"} for number in range(24, 34)]
    (tmp_path / "other" / "elsewhere.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(tmp_path / "other")


def test_a_run_keeps_how_each_row_was_answered_in_every_suite(config, suite: str, other_suite: str, out: Path) -> None:
    trex = ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj", "v_proj"])
    run = ma.train(config(adapter=trex, transfer_suites=[other_suite]), out)
    kept = run.outcomes
    assert kept.groupby(["suite", "dataset"], sort=False).size().tolist() == [4, 4, 4]
    assert kept["suite"].tolist() == [suite] * 8 + [other_suite] * 4
    own = kept[kept["suite"] == suite]
    pd.testing.assert_frame_equal(by_dataset(own), run.evaluation)
    rows = run_rows(run.config)
    for name, part in ((suite, "test"), (other_suite, other_suite)):
        found = kept[kept["suite"] == name].reset_index(drop=True)
        assert np.array_equal(found["row"], row_numbers(rows[part]))
        again = evaluate_rows(run.model(), run.tokenizer, rows[part], run.intuition(rows[part]), run.config.max_length)
        assert (found[["correct", "correct_norm"]] == again[["correct", "correct_norm"]]).all(axis=None)
        np.testing.assert_allclose(found["log_likelihood"], again["log_likelihood"], rtol=1e-4)


def test_a_run_on_rows_held_out_is_evaluated_on_them(config, out: Path) -> None:
    run = ma.train(config(holdout_rows=5), out)
    assert run.evaluation["rows"].tolist() == [5, 5]
    assert run.outcomes["row"].tolist() == row_numbers(run_rows(run.config)["test"]).tolist()


def test_outcomes_that_an_older_version_did_not_keep_are_missed_by_name(config, out: Path) -> None:
    run = ma.train(config(steps=1), out)
    (run.path / "outcomes.parquet").unlink()
    with pytest.raises(RunError, match="outcomes.parquet is missing: the run is finished; .*older versions"):
        _ = ma.Run.load(run.path).outcomes


def test_where_and_by_which_code_a_run_was_trained_is_in_its_status(config, out: Path) -> None:
    status = ma.train(config(steps=1), out).status
    assert "cores" in status["machine"]
    assert status["versions"]["moe_analysis"].startswith("0")


def test_the_norm_by_characters_prefers_the_choice_with_the_most_likelihood_a_character() -> None:
    """Three choices whose likelihoods are set by hand: the sum prefers the short one, the norm the long one."""
    frame = pd.DataFrame(
        [{**row("choose", "test", 1), "choices": ["ab", "abcdefgh", "x"], "answer": "abcdefgh", "label": 1}]
    )
    lines = answers_of(frame).assign(row=0, log_likelihood=[-2.0, -4.0, -3.0])
    lines["per_character"] = lines["log_likelihood"] / lines["characters"]
    assert not best_is_right(lines, "log_likelihood").any()
    assert best_is_right(lines, "per_character").all()
