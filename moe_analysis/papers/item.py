"""One row of the index: an item of a paper, the study that answers it, and how the two settings differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Item:
    """One figure, table, statement or algorithm.

    Args:
        id: `<paper>_<item>`; the name of its files and of the function of `papers` that makes it.
        source: paper and item; "Beyond …" if no paper has it.
        says: what it says, or what our item asks, in one sentence.
        study: `<folder>.<function>` in `moe_analysis.studies`; empty if no study answers it.
        notebook: the stem of the notebook that shows it.
        checks: the patterns of its checks in `theory.verify`.
        part_of: the item whose result contains it.
        reason: why it is not run here; empty if it is.
        campaigns: the files of long studies whose stored results its study reads.
        paper_setting: the paper's model, data, sizes and steps; "not known to us" if we do not know them.
        follows: what our verdict says about the paper's claim, and what it does not say.
    """

    id: str
    source: str
    says: str
    study: str = ""
    notebook: str = ""
    checks: str = ""
    part_of: str = ""
    reason: str = ""
    campaigns: tuple[str, ...] = ()
    paper_setting: str = ""
    follows: str = ""

    @property
    def title(self) -> str:
        return f"{self.source}: {self.says}"

    @property
    def measure(self) -> Callable[..., Any]:
        """The function that makes its result."""
        folder, _, name = self.study.rpartition(".")
        return getattr(import_module(f"..studies.{folder}", __package__), name)


MAP, PATHS, SPAN, GEOMETRY, TREES, COST, SYSTEMS, BUDGETS, ROUTING, OWN, PRETRAINED = (
    "01_semantic_clusters",
    "02_router_trajectories",
    "03_subspace_rank",
    "04_riemannian",
    "05_structural_flexibility",
    "06_smore_cost",
    "07_generalization",
    "08_efficiency",
    "09_routing_anatomy",
    "10_bring_your_own",
    "11_pretrained",
)
UNKNOWN = "not known to us"
STATEMENT = "a statement: it has no model, data or steps"
EXACT = "The statement itself, as far as a program can check it: for these sizes and seeds, on the real modules."
NONE = "none of the papers has it"
UNSEEN = (
    "we have not seen its numbers or its setting. `ma.load_backbone` loads any causal language model and `ma.train` "
    "takes any suite of yours, so it can be run on a GPU when they are known"
)
NOTHING = "Nothing: it was not run."
TUNING = (
    "Follows: whether a system looks worse only because its rate was not right. Does not follow: a claim of any paper."
)
