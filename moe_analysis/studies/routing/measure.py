"""From runs to the behavior of their routers: what gates reveal, which data sets use which experts, agreement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ...peft_bridge import adapter_modules
from ...tasks.clusters import cluster
from ...tasks.embed import embed
from ...training.recorders.routing import gates_of_runs
from ..asked import Runs, asked
from ..prior import router_alone
from ..records import check_runs, first_prompts, method_of, shared
from ..result import Result
from .agreement import between_layers, between_seeds
from .load import expert_loads, load_summary
from .specialization import Recorded, expert_shares, specialization

PRIOR, CONTROL, ALONE = "T-REX", "mix-and-match", "T-REX, router alone"
SEEDS, CLUSTERS = 3, 16


@dataclass(frozen=True, eq=False)
class Gates:
    """The gates of some test rows in trained models and in the same models before the first step, made by `record`.

    Args:
        runs: the runs whose routers were recorded.
        test: the rows, as `load_suite` returns them.
        clusters: (rows,), the semantic cluster of each prompt.
        trained, untrained: (run, {module: gates (tokens, experts)}, tokens) of every run.
        alone: the same for T-REX, without the prior's share.
    """

    runs: tuple[Any, ...]
    test: pd.DataFrame
    clusters: np.ndarray
    trained: Sequence[Recorded]
    untrained: Sequence[Recorded]
    alone: Sequence[Recorded]

    @property
    def labels(self) -> dict[str, Any]:
        return {"dataset": self.test["dataset"], "cluster": self.clusters}

    def both(self, measured: Callable[..., pd.DataFrame], *options: Any) -> pd.DataFrame:
        """One table of the trained models, followed by T-REX without the prior's share, if there is a T-REX."""
        alone = [measured(self.alone, *options, method=ALONE)] if self.alone else []
        return pd.concat([measured(self.trained, *options), *alone])


@dataclass(frozen=True, eq=False)
class RoutingInformation(Result):
    """What gates reveal about a text, and how evenly they load the experts.

    Args:
        trained, untrained: as `specialization` returns them, after training and before.
        loads: as `load_summary` returns it.
        expert_loads: as `expert_loads` returns it.
    """

    item = "routing_information"
    title = "Beyond the papers: what experts know, and their load"
    question = "Do experts specialize, by data set or by meaning, and is the load balanced?"
    how_to_read = (
        "(a, b) Information of the chosen experts about a text's label, beyond that for shuffled texts, in percent of "
        "the labels' entropy, on a log axis: means over layers with 95 % intervals over seeds; rings are before "
        "training. (c, d) Normalized entropy of a token's gates and of the load of the experts: means over routers, "
        "lines from the lowest router to the highest."
    )
    how_to_explore = (
        "One row per system, one dot per router and seed. “information, % of labels' entropy”: information of the "
        "chosen experts about a text's label, beyond that for shuffled texts, on a log axis; the menu chooses all gates "
        "or the largest one. “evenness (1: all the same)”: normalized entropy of a token's gates, and of the load of "
        "the experts."
    )
    saved = ("trained", "untrained", "loads")

    trained: pd.DataFrame
    untrained: pd.DataFrame
    loads: pd.DataFrame
    expert_loads: pd.DataFrame

    @property
    def means(self) -> pd.DataFrame:
        """Means over routers and seeds, by label, view and method."""
        measures = ["information", "by_chance", "excess", "normalized"]
        return self.trained.groupby(["label", "view", "method"], sort=False)[measures].mean()

    @property
    def evenness(self) -> pd.DataFrame:
        """Means of the loads by method."""
        return self.loads.groupby("method", sort=False).mean(numeric_only=True).T


@dataclass(frozen=True, eq=False)
class RoutingExperts(Result):
    """Which data sets use which experts, and whether intuition makes routing semantic.

    Args:
        shares: as `expert_shares` returns it, for every router.
        informed: as `specialization` returns it, for T-REX, its router alone and the control, by semantic cluster.
    """

    item = "routing_experts"
    title = "Beyond the papers: experts and data sets"
    question = "Which data sets use which experts more than others do?"
    how_to_read = (
        "One router of each system: rows are data sets and columns are experts, with similar ones next to each "
        "other. Red: the data set uses the expert more often than the average token; blue: less often."
    )
    how_to_explore = (
        "The menu chooses a router: rows are data sets and columns are experts, with similar ones next to each other. "
        "Red: the data set uses the expert more often than the average token; blue: less often."
    )
    drawing = "draw_experts"
    judging = "claims_experts"
    exploring = "explore_experts"

    shares: pd.DataFrame
    informed: pd.DataFrame

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The router in the middle of each system, for the first seed."""
        own = self.shares[self.shares["seed"] == self.shares["seed"].iloc[0]]
        middle = {method: rows["module"].iloc[len(rows) // 2] for method, rows in own.groupby("method", sort=False)}
        return own[own["module"] == own["method"].map(middle)]

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"shares": self.shown}


@dataclass(frozen=True, eq=False)
class RoutingAgreement(Result):
    """Whether routers of different layers, and of models from different seeds, find the same experts.

    Args:
        seeds, layers: as `between_seeds` and `between_layers` return them.
        untrained: as `between_seeds` returns it, before the first step.
    """

    item = "routing_agreement"
    title = "Beyond the papers: agreement of routers"
    question = "Do routers of different layers, and of different seeds, find the same experts?"
    how_to_read = (
        "Experts are matched on some texts and compared on others: 1 is the same choice for every token, 0 is chance. "
        "One row per system: means with 95 % intervals, jackknifed for pairs of seeds; rings are before training. Next "
        "to them are its matrices by pairs of layers and of seeds, where darker is more."
    )
    how_to_explore = (
        "Experts are matched on some texts and compared on others: 1 is the same choice for every token, 0 is chance. "
        "“means”: one row per system with 95 % intervals, jackknifed for pairs of seeds; rings are before training. "
        "“routers of one run” and “seeds”: the menu chooses a system, shown by pairs of layers and of seeds, where "
        "darker is more."
    )
    drawing = "draw_agreement"
    judging = "claims_agreement"

    seeds: pd.DataFrame
    layers: pd.DataFrame
    untrained: pd.DataFrame


@asked()
def record(runs: Runs, prompts: int = 4, seeds: int = SEEDS, clusters: int = CLUSTERS) -> Gates:
    """The gates from which three figures are made.

    Args:
        runs: of one backbone and suite; those without a router are left out.
        prompts: number of test rows per data set.
        seeds: number of seeds per system, the first ones in the order of the runs.
        clusters: number of clusters of the prompts' embeddings, at most half the number of rows.

    Raises:
        ValueError: for runs without a router, or of several suites.

    Example:
        >>> gates = record(runs, prompts=1, seeds=1)
        >>> sorted({run.config.seed for run in gates.runs}), len(gates.test) == len(gates.clusters)
        ([0], True)
    """
    check_runs(runs)
    first = list(dict.fromkeys(run.config.seed for run in runs))[:seeds]
    routed = [run for run in runs if run.config.system != "lora" and run.config.seed in first]
    if not routed:
        raise ValueError("none of the runs has a router; pass runs of a mixture")
    shared(routed, "suite")
    test = first_prompts(routed[0], prompts)
    found = cluster(embed(test["prompt"], model=routed[0].config.embedder), k=min(clusters, len(test) // 2), seed=0)
    trained, untrained = (gates_of_runs(routed, test, trained=stage) for stage in (True, False))
    return Gates(tuple(routed), test, found.labels, trained, untrained, learned(trained, test))


def learned(trained: Sequence[Recorded], test: pd.DataFrame) -> list[Recorded]:
    """The recordings of T-REX without the prior's share."""
    return [
        (run, router_alone(adapter_modules(run.model()), gates, run.intuition(test)[tokens["row"]]), tokens)
        for run, gates, tokens in trained
        if method_of(run) == PRIOR
    ]


@asked()
def measure(runs: Runs | Gates, shuffles: int = 40) -> RoutingInformation:
    """What gates reveal, and how they load the experts.

    Args:
        runs: the runs, or the gates that `record` made from them.
        shuffles: number of shuffles of whole texts, for the information that chance gives.
    """
    gates = gates_of(runs)
    return RoutingInformation(
        trained=gates.both(specialization, gates.labels, shuffles).reset_index(drop=True),
        untrained=specialization(gates.untrained, gates.labels, shuffles),
        loads=gates.both(load_summary),
        expert_loads=expert_loads(gates.trained),
        runs=gates.runs,
    )


@asked()
def measure_experts(runs: Runs | Gates, shuffles: int = 40) -> RoutingExperts:
    """Experts and data sets; arguments as for `measure`."""
    gates = gates_of(runs)
    pair = [one for one in gates.trained if method_of(one[0]) in (PRIOR, CONTROL)]
    label = {"cluster": gates.clusters}
    parts = [specialization(pair, label, permutations=shuffles)] if pair else []
    parts += [specialization(gates.alone, label, permutations=shuffles, method=ALONE)] if gates.alone else []
    return RoutingExperts(
        shares=expert_shares(gates.trained),
        informed=pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["method"]),
        runs=gates.runs,
    )


@asked()
def measure_agreement(runs: Runs | Gates, shuffles: int = 40) -> RoutingAgreement:
    """Agreement of routers after matching their experts; arguments as for `measure`."""
    gates = gates_of(runs)
    return RoutingAgreement(
        seeds=gates.both(between_seeds, shuffles),
        layers=gates.both(between_layers, shuffles),
        untrained=between_seeds(gates.untrained, shuffles),
        runs=gates.runs,
    )


def gates_of(runs: Sequence[Any] | Gates) -> Gates:
    return runs if isinstance(runs, Gates) else record(runs)
