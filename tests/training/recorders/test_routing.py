"""The gates of trained models, token by token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import moe_analysis as ma
from moe_analysis.training.recorders.routing import gates_of_runs, record_gates


def test_recorded_gates_are_those_of_every_real_token(config, out: Path, suite: str) -> None:
    run = ma.train(config(adapter=ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"])), out)
    frame = ma.load_suite(suite, split="test")
    gates, tokens = record_gates(run.model(), run.tokenizer, frame, run.intuition(frame))
    assert set(tokens["row"]) == set(range(len(frame)))
    assert {values.shape for values in gates.values()} == {(len(tokens), 6)}
    one, its = record_gates(run.model(), run.tokenizer, frame.iloc[[7]], run.intuition(frame.iloc[[7]]))
    module = "layers.1.self_attn.q_proj"
    mine = tokens.index[tokens["row"] == 7]
    np.testing.assert_allclose(gates[module][mine], one[module], atol=1e-5)
    assert tokens.loc[mine, "token_id"].tolist() == its["token_id"].tolist()
    assert (tokens.loc[mine, "dataset"] == frame.iloc[7]["dataset"]).all()


def test_a_model_without_a_router_has_no_gates_to_record(backbone: str, suite: str) -> None:
    model, tokenizer = ma.load_backbone(backbone, torch.float32)
    with pytest.raises(ValueError, match="no routed adapter"):
        record_gates(model, tokenizer, ma.load_suite(suite))


def test_gates_of_runs_are_recorded_with_each_run_s_own_intuition_before_and_after_training(config, out: Path, suite):
    frame = ma.load_suite(suite, split="test")
    adapters = (
        ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"]),
        ma.MoeLoraConfig(num_experts=3, r=2, target_modules=["q_proj"]),
    )
    runs = [ma.train(config(adapter=adapter), out) for adapter in adapters]
    trained, before = gates_of_runs(runs, frame), gates_of_runs(runs, frame, trained=False)
    assert [run for run, _, _ in trained] == runs
    alone, _ = record_gates(runs[0].model(), runs[0].tokenizer, frame, runs[0].intuition(frame))
    module = "layers.1.self_attn.q_proj"
    np.testing.assert_array_equal(trained[0][1][module], alone[module])
    for run, late, early in zip(runs, trained, before):
        assert late[1][module].shape == early[1][module].shape == (len(late[2]), run.config.adapter.num_experts)
        assert not np.allclose(late[1][module], early[1][module])
