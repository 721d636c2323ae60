"""Training end to end: what is written, that it repeats, and that an interruption leaves no trace in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import peft
import pytest
import torch

import moe_analysis as ma
from moe_analysis.optim import router_parameters
from moe_analysis.training import trainer
from moe_analysis.training.files import RunError
from moe_analysis.training.sweep.running import train_all
from moe_analysis.training.trainer import AdapterTrainer

TREX = {"num_down": 2, "num_up": 3, "target_modules": ["q_proj", "v_proj"]}


def assert_same_run(first: ma.Run, second: ma.Run) -> None:
    pd.testing.assert_frame_equal(first.history, second.history)
    pd.testing.assert_frame_equal(first.evaluation, second.evaluation)
    for name in first.records.data_vars:
        np.testing.assert_array_equal(first.records[name].values, second.records[name].values)
    assert first.records["step"].values.tolist() == second.records["step"].values.tolist()


def test_a_run_holds_history_records_evaluation_and_a_model(config, out: Path) -> None:
    run = ma.train(config(eval_every=3), out)
    assert run.finished and run.status["step"] == 6
    train = run.history[run.history["split"] == "train"]
    assert train["step"].tolist() == [1, 2, 3, 4, 5, 6]
    assert train[["loss", "accuracy", "lr", "grad_norm", "balance_loss"]].notna().all(axis=None)
    assert run.history[run.history["split"] == "test"]["step"].tolist() == [3, 6]
    assert run.records["router_weight"].dims == ("step", "module", "expert", "feature")
    assert run.records["router_weight"].shape == (6, 4, 4, 16)
    assert run.records["module"].values.tolist()[0] == "layers.0.self_attn.q_proj"
    assert set(run.evaluation["dataset"]) == {"choose", "say"}
    model = run.model()
    layer = "base_model.model.model.layers.0.self_attn.q_proj.moelora_adapter.default"
    last = dict(model.named_parameters())[f"{layer}.router.weight"]
    assert not torch.equal(last, torch.from_numpy(run.records["router_weight"][-1, 0].values))


def test_the_record_is_the_weight_before_and_the_gradient_that_makes_each_update(config, out: Path) -> None:
    """With plain SGD and a constant rate, w(t+1) = w(t) - lr · gradient(t), bit by bit up to rounding."""
    run = ma.train(config(optimizer="sgd", schedule="constant", lr=0.5), out)
    weights, grads = run.records["router_weight"].values, run.records["router_grad"].values
    assert np.abs(grads).max() > 0
    np.testing.assert_allclose(weights[1:], weights[:-1] - 0.5 * grads[:-1], rtol=1e-5, atol=1e-7)


def test_gate_statistics_are_those_of_the_gates(config, out: Path) -> None:
    run = ma.train(config(), out)
    records = run.records
    np.testing.assert_allclose(records["gate_load"].sum("expert").values, 2.0, rtol=1e-5)  # top 2 of 4
    np.testing.assert_allclose(records["gate_importance"].sum("expert").values, 1.0, rtol=1e-5)
    np.testing.assert_allclose(records["gate_top1"].sum("expert").values, 1.0, rtol=1e-5)
    assert records["gate_entropy"].min() > 0
    assert records["gate_entropy"].max() <= np.log(2) / np.log(4) + 1e-6


def test_the_same_configuration_gives_the_same_run_twice(config, out: Path) -> None:
    trex = config(adapter=ma.TRexConfig(**TREX, dropout=0.1))
    assert_same_run(ma.train(trex, out / "a"), ma.train(trex, out / "b"))
    other = ma.train(config(adapter=ma.TRexConfig(**TREX, dropout=0.1), seed=1), out)
    assert not other.history["loss"].equals(ma.Run.load(out / "a" / trex.run_name).history["loss"])


def test_a_finished_run_is_read_and_not_repeated(config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ma.train(config(), out)
    monkeypatch.setattr(AdapterTrainer, "train", lambda *_, **__: pytest.fail("trained again"))
    assert ma.train(config(), out).history.equals(first.history)


@pytest.mark.parametrize("moment", ["compute_loss", "_save_checkpoint", "log"])
@pytest.mark.parametrize("call", [3, 5])
def test_a_run_that_dies_anywhere_resumes_to_the_same_history_and_record(
    config, out: Path, monkeypatch: pytest.MonkeyPatch, moment: str, call: int
) -> None:
    whole = ma.train(config(steps=11), out / "whole")
    original, calls = getattr(AdapterTrainer, moment), []

    def dies(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AdapterTrainer, moment, dies)
    with pytest.raises(KeyboardInterrupt):
        ma.train(config(steps=11), out / "cut")
    monkeypatch.setattr(AdapterTrainer, moment, original)
    assert_same_run(whole, ma.train(config(steps=11), out / "cut"))


@pytest.mark.parametrize("steps", [4, 6])
def test_a_run_that_dies_in_its_last_evaluation_trains_no_further_step(config, out: Path, monkeypatch, steps) -> None:
    options = {"steps": steps, "save_every": 2, "eval_every": 0, "schedule": "constant"}
    whole = ma.train(config(**options), out / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate_data", lambda *_: pytest.fail("cut off"))
        with pytest.raises(pytest.fail.Exception, match="cut off"):
            ma.train(config(**options), out / "cut")
    again = ma.train(config(**options), out / "cut")
    assert_same_run(whole, again)
    left, right = (dict(run.model().named_parameters()) for run in (whole, again))
    assert all(torch.equal(left[name], right[name]) for name in left)  # the same steps on the same shapes


@pytest.mark.parametrize("optimizer", ["riemannian_sgd", "riemannian_adamw"])
def test_preconditioned_optimizers_resume_to_the_same_history(config, out: Path, monkeypatch, optimizer: str) -> None:
    options = {"optimizer": optimizer, "steps": 5, "max_grad_norm": None, "router_max_grad_norm": 1.0, "final_lr": 0.1}
    whole = ma.train(config(**options), out / "whole")
    original = AdapterTrainer.compute_loss

    def dies(self, *args, **kwargs):
        if self.state.global_step == 3:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AdapterTrainer, "compute_loss", dies)
    with pytest.raises(KeyboardInterrupt):
        ma.train(config(**options), out / "cut")
    monkeypatch.setattr(AdapterTrainer, "compute_loss", original)
    assert_same_run(whole, ma.train(config(**options), out / "cut"))
    rates = whole.history.loc[whole.history["split"] == "train", "lr"].to_numpy()
    assert rates[0] == 1e-2 and np.allclose(np.diff(rates), -0.9 * 1e-2 / 5)  # to a tenth after the last step


def test_a_single_lora_of_peft_trains_with_the_metric(config, out: Path) -> None:
    lora = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    run = ma.train(config(adapter=lora, optimizer="riemannian_adamw", record_every=0), out)
    plain = ma.train(
        config(adapter=lora, optimizer="riemannian_adamw", record_every=0, optimizer_options={"precondition": False}),
        out,
    )
    losses = [one.history.loc[one.history["split"] == "train", "loss"].to_numpy() for one in (run, plain)]
    assert losses[0][0] == losses[1][0] and not np.allclose(losses[0], losses[1])


def test_only_the_routers_gradient_is_clipped_when_asked(config, out: Path, monkeypatch) -> None:
    seen = []
    original = AdapterTrainer._clip_grad_norm

    def spy(self, model):
        norm = original(self, model)
        routers = set(router_parameters(model))
        moved = [p for p in model.parameters() if p.grad is not None]
        parts = ([p for p in moved if p in routers], [p for p in moved if p not in routers])
        seen.append((float(norm), *(torch.cat([p.grad.flatten() for p in part]).norm().item() for part in parts)))
        return norm

    monkeypatch.setattr(AdapterTrainer, "_clip_grad_norm", spy)
    run = ma.train(config(max_grad_norm=None, router_max_grad_norm=1e-6, steps=3), out)
    for whole, router, experts in seen:
        assert router <= 1.001e-6 < experts <= whole
    assert np.allclose(run.history.loc[run.history["split"] == "train", "grad_norm"], [whole for whole, *_ in seen])


def test_a_checkpoint_that_was_cut_off_is_not_resumed_from(config, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ma.train(config(steps=8), out / "whole")
    original = AdapterTrainer._save_optimizer_and_scheduler

    def half(self, folder: str) -> None:
        if self.state.global_step == 6:
            raise KeyboardInterrupt
        original(self, folder)

    monkeypatch.setattr(AdapterTrainer, "_save_optimizer_and_scheduler", half)
    with pytest.raises(KeyboardInterrupt):
        ma.train(config(steps=8), out / "cut")
    monkeypatch.setattr(AdapterTrainer, "_save_optimizer_and_scheduler", original)
    assert (out / "cut" / config(steps=8).run_name / "checkpoints" / "checkpoint-6").is_dir()
    assert_same_run(whole, ma.train(config(steps=8), out / "cut"))


def test_a_killed_process_resumes_to_the_same_history_and_record(config, out: Path) -> None:
    long = config(steps=60, save_every=10)
    whole = ma.train(long, out / "whole")
    job = out / "job.json"
    job.write_text(json.dumps(long.to_dict()))
    code = (
        f"import json, torch; torch.set_num_threads({torch.get_num_threads()}); import moe_analysis as ma\n"
        f"ma.train(ma.TrainConfig.from_dict(json.load(open({str(job)!r}))), {str(out / 'cut')!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    checkpoints = out / "cut" / long.run_name / "checkpoints"
    deadline = time.monotonic() + 120
    while not (checkpoints / "checkpoint-20").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process ended before it could be killed"
    assert checkpoints.is_dir() and not ma.Run.load(checkpoints.parent).finished
    assert_same_run(whole, ma.train(long, out / "cut"))


def test_accumulated_micro_batches_equal_one_large_batch(config, out: Path) -> None:
    """Token losses are averaged over all tokens; the balance loss, a mean of each part, is not counted four times.

    Up to a hundredth: AdamW's first step is as long as the rate, also where a gradient is little more than rounding.
    """
    adapter = ma.MoeLoraConfig(num_experts=4, gate="switch", top_k=4, balance_coef=1.0, r=2, target_modules=["q_proj"])
    losses = []
    for batch, parts in ((8, 1), (2, 4)):
        run = ma.train(config(adapter=adapter, batch_size=batch, gradient_accumulation=parts, steps=2), out)
        losses.append(run.history[run.history["split"] == "train"][["loss", "balance_loss", "grad_norm"]].to_numpy())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)


def test_gradient_checkpointing_changes_no_number(config, out: Path) -> None:
    adapter = ma.TRexConfig(**TREX)
    plain = ma.train(config(adapter=adapter), out)
    recomputed = ma.train(config(adapter=adapter, gradient_checkpointing=True), out)
    np.testing.assert_allclose(plain.history["loss"], recomputed.history["loss"], rtol=1e-5)


def test_intuition_is_the_cosine_to_clusters_of_the_training_prompts(config, out: Path, suite: str) -> None:
    run = ma.train(config(adapter=ma.TRexConfig(**TREX)), out)
    frame = ma.load_suite(suite)
    assert run.clusters.k == 6 and len(run.clusters.labels) == (frame["split"] == "train").sum()
    scores = run.intuition(frame[frame["split"] == "test"])
    assert scores.shape == (12, 6) and np.abs(scores).max() <= 1
    assert ma.train(config(), out).intuition(frame) is None


def test_vanilla_lora_trains_without_a_record(config, out: Path) -> None:
    from peft import LoraConfig

    run = ma.train(config(adapter=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")), out)
    assert run.finished and len(run.history) == 7
    with pytest.raises(ValueError, match="no record"):
        run.records  # noqa: B018


def test_routers_of_several_shapes_get_arrays_of_their_own(config, out: Path) -> None:
    adapter = ma.MoeLoraConfig(num_experts=2, r=2, target_modules=["q_proj", "down_proj"])
    records = ma.train(config(adapter=adapter), out).records
    assert records["router_weight"].shape == (6, 2, 2, 16) and records["router_weight_2x24"].shape == (6, 2, 2, 24)


def test_rows_with_answers_that_do_not_fit_are_left_out_and_counted(config, out: Path, suite: str, tmp_path) -> None:
    rows = [json.loads(line) for line in (Path(suite) / "say.jsonl").read_text().splitlines()]
    rows[3]["answer"] = rows[27]["answer"] = "red blue " * 40
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "say.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    short = config(suite=str(tmp_path / "own"), eval_rows=None, max_length=40, adapter=ma.TRexConfig(**TREX))
    with pytest.warns(UserWarning, match="max_length = 40 cannot hold their answers: 2 of say"):
        run = ma.train(short, out)
    assert run.evaluation["rows"].sum() == 5
    with pytest.warns(UserWarning) as said:  # once, before two runs start whose processes are silent
        train_all([replace(short, seed=1), replace(short, seed=2)], out, executor=ThreadPoolExecutor(1))
    assert [str(one.message).rpartition(": ")[2] for one in said] == ["2 of say"]
    with pytest.raises(ValueError, match="no train rows with answers of fewer than max_length = 8"):
        ma.train(config(max_length=8, datasets=["say"], suite=str(long_only(tmp_path / "long", rows[3]))), out)


def long_only(folder: Path, row: dict) -> Path:
    """A suite of one data set whose every answer is long."""
    folder.mkdir()
    rows = [{**row, "prompt": f"{row['prompt']} {split}", "split": split} for split in ("train", "test")]
    (folder / "say.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


def test_wrong_input_is_refused_before_anything_is_trained(config, out: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\['qq'\] are not in the model; choose from"):
        ma.train(config(adapter=ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj", "qq"])), out)
    with pytest.raises(ValueError, match="k = 600"):
        ma.train(config(adapter=ma.TRexConfig(num_down=20, num_up=30, target_modules=["q_proj"])), out)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="cannot be written"):
        ma.train(config(), tmp_path / "file")


def test_one_run_is_trained_by_one_process_at_a_time(config, out: Path) -> None:
    from moe_analysis.training.status import locked

    with locked(out / config().run_name), pytest.raises(RunError, match="another process"):
        ma.train(config(), out)


def test_a_damaged_run_is_reported_by_the_file_at_fault(config, out: Path) -> None:
    run = ma.train(config(), out)
    (run.path / "history.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RunError, match=r"history.parquet is not a readable parquet"):
        ma.Run.load(run.path).history  # noqa: B018
    (run.path / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config.json is not readable JSON"):
        ma.Run.load(run.path)
    with pytest.raises(RunError, match="not a folder"):
        ma.Run.load(out / "nothing")
