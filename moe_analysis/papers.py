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
        "trex_fig1",
        "T-REX Fig. 1",
        "I + J vectors make I·J experts, with 30–40 % fewer trainable parameters than other LoRA-based methods",
        study="subspace.measure_systems",
        notebook="03_subspace_rank",
    ),
    Item(
        "trex_fig2",
        "T-REX Fig. 2",
        "intuition makes the paths of the router weights smoother",
        study="router_paths.measure",
        notebook="02_router_trajectories",
    ),
    Item(
        "trex_fig4",
        "T-REX Fig. 4",
        "semantic clusters of the prompts do not align with predefined task groups",
        study="semantic_map.measure",
        notebook="01_semantic_clusters",
    ),
    Item(
        "trex_fig4_contents",
        "T-REX Fig. 4",
        "which data sets and groups share a semantic cluster",
        study="semantic_map.measure_contents",
        notebook="01_semantic_clusters",
    ),
    Item(
        "trex_lemma41",
        "T-REX Lemma 4.1",
        "updates of I + J vectors span rank(A)·rank(B) dimensions, I·J at full rank",
        study="subspace.measure_span",
        notebook="03_subspace_rank",
    ),
    Item(
        "trex_lemma41_trained",
        "T-REX Lemma 4.1, trained",
        "how many of the reachable directions trained models use",
        study="subspace.measure_used",
        notebook="03_subspace_rank",
    ),
    Item(
        "trex_theorem42",
        "T-REX Theorem 4.2",
        "approximation error bound with rank-1 experts; only the title is public, so this is our reading",
        study="subspace.measure_approximation",
        notebook="03_subspace_rank",
    ),
    Item(
        "trex_theorem43",
        "T-REX Theorem 4.3",
        "expert combination with intuition guidance; only the title is public, so this is our reading",
        study="subspace.measure_intuition",
        notebook="03_subspace_rank",
    ),
)


def __getattr__(name: str) -> Any:
    for item in ITEMS:
        if item.id == name and item.study:
            return item.measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
