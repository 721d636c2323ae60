from __future__ import annotations

import os
import signal
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.training.routing import record_gates
from moe_analysis.training.run import RunError
from moe_analysis.training.sweep import shared_pool, train_all


def test_a_process_pool_gives_the_runs_in_order_and_as_one_process_would(config, out: Path) -> None:
    configs = [config(seed=seed) for seed in (1, 0)]
    runs = train_all(configs, out / "pool", workers=2)
    assert [run.config.seed for run in runs] == [1, 0]
    pd.testing.assert_frame_equal(runs[1].history, ma.train(configs[1], out / "alone").history)


def test_the_pool_is_kept_and_made_anew_when_a_process_of_it_was_killed(tmp_path: Path) -> None:
    pool = shared_pool(1)
    worker = pool.submit(os.getpid).result()
    assert shared_pool(1) is pool and pool.submit(os.getpid).result() == worker
    with pytest.raises(BrokenExecutor):
        pool.submit(os.kill, worker, signal.SIGKILL).result()
    assert shared_pool(1).submit(os.getpid).result() != worker


def test_a_failing_run_is_named_and_stops_no_other(config, out: Path) -> None:
    good = config(seed=5)
    bad = config(adapter=ma.TRexConfig(num_down=20, num_up=30, target_modules=["q_proj"]))
    message = f"1 of 2 runs failed(?s:.*){bad.run_name}.*k = 600"
    with ThreadPoolExecutor(1) as pool, pytest.raises(RunError, match=message):
        train_all([bad, good], out, executor=pool)
    assert ma.Run.load(out / good.run_name).finished


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
    model, tokenizer = ma.load_backbone(backbone)
    with pytest.raises(ValueError, match="no routed adapter"):
        record_gates(model, tokenizer, ma.load_suite(suite))
