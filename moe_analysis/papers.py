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
        "gr_fig1",
        "gR Fig. 1",
        "the smaller the gate, the more an expert's manifold bends and the less a step moves it",
        study="gate_geometry.measure",
        notebook="04_riemannian",
    ),
    Item(
        "gr_fig2",
        "gR Fig. 2",
        "gate rescaling lowers the losses of RSGD and raises its accuracy",
        study="optimizers.measure_rescaling",
        notebook="04_riemannian",
    ),
    Item(
        "gr_fig3",
        "gR Fig. 3",
        "preconditioning and gate rescaling each lower the training loss",
        study="optimizers.measure",
        notebook="04_riemannian",
    ),
    Item(
        "gr_exponent",
        "beyond gR",
        "which exponent of the gate is best, and when",
        study="optimizers.measure_exponent",
        notebook="04_riemannian",
    ),
    Item(
        "gr_confound",
        "beyond gR",
        "whether gate rescaling is more than a larger learning rate",
        study="optimizers.measure_confound",
        notebook="04_riemannian",
    ),
    Item(
        "gr_anatomy",
        "beyond gR",
        "what gate rescaling does to conditioning, likeness and load of the experts",
        study="experts.measure",
        notebook="04_riemannian",
    ),
    Item(
        "gr_control",
        "gR section 2.3",
        "with one active expert per token both rules are the same",
        study="optimizers.measure_control",
        notebook="04_riemannian",
    ),
)


def __getattr__(name: str) -> Any:
    for item in ITEMS:
        if item.id == name and item.study:
            return item.measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
