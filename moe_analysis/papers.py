"""The index: every item of the three papers, the study that answers it, and the functions that make its figure.

ma.papers.trex_fig2(runs)     # the result of one item: an object that plots, judges and saves itself
ma.papers.table()             # every item with its study, notebook and last verdict
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Item:
    """One figure, table, statement or algorithm.

    Args:
        id: `<paper>_<item>`; the name of its files and of the function here that makes it.
        source: paper and item.
        says: what it says, in one sentence.
        study: `<folder>.<function>` in `moe_analysis.studies`; empty where no study answers it.
        notebook: the stem of the notebook that shows it.
        reason: why it cannot be run here, where it cannot.
    """

    id: str
    source: str
    says: str
    study: str = ""
    notebook: str = ""
    reason: str = ""

    @property
    def measure(self) -> Callable[..., Any]:
        """The function that makes its result."""
        folder, _, name = self.study.rpartition(".")
        return getattr(import_module(f"{__package__}.studies.{folder}"), name)


ITEMS = (
    Item(
        "trex_fig2",
        "T-REX Fig. 2",
        "intuition makes the paths of the router weights smoother",
        study="router_paths.measure",
        notebook="02_router_trajectories",
    ),
    Item(
        "smore_fig1",
        "S'MoRE Fig. 1",
        "residuals travel up a tree that the router chooses from the root down",
        study="cost.measure_tree",
        notebook="06_smore_cost",
    ),
    Item(
        "smore_fig2",
        "S'MoRE Fig. 2",
        "routing of residuals in trees can make far more different outputs than routing of independent experts",
        study="flexibility.measure",
        notebook="05_structural_flexibility",
    ),
    Item(
        "smore_fig3",
        "S'MoRE Fig. 3",
        "three trees of the same experts are one output for MoMOR, two for S'MoRE* and three for S'MoRE",
        study="flexibility.measure_trees",
        notebook="05_structural_flexibility",
    ),
    Item(
        "smore_fig5",
        "S'MoRE Fig. 5",
        "the router costs at most 26 % of the experts, and more for small ranks",
        study="cost.measure_routers",
        notebook="06_smore_cost",
    ),
    Item(
        "smore_tables",
        "S'MoRE Tables 1 and 6",
        "the layers add few parameters and operations to the down factors and the projection",
        study="cost.measure_tables",
        notebook="06_smore_cost",
    ),
    Item(
        "smore_cost_adapters",
        "S'MoRE, cost",
        "the formulas of parameters and operations, for every adapter",
        study="cost.measure_adapters",
        notebook="06_smore_cost",
    ),
    Item(
        "smore_structures",
        "beyond S'MoRE",
        "which of its trees a trained S'MoRE uses, and what they tell of the task",
        study="trees.measure",
        notebook="05_structural_flexibility",
    ),
    Item(
        "smore_tree",
        "beyond S'MoRE",
        "which experts stand in one token's tree, and what they add",
        study="trees.measure_tree",
        notebook="05_structural_flexibility",
    ),
)


def __getattr__(name: str) -> Any:
    for item in ITEMS:
        if item.id == name and item.study:
            return item.measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
