"""What notebooks 02, 03 and 09 hand from cell to cell: paths of routers, and the gates of a few texts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moe_analysis.peft_bridge import adapter_modules
from moe_analysis.studies import convergence
from moe_analysis.studies.router_paths import paths as paths_of
from moe_analysis.studies.router_paths import smoothness
from moe_analysis.studies.routing import specialization, tokens
from moe_analysis.studies.subspace import used as used_in
from moe_analysis.training.recorders.routing import gates_of_runs

from .models import model, runs, test, tokenizer
from .registry import prepared


@prepared
def module() -> str:
    """The name of the adapted layer that the examples look at."""
    from moe_analysis.studies.records import shared_modules

    return shared_modules(runs())[-1]


@prepared
def axes() -> Any:
    """`path_axes` of `runs` at `module`."""
    return paths_of.path_axes(runs(), module())


@prepared
def paths() -> pd.DataFrame:
    """`router_paths` of `runs` at `module`."""
    return paths_of.router_paths(runs(), module(), axes())


@prepared
def smooth() -> pd.DataFrame:
    """`smoothness` of `runs`: one row per method, seed and module."""
    return smoothness.smoothness(runs())


@prepared
def curves() -> pd.DataFrame:
    """`loss_curves` of `runs`."""
    return convergence.loss_curves(runs(), window=3)


@prepared
def recorded() -> list[Any]:
    """`gates_of_runs` of `runs` on the twelve texts of `test`: (run, {module: gates}, tokens) of each."""
    return gates_of_runs(runs(), test())


@prepared
def gates() -> list[Any]:
    """(run, {module: gates}) of each of `recorded`."""
    return [(one, by_module) for one, by_module, _ in recorded()]


@prepared
def adapters() -> list[Any]:
    """(run, {module: adapter}) of each of `runs`."""
    return [(one, adapter_modules(one.model())) for one in runs()]


@prepared
def used() -> pd.DataFrame:
    """`used_by_runs` of `gates`: the dimension of the routings in each layer."""
    return used_in.used_by_runs(gates())


@prepared
def reached() -> pd.DataFrame:
    """`reached_by_runs` of `adapters`: the dimension that the factors can reach."""
    return used_in.reached_by_runs(adapters())


@prepared
def energy() -> pd.DataFrame:
    """`energy_by_runs` of `gates`."""
    return used_in.energy_by_runs(gates())


@prepared
def labels() -> dict[str, Any]:
    """Two labels of each text of `test`: its data set and its group, which stands for a cluster here."""
    return {"dataset": test()["dataset"], "cluster": test()["group"]}


@prepared
def shares() -> pd.DataFrame:
    """`expert_shares` of `recorded` at `module` and seed 0: one router of each method."""
    found = specialization.expert_shares(recorded())
    return found[(found["module"] == module()) & (found["seed"] == 0)]


@prepared
def sentence() -> Any:
    """A text of the suite through the model with adapters of four experts."""
    return tokens(model(), "red or blue?", tokenizer())
