"""What a run says of itself while it trains, and that saying it changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM

import moe_analysis as ma
from moe_analysis.training import trainer as training
from moe_analysis.training.progress import FILE, MOST_POINTS, RunProgress, read_live
from moe_analysis.training.recorders.foreign_routers import TopKView
from moe_analysis.training.recorders.live_recorder import LiveRecorder, dead, of_gates, sorted_load
from moe_analysis.training.recorders.recorder import HookedRecorder, Recorder
from moe_analysis.training.run_folder import list_runs
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.trainer import AdapterTrainer

TARGETS = ["q_proj", "v_proj"]
ADAPTERS: dict[str, Any] = {
    "lora": peft.LoraConfig(r=2, target_modules=TARGETS, task_type="CAUSAL_LM"),
    "moelora": ma.MoeLoraConfig(num_experts=4, top_k=2, gate="noisy_topk", r=2, dropout=0.1, target_modules=TARGETS),
    "sira": ma.SiraConfig(num_experts=4, top_k=2, r=2, target_modules=TARGETS),
    "hydralora": ma.HydraLoraConfig(num_experts=3, r=2, target_modules=TARGETS),
    "trex": ma.TRexConfig(num_down=2, num_up=3, intuition=False, target_modules=TARGETS),
    "momor": ma.MomorConfig(num_experts=[3, 2], top_k=[2, 1], r=2, target_modules=TARGETS),
    "smore": ma.SmoreConfig(num_experts=[3, 2], fanout=[2, 1], r=2, target_modules=TARGETS),
}
EXPERTS = {"lora": 0, "moelora": 16, "sira": 16, "hydralora": 12, "trex": 24, "momor": 20, "smore": 20}


class Silent(HookedRecorder):
    """In place of `LiveRecorder`: looks at nothing."""

    def __init__(self, model: Any, folder: Path, steps: int) -> None:
        super().__init__(model, folder, 1)

    def declare(self, steps: int) -> None:
        """There is no record."""

    def see(self, *_: Any) -> None:
        raise AssertionError("no hook is put anywhere")

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """No hook is put anywhere."""

    def told(self, step: int, loss: float) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("system", ADAPTERS)
def test_being_watched_changes_no_number(system: str, config, tmp_path: Path, monkeypatch) -> None:
    one = config(adapter=ADAPTERS[system], steps=4, record_every=0)
    watched = ma.train(one, tmp_path / "watched", progress=True)
    with monkeypatch.context() as patch:
        patch.setattr(training, "LiveRecorder", Silent)
        alone = ma.train(one, tmp_path / "alone", progress=False)
    assert not (alone.path / FILE).exists()
    pd.testing.assert_frame_equal(watched.history, alone.history, check_exact=True)
    pd.testing.assert_frame_equal(watched.outcomes, alone.outcomes, check_exact=True)
    first, second = (load_file(run.path / "adapter" / "adapter_model.safetensors") for run in (watched, alone))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    live = read_live(watched.path)
    assert (live.step, live.experts) == (4, EXPERTS[system]) and live.curve("step") == [1, 2, 3, 4]
    history = watched.history[watched.history["split"] == "train"]
    np.testing.assert_allclose(live.curve("loss"), history["loss"] - history["balance_loss"], rtol=1e-4)
    if system == "lora":
        assert np.isnan(live.curve("gate_entropy")).all() and not live.load
    else:
        assert all(0 <= value <= 1 + 1e-5 for value in live.curve("gate_entropy"))
        assert sum(live.load) == pytest.approx(1, abs=1e-3) and list(live.load) == sorted(live.load, reverse=True)
        assert max(live.load) == pytest.approx(live.curve("busiest_expert")[-1], rel=1e-3)


def test_entropy_is_that_of_the_record_where_both_look_at_all_tokens(config, out: Path) -> None:
    run = ma.train(config(steps=3), out)
    recorded = run.records["gate_entropy"].mean("module").values
    np.testing.assert_allclose(read_live(run.path).curve("gate_entropy"), recorded, rtol=1e-3)


def test_a_long_run_is_thinned(model, tmp_path: Path) -> None:
    steps = 3 * MOST_POINTS - 1
    recorder = LiveRecorder(model, tmp_path, steps)
    looked = [step for step in range(steps) if recorder.due(step)]
    assert len(looked) == MOST_POINTS == len(range(0, steps, 3))
    for step in range(1, 8):
        assert recorder.told(step, float(step)) == {}
    assert [(point.step, point.loss) for point in recorder.live.points] == [(1, 1.0), (4, 3.0), (7, 6.0)]


def test_the_pace_leaves_out_the_first_step_of_a_process(model, tmp_path: Path, monkeypatch) -> None:
    recorder = LiveRecorder(model, tmp_path, 100)
    for step, now in ((41, 60.0), (42, 60.5), (43, 62.0)):
        monkeypatch.setattr(
            "moe_analysis.training.recorders.live_recorder.time", SimpleNamespace(monotonic=lambda now=now: now)
        )
        recorder.told(step, 1.0)
        assert math.isnan(recorder.live.pace) == (step == 41)
    assert recorder.live.pace == 1.0
    row = RunProgress("one", "running", 43, 100, 500.0, live=recorder.live)
    assert row.seconds_left == 57.0 and replace(row, live=None).seconds_left == 500.0 / 43 * 57


def test_a_run_that_was_stopped_goes_on_with_its_curves(config, tmp_path: Path, monkeypatch) -> None:
    one = config(save_every=2)
    whole = read_live(ma.train(one, tmp_path / "whole").path)
    original = AdapterTrainer.log

    def dies(self: AdapterTrainer, logs: dict, *rest: Any) -> None:
        if self.state.global_step == 5 and "loss" in logs:
            self.live.told(5, 99.0)
            self.live.flush()
            raise OSError("full")
        original(self, logs, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(AdapterTrainer, "log", dies)
        with pytest.raises(OSError, match="full"):
            ma.train(one, tmp_path / "out")
    assert read_live(tmp_path / "out" / one.run_name).curve("loss")[-1] == 99.0
    again = read_live(ma.train(one, tmp_path / "out").path)
    assert again.curve("step") == [1, 2, 3, 4, 5, 6]
    for name in ("loss", "gate_entropy", "busiest_expert"):
        assert again.curve(name) == whole.curve(name)


@pytest.mark.parametrize("damage", ["cut", "folder"])
def test_a_damaged_file_stops_no_run_and_no_list(damage: str, config, out: Path, monkeypatch) -> None:
    one = config(save_every=2)
    path = out / one.run_name / FILE
    original = AdapterTrainer._save_checkpoint

    def damaged(self: AdapterTrainer, *rest: Any) -> None:
        original(self, *rest)
        path.unlink(missing_ok=True)
        if damage == "folder":
            path.mkdir()
        else:
            path.write_text('{"step": 2, "poi')
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(AdapterTrainer, "_save_checkpoint", damaged)
        with pytest.raises(OSError, match="killed"):
            ma.train(one, out)
    assert list_runs([path.parent])["state"].tolist() == ["stopped"]
    assert ma.train(one, out).finished
    if damage == "cut":
        assert read_live(path.parent).curve("step") == [3, 4, 5, 6]


def test_experts_that_no_sample_uses_are_dead() -> None:
    gates = torch.zeros(1, 6, 4)
    gates[0, :, 0], gates[0, 0, 1] = 1.0, 1.0
    share = of_gates(gates)["share"]
    assert dead([share]).tolist() == [[False, False, True, True]]
    gates[0, 0] = torch.tensor([1.0, 0.001, 0.0, 0.0])
    assert dead([of_gates(gates)["share"]]).tolist() == [[False, True, True, True]]
    other = torch.full((1, 4), 0.25)
    assert not dead([share, other]).any()


def test_shares_and_entropy_are_of_absolute_gates() -> None:
    gates = torch.tensor([[[2.0, -2.0], [1.0, 0.0]]])
    found = of_gates(gates)
    torch.testing.assert_close(found["share"], torch.tensor([[0.75, 0.25]]))
    torch.testing.assert_close(found["entropy"], torch.tensor([0.5]))
    seen = {2: found, 3: of_gates(torch.eye(3)[None].repeat(2, 1, 1))}
    assert sorted_load(seen) == pytest.approx((1 / 3, 1 / 3, 1 / 3))  # of the size that most routers have


class Loop:
    """Steps of a model as a Trainer makes them, told to a recorder."""

    def __init__(self, recorder: Recorder, steps: int) -> None:
        self.recorder, self.state = recorder, SimpleNamespace(global_step=0, max_steps=steps)
        recorder.on_train_begin(None, self.state, None)

    def step(self, model: Any, batch: dict) -> dict[str, float]:
        loss = model(**batch).loss
        loss.backward()
        self.recorder.on_pre_optimizer_step(None, self.state, None)
        self.state.global_step += 1
        self.recorder.on_step_end(None, self.state, None)
        return self.recorder.told(self.state.global_step, loss.item())


def mixtral(experts: int = 4) -> MixtralForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = MixtralConfig(vocab_size=40, num_hidden_layers=2, num_local_experts=experts, **sizes)
    return MixtralForCausalLM(config).train()


def test_routers_of_somebody_elses_model_are_watched_beside_plain_lora(tokens, tmp_path: Path) -> None:
    model = peft.get_peft_model(mixtral(), peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    told = Loop(LiveRecorder(model, tmp_path, 4), 4).step(model, tokens)
    assert 0 < told["gate_entropy"] <= math.log(2) / math.log(4) + 1e-6  # two of four experts a token
    assert 0.25 <= told["busiest_expert"] <= 0.5


def test_a_router_that_hides_its_gates_stops_nothing(tokens, tmp_path: Path, monkeypatch) -> None:
    def refuse(self: Any, *_: Any) -> Any:
        raise ValueError("returns nothing in which its gates could be found")

    monkeypatch.setattr(TopKView, "gates", refuse)
    model = mixtral()
    assert Loop(LiveRecorder(model, tmp_path, 4), 4).step(model, tokens) == {}
    monkeypatch.setattr("moe_analysis.training.recorders.live_recorder.foreign_routers", refuse)
    recorder = LiveRecorder(model, tmp_path, 4)
    assert Loop(recorder, 4).step(model, tokens) == {} and recorder.live.experts == 0


def test_the_runs_of_a_sweep_say_how_they_go(config, out: Path) -> None:
    done = sweep([config(steps=2), config(steps=2, seed=1)], out, workers=1)
    assert [read_live(run.path).curve("step") for run in done.runs] == [[1, 2], [1, 2]]
