"""lm-evaluation-harness, where it is installed, gives our models the accuracy that `evaluate` gives."""

from __future__ import annotations

import json

import pytest

import moe_analysis as ma
from moe_analysis.tasks.prompts import render
from moe_analysis.training.evaluation import evaluate

pytest.importorskip("lm_eval", reason="lm_eval is not installed; pip install lm_eval==0.4.9 to run this")

TASK = """task: embedded_rows
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{file}"}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{ended}}}}"
doc_to_target: label
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
SIZES = {"target_modules": ["q_proj", "v_proj"]}


def rows():
    frame = ma.load_suite("embedded", split="test")
    return frame[frame["choices"].notna()].groupby("dataset").head(6).reset_index(drop=True)


def task_of(frame, end: str, folder):
    """A task of lm_eval on the same rows: the same text, every choice with the end token that `evaluate` scores too."""
    from lm_eval.tasks import TaskManager

    lines = [
        {"text": render(row)[0], "ended": [f" {one}{end}" for one in row["choices"]], "label": int(row["label"])}
        for row in frame.to_dict("records")
    ]
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    (folder / "embedded_rows.yaml").write_text(TASK.format(file=file))
    return TaskManager(include_path=str(folder), include_defaults=False)


ADAPTERS = {
    "LoRA-MoE": ma.MoeLoraConfig(num_experts=4, r=2, **SIZES),
    "T-REX": ma.TRexConfig(num_down=2, num_up=2, **SIZES),
}


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_the_harness_gives_the_accuracy_of_evaluate(adapter, tmp_path):
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    frame = rows()
    names = sorted(frame["dataset"].unique())
    config = ma.TrainConfig(adapter=adapter, datasets=names, steps=12, batch_size=32, eval_rows=2)
    run = ma.train(config, tmp_path / "runs")
    model, tokenizer = run.model(), run.tokenizer
    table = evaluate(model, tokenizer, frame, run.intuition(frame))
    ours = float((table["accuracy"] * table["rows"]).sum() / table["rows"].sum())
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, add_bos_token=True, batch_size=16, max_length=512)
    tasks = task_of(frame, tokenizer.eos_token, tmp_path)
    found = simple_evaluate(wrapped, tasks=["embedded_rows"], task_manager=tasks, bootstrap_iters=0)
    theirs = found["results"]["embedded_rows"]["acc,none"]
    assert theirs == pytest.approx(ours, abs=0.5 / len(frame))  # not one row differs
    assert 0.05 < ours < 0.99
