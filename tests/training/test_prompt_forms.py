"""The prompt form is part of a run: what it trains on, what it is evaluated on, here and on other suites."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.tasks.batches import encode
from moe_analysis.training.evaluation import evaluate
from moe_analysis.training.prepare import prepare_data
from moe_analysis.training.recorders.routing import gates_of_runs
from moe_analysis.training.sweep.running import read_once
from moe_analysis.training.transfer import evaluate_on


@pytest.mark.parametrize("form", ["cloze", "instruction"])
def test_a_run_trains_and_is_evaluated_in_its_form(form: str, config, out: Path, suite: str) -> None:
    run = ma.train(config(prompt_form=form, eval_rows=None, max_length=512), out)
    rows = ma.load_suite(suite, split="test")
    expected = evaluate(run.model(), run.tokenizer, rows, max_length=512, prompt_form=form)
    pd.testing.assert_frame_equal(run.evaluation, expected, rtol=1e-5)
    pd.testing.assert_frame_equal(evaluate_on(run, suite), expected, rtol=1e-5)
    other = evaluate(run.model(), run.tokenizer, rows, max_length=512, prompt_form="options")
    assert not np.allclose(other["loss"], expected["loss"])
    assert {"acc", "acc_norm"} <= set(ma.Run.load(run.path).evaluation)


def test_the_rows_that_are_trained_on_are_in_the_runs_form(config, tmp_path: Path) -> None:
    one = config(prompt_form="cloze")
    tokenizer = ma.Run(tmp_path, one).tokenizer
    data = prepare_data(one, tokenizer)[0]["train"]
    expected = encode(data.frame, tokenizer, one.max_length, prompt_form="cloze")
    assert [example for example, _ in data.tokenized(tokenizer, one)] == expected
    assert tokenizer.decode(expected[0].input_ids).startswith("<bos>Question: ")


def test_routing_is_read_on_texts_in_the_runs_form(config, out: Path, suite: str) -> None:
    runs = [ma.train(config(prompt_form=form, steps=2), out) for form in ("options", "cloze")]
    frame = ma.load_suite(suite, split="test").iloc[:1]
    for run, _, tokens in gates_of_runs(runs, frame):
        example = encode(frame, run.tokenizer, run.config.max_length, prompt_form=run.config.form)[0]
        assert tokens["token_id"].tolist() == example.input_ids


def test_a_suite_without_choices_is_refused_in_cloze_form_before_a_model_is_trained(config, out: Path) -> None:
    refusal = "prompt_form = 'cloze' ranks choices, and suite .* has none in any row; pass prompt_form='options'"
    one = config(prompt_form="cloze", datasets=["say"])
    for call in (lambda: ma.train(one, out), lambda: read_once([one])):
        with pytest.raises(ValueError, match=refusal):
            call()
    run = ma.train(config(prompt_form="cloze", steps=2), out)
    free = out / "free"
    free.mkdir()
    row = {
        "dataset": "sums",
        "group": "g",
        "split": "test",
        "prompt": "2 + 2",
        "choices": None,
        "answer": "4",
        "label": None,
    }
    (free / "sums.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=refusal):
        evaluate_on(run, str(free))


def test_a_run_from_before_there_were_forms_is_read_as_one_with_listed_options(config, out: Path) -> None:
    run = ma.train(config(steps=2), out)
    path = run.path / "config.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "prompt_form"})
    )
    again = ma.Run.load(run.path)
    assert again.config.form == "options" and again.config.digest == run.config.digest
