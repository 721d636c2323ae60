"""A sound run, written as training writes it, and everything that is read from one."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import moe_analysis as ma
from moe_analysis.tasks.clusters import ClusterError, Clusters
from moe_analysis.training.files import HISTORY, RunError, json_text, write_table
from moe_analysis.training.recorders.store import RecordError, RecordStore

ERRORS = (RunError, RecordError, ClusterError)
EVALUATION = ["dataset", "group", "kind", "rows", "loss", "accuracy"]


def config() -> ma.TrainConfig:
    adapter = ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj", "v_proj"])
    return ma.TrainConfig(adapter=adapter, steps=60, seed=1, datasets=["add_small"], router_lr=1e-4)


def build(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json_text(config().to_dict()))
    (folder / "status.json").write_text(
        json_text(
            {
                "state": "finished",
                "step": 60,
                "steps": 60,
                "seconds": 1.5,
                "world_size": 1,
                "backbone_sha256": "0" * 64,
                "versions": {"python": "3.11"},
            }
        )
    )
    steps = np.arange(1, 61)
    history = pd.DataFrame(
        {
            "step": steps,
            "split": "train",
            "loss": 1 / steps,
            "accuracy": 0.5,
            "lr": 5e-3,
            "grad_norm": 1.0,
            "balance_loss": 0.0,
        }
    )
    write_table(folder / "history.parquet", history[HISTORY])
    rows = [("add_small", "arithmetic", "choices", 10, 0.5, 0.75), ("free", "lists", "exact match", 4, 1.5, 0.25)]
    write_table(folder / "evaluation.parquet", pd.DataFrame(rows, columns=EVALUATION))
    for name, feature in (("records.zarr", 4), ("experts.zarr", 1), ("trees.zarr", 1)):
        fill_store(RecordStore(folder / name), feature)
    rng = np.random.default_rng(0)
    Clusters(rng.normal(size=(6, 5)).astype(np.float32), np.arange(12) % 6, 0, 3.5).save(folder / "clusters.npz")


def fill_store(store: RecordStore, features: int) -> None:
    modules = ["layers.0.q_proj", "layers.1.v_proj"]
    store.declare("router_weight", ("module", "expert", "feature"), (2, 6, features), {"module": modules})
    store.declare("gate_entropy", ("module",), (2,), {})
    store.declare("gate_load", ("module", "expert"), (2, 6), {})
    rng = np.random.default_rng(1)
    for step in range(60):
        values = {
            "router_weight": rng.normal(size=(2, 6, features)),
            "gate_entropy": rng.random(2),
            "gate_load": rng.random((2, 6)),
        }
        store.append(step, {name: value.astype(np.float32) for name, value in values.items()})
    store.flush()


def readings(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    load = functools.cache(lambda: ma.Run.load(folder))
    yield "config", lambda: check_config(load().config)
    yield "status", lambda: check_status(load())
    yield "history", lambda: check_table(load().history, HISTORY)
    yield "evaluation", lambda: check_table(load().evaluation, EVALUATION)
    yield "records", lambda: check_records(load().records)
    yield "expert_records", lambda: check_records(load().expert_records)
    yield "tree_records", lambda: check_records(load().tree_records)
    yield "clusters", lambda: check_clusters(load().clusters)
    yield "card", lambda: check_card(load())


def check_config(config: Any) -> None:
    assert len(config.digest) == 10 and config.run_name.isprintable() is not None
    assert isinstance(config.steps, int) and isinstance(config.lr, float | int) and isinstance(config.suite, str)
    json.dumps(config.to_dict())


def check_card(run: Any) -> None:
    """A card tells of what is damaged and raises nothing."""
    html = run._repr_html_()
    assert run.path.name in html and "ma.Run.load" in html


def check_status(run: Any) -> None:
    status = run.status
    assert repr(run) and run.finished in (True, False)
    assert isinstance(status.get("step", 0), int) and float(status.get("seconds", 0.0)) is not None


def check_table(frame: pd.DataFrame, columns: list[str]) -> None:
    assert set(columns) <= set(frame.columns) and len(frame)
    assert np.isfinite(frame[["loss", "accuracy"]].to_numpy(dtype=float).sum()) is not None


def check_records(data: Any) -> None:
    """All values are read, since a lazy array hides a damaged chunk until then."""
    loaded = data.load(scheduler="synchronous")
    assert np.all(np.diff(loaded["step"].values) > 0)
    for values in loaded.data_vars.values():
        assert values.dims[0] == "step" and len(values) == len(loaded["step"]) and values.dtype == np.float32


def check_clusters(clusters: Any) -> None:
    rows = np.eye(clusters.centroids.shape[1], dtype=np.float32)
    scores = clusters.intuition(rows)
    assert scores.shape == (len(rows), clusters.k) and np.isfinite(scores).all() and clusters.labels.dtype.kind == "i"
