"""A run in a notebook: what was chosen, how it learnt, what came out, and what is missing, on one card."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import peft
import pytest

import moe_analysis as ma
from moe_analysis.training.choices import choices
from moe_analysis.training.files import write_table
from moe_analysis.training.progress import Live, Point, write_live
from moe_analysis.training.recorders.attached_run import RECORDS, AttachedConfig, AttachedRun
from moe_analysis.training.recorders.store import RecordStore
from moe_analysis.training.run_card import guessing, scores
from moe_analysis.training.status import locked
from tests.commands.calls import write_run


def record(folder: Path, loads: list[list[float]], steps: int = 3, **others: float) -> None:
    """A record of these loads (module, expert) at every step; others: further arrays (step,) of one value."""
    store = RecordStore(folder / RECORDS)
    shape, labels = np.shape(loads), [f"layers.{place}.q_proj" for place in range(len(loads))]
    for name in ("gate_load", "gate_importance"):
        store.declare(name, ("module", "expert"), shape, {"module": labels})
    for name in others:
        store.declare(name, (), (), {})
    for step in range(steps):
        values = {"gate_load": np.array(loads), "gate_importance": np.full(shape, 1 / shape[1])}
        store.append(step, values | {name: np.float32(value) for name, value in others.items()})
    store.flush()


def words(html: str) -> str:
    """What a reader sees of a card."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_a_finished_run_shows_its_choices_losses_and_scores(out: Path, config) -> None:
    run = ma.Run.load(write_run(out, config(lr=0.3), better=0.2))
    html = run._repr_html_()
    text = words(html)
    assert f"{run.id} ✓ finished, 6 steps moelora, 2 s" in text
    assert "lr 0.3 default 0.005" in text and "adapter.gate switch default softmax" in text
    assert "weight_decay" not in text, "a default is nobody's choice"
    assert html.count("<polyline") == 1 and "train from 1.8 to 0.8; test from 0.8 to 0.8" in html
    assert "There is no record of experts" in text
    assert "3 data sets, mean accuracy 0.700" in text and "choose 10 0.600" in text
    assert f"run = ma.Run.load(&#39;{run.path}&#39;)" in html
    assert repr(run) == f"Run({run.id}: finished, 6 steps, test loss 0.800, accuracy 0.700)"


def test_scores_stand_beside_what_guessing_gives(out: Path, config, suite: str) -> None:
    frame = guessing(config())
    rows = ma.load_suite(suite, datasets=["choose"], split="test")
    assert 1 / 3 <= frame.loc["choose", "chance"] <= 1 / 2 and np.isnan(frame.loc["say", "chance"])
    assert len(rows) > 4, "the run's own four rows are a part"
    evaluation = pd.DataFrame({"dataset": ["choose", "say"], "rows": 4, "accuracy": [0.5, 0.25], "loss": 1.0})
    found = scores(evaluation, frame)
    assert [row["dataset"] for row in found] == ["choose", "say", "mean"] and found[1]["chance"] == "–"
    assert found[-1]["accuracy"] == "0.375" and found[-1]["chance"] == "–", "not of all data sets"
    alone = scores(evaluation, None)
    assert {row["guess"] for row in alone} == {"–"}


def test_a_suite_that_is_not_here_is_said_and_none_is_fetched(out: Path, config) -> None:
    run = ma.Run.load(write_run(out, config(suite="hub:nobody/nothing")))
    assert "The suite hub:nobody/nothing is not here, so the accuracy of guessing is unknown." in words(
        run._repr_html_()
    )
    assert guessing(config(suite="no such suite")) is None


@pytest.mark.parametrize(
    ("loads", "shown"),
    [
        ([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]], "share of tokens that use each expert, mean of the last 3 records"),
        ([[1.0, 1.0], [1.0, 1.0]], "every token uses every expert: the mean gate of each"),
    ],
)
def test_expert_loads_are_bars_of_each_module(out: Path, config, loads, shown: str) -> None:
    path = write_run(out, config())
    record(path, loads)
    html = ma.Run.load(path)._repr_html_()
    assert shown in words(html) and html.count('class="bars"') == 2 and "layers.1.q_proj" in html


def test_only_some_of_many_modules_are_drawn(out: Path, config) -> None:
    path = write_run(out, config())
    record(path, [[0.5, 0.5]] * 20)
    html = ma.Run.load(path)._repr_html_()
    assert html.count('class="bars"') == 6 and "and 14 more modules" in words(html)
    assert "layers.0.q_proj" in html and "layers.19.q_proj" in html, "from the first layer to the last"


def test_an_interrupted_run_draws_the_losses_that_it_told_while_it_trained(out: Path, config) -> None:
    path = write_run(out, config(), steps=2, finished=False)
    assert not (path / "history.parquet").exists() and "No loss has been logged yet." in words(card_of(path))
    write_live(path, Live(3, 0.5, points=(Point(1, 2.0), Point(2, math.nan), Point(3, 0.5))))
    html = card_of(path)
    assert html.count("<polyline") == 1 and "train from 2 to 0.5" in html and "train, so far" in words(html)
    (path / "live.json").write_text("{")
    assert "No loss has been logged yet." in words(card_of(path)), "damage of live.json is no damage of the run"


def card_of(path: Path) -> str:
    return ma.Run.load(path)._repr_html_()


def test_runs_that_are_not_finished_say_how_far_they_came(out: Path, config) -> None:
    path = write_run(out, config(), steps=2, finished=False)
    run = ma.Run.load(path)
    assert repr(run) == f"Run({run.id}: interrupted at step 2 of 6)"
    text = words(run._repr_html_())
    assert "interrupted at step 2 of 6" in text and "The run is evaluated when it is finished." in text
    with locked(path):
        assert "running, step 2 of 6" in words(run._repr_html_())
    (path / "failure.txt").write_text("Traceback …\nValueError: lr = <b> is too large")
    html = run._repr_html_()
    assert "failed at step 2 of 6" in html and "ValueError: lr = &lt;b&gt; is too large" in html
    (path / "failure.txt").unlink()
    (path / "status.json").unlink()
    assert "not started" in repr(run) and "not started" in run._repr_html_()


@pytest.mark.parametrize("name", ["history.parquet", "evaluation.parquet", "status.json", "records.zarr/zarr.json"])
@pytest.mark.parametrize("content", [None, b"", b"{", b"PAR1"])
def test_a_damaged_file_is_told_on_the_card_and_never_raises(out: Path, config, name: str, content) -> None:
    path = write_run(out, config())
    record(path, [[0.5, 0.5]])
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    run = ma.Run.load(path)
    html = run._repr_html_()
    assert run.id in html and "ma.Run.load" in html and repr(run).startswith("Run(")
    assert 'class="fault"' in html or name == "status.json" and content is None


def test_what_a_user_names_is_text(out: Path, config) -> None:
    path = write_run(out, config())
    evaluation = ma.Run.load(path).evaluation.replace("say", "<script>alert(1)</script>")
    write_table(path / "evaluation.parquet", evaluation)
    moved = path.with_name("<script>alert(2)<script>")
    path.rename(moved)
    html = ma.Run.load(moved)._repr_html_()
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html and "&lt;script&gt;alert(2)" in html


def test_a_card_has_its_style_in_one_rule_and_knows_the_dark_notebook(out: Path, config) -> None:
    html = ma.Run.load(write_run(out, config()))._repr_html_()
    assert '[data-jp-theme-light="false"] &' in html and html.index(".moe-analysis {") < html.index(".object {")


def test_an_attached_loop_shows_its_losses_and_loads(tmp_path: Path) -> None:
    run = AttachedRun(tmp_path, AttachedConfig("T-REX <b>", 3, "TREX", None, 2))
    run.describe(updates=6)
    assert "0 records" in run._repr_html_() and 'class="fault"' in run._repr_html_()
    record(tmp_path, [[0.5, 0.5], [0.9, 0.1]], loss=1.5)
    text = words(run._repr_html_())
    assert "T-REX &lt;b&gt;, a recorded loop" in text and "● 3 records" in text and "optimizer unknown, seed 3" in text
    assert run._repr_html_().count('class="bars"') == 2 and "<polyline" in run._repr_html_()
    shutil.rmtree(tmp_path / RECORDS)
    record(tmp_path, [[0.5, 0.5]], loss=float("nan"))
    assert "No loss was logged." in run._repr_html_()


def test_choices_are_what_differs_from_the_defaults_of_both_classes() -> None:
    lora = peft.LoraConfig(r=16, target_modules=["q_proj"])
    found = {choice.field: choice.value for choice in choices(ma.TrainConfig(adapter=lora, seed=3))}
    assert found == {
        "seed": 3,
        "adapter.peft_type": "LORA",
        "adapter.r": 16,
        "adapter.target_modules": ["q_proj"],
    }


def test_choices_of_a_stored_run_are_those_of_the_configuration(out: Path, config) -> None:
    made = config(lr=0.3)
    path = write_run(out, made)
    values = json.loads((path / "config.json").read_text())
    assert choices(ma.Run.load(path).config) == choices(made) and values["lr"] == 0.3
