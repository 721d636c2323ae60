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
        "trex_fig3",
        "T-REX Fig. 3",
        "T-REX is more accurate out of distribution than LoRA, LoRA-MoE and SiRA",
        study="systems.measure",
        notebook="07_generalization",
    ),
    Item(
        "comparison_tasks",
        "beyond the papers",
        "systems of one budget against each other, task by task",
        study="systems.measure_tasks",
        notebook="07_generalization",
    ),
    Item(
        "smore_fig4",
        "S'MoRE Fig. 4 and Table 2",
        "S'MoRE is more accurate than LoRA, MixLoRA and HydraLoRA, with every gate",
        study="budgets.measure",
        notebook="08_efficiency",
    ),
    Item(
        "smore_table5",
        "S'MoRE Table 5",
        "more layers are more accurate at equal budget",
        study="budgets.measure_layers",
        notebook="08_efficiency",
    ),
    Item(
        "smore_table7",
        "S'MoRE Table 7",
        "a training step takes 1.15 to 1.33 times as long as one of MixLoRA",
        study="budgets.measure_times",
        notebook="08_efficiency",
    ),
    Item(
        "routing_information",
        "beyond the papers",
        "what experts know of data sets and meaning, and how they are loaded",
        study="routing.measure",
        notebook="09_routing_anatomy",
    ),
    Item(
        "routing_experts",
        "beyond the papers",
        "which data sets use which experts, and whether intuition makes routing semantic",
        study="routing.measure_experts",
        notebook="09_routing_anatomy",
    ),
    Item(
        "routing_agreement",
        "beyond the papers",
        "whether routers of other layers and seeds find the same experts",
        study="routing.measure_agreement",
        notebook="09_routing_anatomy",
    ),
    Item(
        "own_adapter",
        "beyond the papers",
        "an adapter of your own beside LoRA and T-REX",
        study="systems.measure_adapter",
        notebook="10_bring_your_own",
    ),
)


def __getattr__(name: str) -> Any:
    for item in ITEMS:
        if item.id == name and item.study:
            return item.measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
