"""The index: every item of the three papers, the study that answers it, and the functions that make its figure.

ma.papers.trex_fig2(runs)     # the result of one item: an object that plots, judges and saves itself
ma.papers.table()             # every item: source, what it says, study, notebook, why not, verdict as last measured
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cards.whose import SHORT, whose

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Item:
    """One figure, table, statement or algorithm.

    Args:
        id: `<paper>_<item>`; the name of its files and of the function here that makes it.
        source: paper and item; "Beyond …" where no paper has it.
        says: what it says, or what ours asks, in one sentence.
        study: `<folder>.<function>` in `moe_analysis.studies`; empty where no study answers it.
        notebook: the stem of the notebook that shows it.
        checks: the patterns of its checks in `theory.verify`.
        part_of: the item whose result has it too.
        reason: why it is not run here, where it is not.
    """

    id: str
    source: str
    says: str
    study: str = ""
    notebook: str = ""
    checks: str = ""
    part_of: str = ""
    reason: str = ""

    @property
    def title(self) -> str:
        return f"{self.source}: {self.says}"

    @property
    def measure(self) -> Callable[..., Any]:
        """The function that makes its result."""
        folder, _, name = self.study.rpartition(".")
        return getattr(import_module(f"{__package__}.studies.{folder}"), name)


MAP, PATHS, SPAN, GEOMETRY, TREES, COST, SYSTEMS, BUDGETS, ROUTING, OWN = (
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
)
LARGE = "fine-tunes language models of 1 to 13 billion parameters, which no CPU here can"
UNSEEN = "its numbers are not in our reference; "

TREX = (
    Item(
        "trex_fig1",
        "T-REX Fig. 1",
        "I down and J up vectors make I·J experts of rank 1",
        "subspace.measure_systems",
        SPAN,
    ),
    Item(
        "trex_fig2", "T-REX Fig. 2", "intuition smooths the paths of the router weights", "router_paths.measure", PATHS
    ),
    Item("trex_fig3", "T-REX Fig. 3", "T-REX is ahead out of distribution", "systems.measure", SYSTEMS),
    Item("trex_fig4", "T-REX Fig. 4", "semantic clusters do not follow the task groups", "semantic_map.measure", MAP),
    Item(
        "trex_fig4_contents",
        "T-REX Fig. 4",
        "what each cluster holds",
        "semantic_map.measure_contents",
        MAP,
        part_of="trex_fig4",
    ),
    Item(
        "trex_lemma41",
        "T-REX Lemma 4.1",
        "the updates span rank(A)·rank(B) dimensions, I·J at full rank",
        "subspace.measure_span",
        SPAN,
        "trex_lemma_4_1_*",
    ),
    Item(
        "trex_lemma41_trained",
        "T-REX Lemma 4.1, on trained models",
        "how many of these dimensions trained models use",
        "subspace.measure_used",
        SPAN,
    ),
    Item(
        "trex_theorem42",
        "T-REX Theorem 4.2, our reading",
        "the error of rank-1 experts on a family of targets",
        "subspace.measure_approximation",
        SPAN,
        "trex_theorem_4_2_*",
    ),
    Item(
        "trex_theorem43",
        "T-REX Theorem 4.3, our reading",
        "mixing router and prior is never worse than either",
        "subspace.measure_intuition",
        SPAN,
        "trex_theorem_4_3_*",
    ),
    Item(
        "trex_algorithm",
        "T-REX Algorithm",
        "embed, cluster, score, train with router and intuition",
        notebook=PATHS,
        reason="`ma.train` with `ma.TRexConfig` is the algorithm; held against the authors' code in tests/golden",
    ),
    *(
        Item(f"trex_table{n}", f"T-REX Table {n}", "results of fine-tuning", reason=UNSEEN + LARGE)
        for n in range(1, 12)
    ),
)
GR = (
    Item(
        "gr_fig1", "gR Fig. 1", "a small gate curves the expert's manifold", "gate_geometry.measure", GEOMETRY, "gr_*"
    ),
    Item("gr_fig2", "gR Fig. 2", "gRSGD learns faster than RSGD", "optimizers.measure_rescaling", GEOMETRY),
    Item(
        "gr_fig3", "gR Fig. 3", "rescaled and preconditioned SGD lowers the loss most", "optimizers.measure", GEOMETRY
    ),
    Item(
        "gr_algorithm",
        "gR Algorithm",
        "preconditioned and gate-rescaled steps",
        reason="`ma.optim.RiemannianSGD` and `RiemannianAdamW`; held against the authors' code in tests/golden",
    ),
    *(Item(f"gr_table{n}", f"gR Table {n}", "results of fine-tuning", reason=UNSEEN + LARGE) for n in range(1, 11)),
    Item(
        "gr_exponent",
        "Beyond gR",
        "which exponent of the gate is best at which entropy",
        "optimizers.measure_exponent",
        GEOMETRY,
    ),
    Item(
        "gr_confound",
        "Beyond gR",
        "is gate rescaling more than a larger learning rate",
        "optimizers.measure_confound",
        GEOMETRY,
    ),
    Item(
        "gr_control", "Beyond gR", "with one active expert both rules coincide", "optimizers.measure_control", GEOMETRY
    ),
    Item("gr_anatomy", "Beyond gR", "conditioning, likeness and load of the experts", "experts.measure", GEOMETRY),
)
SMORE = (
    Item("smore_fig1", "S'MoRE Fig. 1", "propagation and routing", "cost.measure_tree", COST),
    Item("smore_fig2", "S'MoRE Fig. 2", "structural flexibility against layers", "flexibility.measure", TREES),
    Item(
        "smore_fig3",
        "S'MoRE Fig. 3",
        "three trees of the same experts",
        "flexibility.measure_trees",
        TREES,
        "smore_fig3_*",
    ),
    Item("smore_fig4", "S'MoRE Fig. 4", "accuracy against trainable parameters", "budgets.measure", BUDGETS),
    Item("smore_fig5", "S'MoRE Fig. 5", "the router costs at most 26 % of the experts", "cost.measure_routers", COST),
    Item("smore_prop31", "S'MoRE Prop. 3.1", "one layer expresses any mixture", checks="smore_prop31_*"),
    Item("smore_prop32", "S'MoRE Prop. 3.2", "layers express any multi-order mixture", checks="smore_prop32_*"),
    Item("smore_thm33", "S'MoRE Thm 3.3", "a bound for MoMOR", checks="smore_thm33_*", part_of="smore_fig2"),
    Item("smore_thm34", "S'MoRE Thm 3.4", "S'MoRE tells all trees apart", checks="smore_thm34_*", part_of="smore_fig2"),
    Item("smore_thm34_layers", "S'MoRE Thm 3.4", "layers of unequal sizes", checks="smore_heterogeneous_layers"),
    Item(
        "smore_cor35", "S'MoRE Cor. 3.5", "activation on the child only", checks="smore_cor35_*", part_of="smore_fig2"
    ),
    Item("smore_cor36", "S'MoRE Cor. 3.6", "one pool for all layers", checks="smore_cor36_*"),
    Item("smore_propc1", "S'MoRE Prop. C.1", "the construction of Prop. 3.1", checks="smore_prop31_*"),
    Item("smore_propc2", "S'MoRE Prop. C.2", "the construction of Prop. 3.2", checks="smore_prop32_coefficients"),
    Item("smore_lemmac8", "S'MoRE Lemma C.8", "an injective code of multisets", checks="smore_lemma_c8_*"),
    Item("smore_parameters", "S'MoRE cost of parameters", "2·d·d_L + Δ", checks="smore_cost_parameters"),
    Item("smore_operations", "S'MoRE cost of operations", "Δ' beside 2·d·d_L", checks="smore_cost_[fg]*"),
    Item("smore_active", "S'MoRE active experts", "min(s, F) distinct experts", checks="smore_cost_active_*"),
    Item("smore_collapse", "S'MoRE initialization", "starts as one layer", checks="smore_collapse_to_one_layer"),
    Item("smore_table1", "S'MoRE Table 1", "overhead of parameters", part_of="smore_tables"),
    Item(
        "smore_table2",
        "S'MoRE Table 2",
        "S'MoRE is ahead of LoRA, HydraLoRA, MixLoRA",
        reason="campaigns/smollm2_table2.yaml runs it on SmolLM2-135M; it takes hours",
    ),
    Item("smore_table3", "S'MoRE Table 3", "GSM8K and HumanEval on Llama-3-8B", reason=LARGE),
    Item("smore_table4", "S'MoRE Table 4", "Gemma-2-9B", reason=LARGE),
    Item("smore_table5", "S'MoRE Table 5", "more layers at one budget", "budgets.measure_layers", BUDGETS),
    Item("smore_table6", "S'MoRE Table 6", "overhead of operations", part_of="smore_tables"),
    Item(
        "smore_table7",
        "S'MoRE Table 7",
        "a step takes 1.15 to 1.33 times MixLoRA's",
        "budgets.measure_times",
        BUDGETS,
    ),
    Item(
        "smore_tables",
        "S'MoRE Tables 1 and 6",
        "overheads of parameters and operations",
        "cost.measure_tables",
        COST,
    ),
    Item("smore_cost_adapters", "Beyond S'MoRE", "what every adapter costs", "cost.measure_adapters", COST),
    Item("smore_structures", "Beyond S'MoRE", "the trees that a trained model uses", "trees.measure", TREES),
    Item("smore_tree", "Beyond S'MoRE", "the residual tree of one token", "trees.measure_tree", TREES),
)
BEYOND = (
    Item(
        "comparison_tasks",
        "Beyond the papers",
        "nine systems task by task",
        "systems.measure_tasks",
        SYSTEMS,
        part_of="trex_fig3",
    ),
    Item(
        "systems_rates",
        "Beyond the papers",
        "every system over its grid of learning rates",
        "systems.measure_table",
        SYSTEMS,
        part_of="trex_fig3",
    ),
    Item(
        "routing_information",
        "Beyond the papers",
        "what experts know, and their load",
        "routing.measure",
        ROUTING,
    ),
    Item("routing_experts", "Beyond the papers", "experts and data sets", "routing.measure_experts", ROUTING),
    Item("routing_agreement", "Beyond the papers", "agreement of routers", "routing.measure_agreement", ROUTING),
    Item("routing_tokens", "Beyond the papers", "ten sentences, token by token", "routing.sentences", ROUTING),
    Item("own_adapter", "Beyond the papers", "an adapter of your own, task by task", "systems.measure_adapter", OWN),
)
ITEMS: tuple[Item, ...] = (*TREX, *GR, *SMORE, *BEYOND)


def table(folder: str | Path | None = None) -> pd.DataFrame:
    """Every item of the three papers and of ours, in their order.

    Args:
        folder: of the figures whose verdicts are shown; None is the shipped ones, and where there are none those that
            were computed here.

    Returns:
        One row per item: id, source, says, study, notebook, checks, part_of, reason, verdict. The verdict is as last
        measured and counted, "2 reproduced, 1 undecided; ours: 1 supported"; empty where nothing was measured. A
        statement has those of its checks, which `moe-analysis verify --save FOLDER` stores.

    Example:
        >>> index = table()
        >>> index.set_index("id").loc["trex_fig2", "study"]
        'router_paths.measure'
    """
    import pandas as pd

    from .places import computed_figures, figures_home

    place = Path(folder or next(iter(places_with_records(figures_home(), computed_figures())), figures_home()))
    return pd.DataFrame([{**asdict(item), "verdict": verdict_of(item, place)} for item in ITEMS])


def places_with_records(*folders: Path) -> list[Path]:
    return [folder for folder in folders if next(folder.glob("*.json"), None)]


def verdict_of(item: Item, folder: Path) -> str:
    """The counted verdicts of an item in words: of the paper's claims, then of a reproduction's, then of ours."""
    return "; ".join(
        before + ", ".join(f"{count} {word}" for word, count in counts.items())
        for before, counts in verdicts_of(item, folder).items()
    )


def verdicts_of(item: Item, folder: Path) -> dict[str, Counter[str]]:
    """The counted verdicts in an item's record, and in the stored checks, by a value of `cards.whose.SHORT`."""
    shown = item.id if item.study else item.part_of if not item.checks else ""
    claims = [(claim.get("kind"), claim) for claim in stored(folder / f"{shown}.json", "claims")]
    if item.checks:
        from fnmatch import fnmatchcase

        import pandas as pd

        checked = folder / "verify.csv"
        rows = pd.read_csv(checked).to_dict("records") if checked.is_file() else []
        claims += [
            ("exact", {"claim": row["statement"], **row}) for row in rows if fnmatchcase(row["name"], item.checks)
        ]
    told: dict[str, Counter[str]] = {before: Counter() for before in SHORT.values()}
    for kind, claim in claims:
        told[SHORT[whose(kind, claim["source"], claim["claim"])]][claim["verdict"]] += 1
    return {before: counts for before, counts in told.items() if counts}


def stored(path: Path, field: str) -> list[Any]:
    return json.loads(path.read_text(encoding="utf-8"))[field] if path.is_file() else []


def __getattr__(name: str) -> Any:
    for item in ITEMS:
        if item.id == name and item.study:
            return item.measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; `table()` lists the items")


def __dir__() -> list[str]:
    return ["ITEMS", "Item", "table", *(item.id for item in ITEMS if item.study)]
