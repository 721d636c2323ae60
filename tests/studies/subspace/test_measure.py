"""What the study finds out from runs by itself."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from moe_analysis.adapters import TRex, TRexConfig
from moe_analysis.studies import subspace

MODULE = "layers.0.self_attn.q_proj"


@pytest.fixture
def layer() -> TRex:
    layer = TRex(9, 8, TRexConfig(num_down=2, num_up=3))
    torch.nn.init.normal_(layer.B)
    return layer


@pytest.fixture
def run(layer) -> SimpleNamespace:
    config = SimpleNamespace(
        name="T-REX",
        seed=0,
        suite="embedded",
        datasets=["add_small"],
        form="cloze",
        max_length=17,
        steps=1,
        backbone="x",
    )
    return SimpleNamespace(
        config=config, model=lambda: layer, tokenizer="its own", intuition=lambda frame: np.ones((len(frame), 6))
    )


@pytest.fixture
def asked(layer, monkeypatch) -> list:
    """What gates were asked for; two tokens of every row are handed out."""
    seen = []

    def record(model, tokenizer, frame, intuition, max_length, prompt_form):
        seen.append((model, tokenizer, set(frame["dataset"]), len(frame), max_length, prompt_form))
        gates = np.random.default_rng(0).random((2 * len(frame), 6)).astype(np.float32)
        return {MODULE: gates}, pd.DataFrame({"row": np.arange(len(frame)).repeat(2)})

    measuring = sys.modules[subspace.measure_used.__module__]
    monkeypatch.setattr(measuring, "record_gates", record)
    monkeypatch.setattr(measuring, "adapter_modules", lambda model: {MODULE: model})
    return seen


def test_routings_are_recorded_as_the_run_was_trained(run, layer, asked):
    found = subspace.measure_used([run], prompts=3)
    assert asked == [(layer, "its own", {"add_small"}, 3, 17, "cloze")]
    assert found.used["method"].tolist() == ["T-REX", "T-REX, router alone"]
    assert found.reached["span"].tolist() == [6] and set(found.numbers) == {"summary", "used", "reached", "energy"}


def test_a_method_without_intuition_has_no_router_alone(run, asked):
    run.intuition = lambda frame: None
    assert subspace.measure_used([run]).used["method"].tolist() == ["T-REX"]


def test_runs_of_other_data_sets_are_refused_before_anything_is_recorded(run, asked):
    config = {**vars(run.config), "seed": 1, "datasets": None}
    other = SimpleNamespace(**{**vars(run), "config": SimpleNamespace(**config)})
    with pytest.raises(ValueError, match=r"runs differ in datasets: \['add_small'\], None; measure those of one"):
        subspace.measure_used([run, other])
    assert not asked


def test_a_span_has_its_checks_its_knobs_and_what_sizes_cost(monkeypatch):
    monkeypatch.setattr(sys.modules[subspace.measure_span.__module__], "checked", lambda pattern: [])
    found = subspace.measure_span(max_rank=2, budgets=[4096], features=64)
    assert set(found.numbers) == {"ranks", "equal_factors", "budgets"} and found.origin == "exact, without training"
    assert list(found.widget().controls) == ["num_down", "num_up", "kind"]
    assert len(found.sizes[found.sizes["system"] == "T-REX"]) == 4
