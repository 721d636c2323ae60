"""What notebook 05 hands from cell to cell: runs of S'MoRE, the trees their tokens take, and one tree."""

from __future__ import annotations

from typing import Any

import pandas as pd

import moe_analysis as ma
from moe_analysis.studies.flexibility.measure import enumerated_outputs
from moe_analysis.studies.trees import structures as of
from moe_analysis.studies.trees.residual_tree import residual_trees
from moe_analysis.theory.flexibility import flexibility_table
from moe_analysis.training.recorders.routing import layer_batches
from moe_analysis.training.recorders.tree_recorder import trees_of_runs

from .models import config, test, trained
from .registry import prepared

SIZES = {
    "num_experts": [3, 3],
    "fanout": [2, 2],
    "r": 2,
    "key_dim": 4,
    "down_dim": 4,
    "target_modules": r".*layers\.[23]\.mlp\.down_proj",
}


@prepared
def tree_runs() -> list[ma.Run]:
    """Two runs of S'MoRE (pools of three experts, fanout two, two layers), seeds 0 and 1, with a record of trees."""
    smore = ma.SmoreConfig(**SIZES)
    return trained(*(config("S'MoRE", seed, adapter=smore, record_trees_every=1) for seed in (0, 1)))


@prepared
def routed() -> list[Any]:
    """`trees_of_runs` of `tree_runs` on the texts of `test`: (run, {module: codes of trees}, tokens) of each."""
    return trees_of_runs(tree_runs(), test())


@prepared
def training() -> pd.DataFrame:
    """`over_training` of `tree_runs`."""
    return of.over_training(tree_runs())


@prepared
def seen() -> list[dict[str, Any]]:
    """Of each of `tree_runs`, {module: LayerBatch} on the first text of `test`."""
    return [layer_batches(run.model(), run.tokenizer, test().head(1), max_length=96) for run in tree_runs()]


@prepared
def trees() -> pd.DataFrame:
    """`residual_trees` of `tree_runs` and `seen`, two tokens in every module."""
    return residual_trees(tree_runs(), seen(), tokens=2)


@prepared
def closed_forms() -> pd.DataFrame:
    """`flexibility_table` of pools of three experts and fanout two, for one and two layers."""
    return flexibility_table(3, 2, (1, 2), systems=["MoMOR", "S'MoRE*", "S'MoRE"])


@prepared
def outputs() -> pd.DataFrame:
    """`enumerated_outputs` of the same pools."""
    return enumerated_outputs(3, 2, (1, 2))
