"""What notebook 04 hands from cell to cell: runs of two optimizers, one layer seen from near, the regression bench."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

import moe_analysis as ma
from moe_analysis.studies.optimizers import curves as of
from moe_analysis.studies.optimizers import exponent
from moe_analysis.studies.optimizers.regression import RegressionTask
from moe_analysis.studies.optimizers.regression_grid import RegressionConfig, grid, match_steps, train_grid
from moe_analysis.training.recorders.routing import layer_batches

from .models import TARGETS, config, test, trained
from .registry import folder, prepared

TUNING = (8, 9)


@prepared
def pair() -> list[ma.Run]:
    """Four runs of four steps: RSGD and gRSGD, each at the seeds 0 and 1, with a record of the experts."""
    mixture = ma.MoeLoraConfig(num_experts=4, top_k=2, r=2, target_modules=TARGETS)
    rescaled = replace(mixture, gate_backward_power=0.5)
    fields = {"optimizer": "riemannian_sgd", "lr": 0.02, "eval_every": 4, "record_experts_every": 1}
    return trained(
        *(
            config(name, seed, adapter=adapter, **fields)
            for name, adapter in (("RSGD", mixture), ("gRSGD", rescaled))
            for seed in (0, 1)
        )
    )


@prepared
def outcome() -> pd.DataFrame:
    """`outcomes` of `pair`."""
    return of.outcomes(pair())


@prepared
def progress() -> pd.DataFrame:
    """`progress_curves` of `pair`."""
    return of.progress_curves(pair(), window=3)


@prepared
def layers() -> dict[str, Any]:
    """{module: LayerBatch} of the last two adapted layers of the first of `pair`, on the texts of `test`."""
    found = layer_batches(pair()[0].model(), pair()[0].tokenizer, test().head(2), max_length=96)
    return {name: found[name] for name in list(found)[-2:]}


@prepared
def layer() -> Any:
    """The last of `layers`: an adapter, the inputs it saw and the loss gradient at its output."""
    return list(layers().values())[-1]


@prepared
def bench() -> RegressionConfig:
    """A regression bench of twenty steps and two seeds, which trains in a tenth of a second."""
    task = RegressionTask(in_features=8, out_features=8, num_experts=4, r=2, clusters=4, samples=256, validation=64)
    return RegressionConfig(task, top_k=2, lr=0.04, steps=20, seeds=(0, 1))


@prepared
def by_k() -> pd.DataFrame:
    """`run_rows` of `bench` with one and two active experts, p = 1 and p = 1/2."""
    return exponent.run_rows(train_grid(grid(bench(), top_k=(1, 2), power=(1.0, 0.5)), folder() / "bench", 1))


@prepared
def powers() -> pd.DataFrame:
    """`run_rows` of `bench` at three exponents and three temperatures."""
    points = grid(bench(), power=(1.0, 0.5, 0.0), temperature=(0.1, 0.3, 1.0))
    return exponent.run_rows(train_grid(points, folder() / "bench", 1))


@prepared
def tried() -> pd.DataFrame:
    """`run_rows` of `bench` at four learning rates, p = 1 and p = 1/2, with the seeds 8 and 9 to tune on."""
    rates = [0.02 * 3**power for power in range(4)]
    points = grid(bench(), power=(1.0, 0.5), lr=rates, seeds=((0, 1), TUNING))
    return exponent.run_rows(train_grid(points, folder() / "bench", 1))


@prepared
def matched() -> pd.DataFrame:
    """`run_rows` of `match_steps`: the plain method at steps as long as the rescaled one's, at lr = 0.02."""
    found = match_steps(replace(bench(), power=0.5, lr=0.02), replace(bench(), lr=0.02), folder() / "bench")
    return exponent.run_rows(found)
