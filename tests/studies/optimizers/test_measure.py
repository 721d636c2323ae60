"""What is trained besides the runs that are passed: lower and matched rates, and the control with one expert."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import moe_analysis as ma
from moe_analysis.studies.optimizers import Optimizers, bench, measure, measure_confound, measure_control
from moe_analysis.studies.optimizers.regression_grid import RegressionConfig

from ..experts.test_anatomy import watched_run

MIXTURE = ma.MoeLoraConfig(num_experts=4, top_k=2, r=2, target_modules=["q_proj"])


def trained(config: Any) -> Any:
    """A run whose steps are as long as its rate, and twice that where it is rescaled."""
    run = watched_run(config.name, config.seed, step=config.lr * (2 if config.name.startswith("g") else 1))
    loss = pd.DataFrame({"step": [1], "split": "train", "loss": [2.0], "balance_loss": [0.0]})
    run.config, run.path, run.history = config, Path("runs") / config.name, loss
    return run


@pytest.fixture
def asked(monkeypatch) -> list:
    """The configurations that were to be trained, in the order of asking."""
    seen: list[Any] = []

    def train_all(configs: list, out: Path, workers: int | None) -> list:
        assert out == Path("runs") and workers == 1
        seen.extend(configs)
        return [trained(config) for config in configs]

    monkeypatch.setattr(bench, "train_all", train_all)
    # by its name: the folder gives the function of that name
    monkeypatch.setattr(import_module("moe_analysis.studies.optimizers.measure"), "train_all", train_all)
    return seen


def pair() -> list:
    return [
        trained(ma.TrainConfig(adapter=MIXTURE, lr=0.1, eval_every=8, seed=seed, name=name))
        for name in ("RSGD", "gRSGD")
        for seed in (0, 1)
    ]


def test_both_rules_run_at_a_quarter_and_the_plain_one_where_its_steps_are_as_long(asked):
    both, matches = bench.on_backbone(pair(), Path("runs"), workers=1)
    assert [(config.name, config.seed, config.lr) for config in asked] == [
        *(("RSGD, low lr", seed, 0.025) for seed in (0, 1)),
        *(("gRSGD, low lr", seed, 0.025) for seed in (0, 1)),
        *(("RSGD, matched", seed, 0.2) for seed in (0, 1)),
        *(("RSGD, low lr matched", seed, 0.05) for seed in (0, 1)),
    ]
    assert not any(config.eval_every for config in asked) and len(both) == 12
    assert matches["factor"].tolist() == pytest.approx([2, 2, 1, 1])
    assert {name for names in bench.CONDITIONS.values() for name in names} <= {run.config.name for run in both}


def test_a_missing_method_is_named_before_anything_is_trained(asked):
    with pytest.raises(ValueError, match="no run of 'gRSGD'; runs has 'RSGD'"):
        measure_confound(pair()[:2], RegressionConfig(), workers=1)
    with pytest.raises(ValueError, match="runs is empty"):
        measure_confound([], RegressionConfig(), workers=1)
    assert asked == []


def test_the_runs_of_the_control_differ_in_nothing_but_the_gates_exponent(asked):
    found = measure_control(pair(), workers=1)
    plain, rescaled = (config.to_dict() for config in asked)
    assert (plain["adapter"].pop("gate_backward_power"), rescaled["adapter"].pop("gate_backward_power")) == (1.0, 0.5)
    assert (plain.pop("name"), rescaled.pop("name")) == ("RSGD, k = 1", "gRSGD, k = 1")
    assert plain == rescaled and plain["adapter"]["top_k"] == 1
    assert found.losses["method"].tolist() == ["RSGD, k = 1", "gRSGD, k = 1"]


def test_runs_of_other_methods_are_refused_by_the_names_that_are_known():
    run = SimpleNamespace(config=SimpleNamespace(name="T-REX", seed=0))
    with pytest.raises(ValueError, match="runs has no run of AdamW, RAdamW, RSGD, SGD, gAdamW"):
        measure([run])


@pytest.mark.parametrize(
    "methods, title",
    [(["RSGD", "gRSGD"], "two optimizers"), (["SGD"], "one optimizer"), (["SGD"] * 2, "one optimizer")],
)
def test_the_title_counts_the_methods_that_were_run(methods, title):
    empty = pd.DataFrame()
    assert Optimizers(pd.DataFrame({"method": methods}), empty, empty).title == f"gR Fig. 3: {title}"
