"""From sizes and runs to the results of T-REX Fig. 1, Lemma 4.1 and Theorems 4.2 and 4.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ...backbones import load_backbone
from ...evidence import Claim
from ...peft_bridge import adapter_modules
from ...tasks import baselines, load_suite
from ...theory import checked
from ...theory.router_noise import router_gradient_noise
from ...training.recorders.routing import record_gates
from ..asked import Runs, asked, listed, refused
from ..convergence import accuracy_by_dataset
from ..prior import router_alone
from ..records import first_prompts, method_of, shared
from ..result import Result
from .parameters import backbone_parameters, figure1_parameters, layer_parameters, parameters_of_sizes
from .span import rank_plot_frame, span_by_budget, span_table
from .theorems import approximation_frame, approximation_summary, line_search_frame, noise_against_none
from .used import energy_bands, energy_by_runs, reached_by_runs, used_by_runs, used_summary

ALONE = ", router alone"  # after the name of a method that routes by intuition
BUDGETS = tuple(2**power for power in range(14, 19))


@dataclass(frozen=True, eq=False)
class Systems(Result):
    """LoRA, LoRA-MoE and T-REX side by side, with parameters counted on the real modules.

    Args:
        in_features, out_features: of the drawn layer.
        parameters: of the three drawn systems, as `figure1_parameters` returns them.
        sizes: span and parameters of every size, as `parameters_of_sizes` returns them.
        backbone: adapters on the runs' backbone, as `backbone_parameters` returns them.
        layers: the authors' sizes on typical layers, as `layer_parameters` returns them.
        by_dataset: accuracy of the runs, with that of guessing.
    """

    item = "trex_fig1"
    title = "T-REX Fig. 1: LoRA, LoRA-MoE and T-REX"
    question = "How do I + J vectors make I·J experts, and what does that save?"
    how_to_read = (
        "Each panel is one layer. Below its parts are the trainable parameters of factors and routing, counted on the "
        "modules. In both mixtures, the router has in_features parameters per expert."
    )
    how_to_explore = (
        "One dot per size of a layer: the measured number of dimensions that its updates span, against its trainable "
        "parameters, counted on the module with or without the router. In both mixtures, the router has in_features "
        "parameters per expert."
    )
    drawing, exploring = "draw_systems", ""

    in_features: int
    out_features: int
    parameters: pd.DataFrame
    sizes: pd.DataFrame
    backbone: pd.DataFrame
    layers: pd.DataFrame
    by_dataset: pd.DataFrame

    @property
    def numbers(self) -> Mapping[str, Any]:
        tables = self.tables
        return {name: tables[name] for name in ("parameters", "sizes", "backbone", "layers")} | {
            "accuracy_by_dataset": self.by_dataset.reset_index()
        }


@dataclass(frozen=True, eq=False)
class Span(Result):
    """The dimension that a layer's updates span.

    Args:
        ranks: every I, J and kind of vectors, as `rank_plot_frame` returns them.
        equal_factors: the same vectors in each system, as `span_table` returns them.
        budgets: the largest systems within a budget, as `span_by_budget` returns them.
        sizes: the parameters of each size of independent vectors, as `parameters_of_sizes` returns them.
        checks: the checks of the lemma in `theory`.
    """

    item = "trex_lemma41"
    title = "T-REX Lemma 4.1: the span of the updates"
    question = "How many dimensions do the updates of I + J vectors span?"
    how_to_read = (
        "Spans are measured on the module with whole numbers and exact ranks. (a) Independent vectors span I·J "
        "dimensions. (b) All kinds of vectors; on the line the span is I·J. (c, d) The largest span within a budget, "
        "without and with the router."
    )
    how_to_explore = (
        "Spans are measured on the module with whole numbers and exact ranks. “Lemma 4.1”: all kinds of vectors; for "
        "independent ones the span is I·J. The other panels: the largest span within a budget, without and with the "
        "router."
    )
    drawing = "draw_span"
    saved = ("ranks", "equal_factors", "budgets")

    ranks: pd.DataFrame
    equal_factors: pd.DataFrame
    budgets: pd.DataFrame
    sizes: pd.DataFrame
    checks: Sequence[Claim] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Used(Result):
    """The directions that trained factors can reach, and those that tokens use.

    Args:
        used: one row per method, seed and layer, as `used_by_runs` returns it; "T-REX, router alone" is
            without the share of the prior.
        reached: what the factors can reach, as `reached_by_runs` returns it.
        energy: energy of the routings beyond their first directions, as `energy_bands` returns it.
    """

    item = "trex_lemma41_trained"
    title = "T-REX Lemma 4.1: what trained models use"
    question = "How many of the directions that a layer can reach do its tokens use?"
    how_to_read = (
        "(a) The share of the squared routings that their first k directions do not cover, mean over layers, shaded "
        "from the lowest to the highest seed. (b, c) One dot per layer and seed, a dash for the mean of the seeds."
    )
    how_to_explore = (
        "“share of energy beyond the first k directions”: the share of the squared routings that their first k "
        "directions do not cover, mean over layers and seeds; point at a mark for the lowest and the highest seed. "
        "“directions used by layer”: one dot per layer and seed, for the measure that the menu chooses."
    )
    drawing, exploring = "draw_used", ""
    saved = ("summary", "used", "reached", "energy")

    used: pd.DataFrame
    reached: pd.DataFrame
    energy: pd.DataFrame

    @property
    def summary(self) -> pd.DataFrame:
        """One row per method: what can be reached, and what is used with its 95 % interval over seeds, as text."""
        return used_summary(self.used, self.reached)


@dataclass(frozen=True, eq=False)
class Approximation(Result):
    """How well each system approximates a family of updates at equal budgets.

    Args:
        by_seed: one row per family, way of counting, seed and system, as `approximation_frame` returns it.
        checks: the checks of the theorem in `theory`.
    """

    item = "trex_theorem42"
    title = "T-REX Theorem 4.2, our reading: approximation at equal budgets"
    question = "Which system approximates a family of updates best when all have the same budget?"
    how_to_read = (
        "A dot is the mean error over the seeds of the targets, a bar reaches from the lowest to the highest seed, and "
        "the marker shows what is counted in the budget; a ring marks the best system of each marker. LoRA's error is "
        "exact, the others are upper bounds."
    )
    how_to_explore = (
        "A mark is the mean error over the seeds of the targets, a bar reaches from the lowest to the highest seed, and "
        "the marker shows what is counted in the budget. LoRA's error is exact, the others are upper bounds."
    )
    drawing, exploring = "draw_approximation", ""
    saved = ("summary", "by_seed")

    by_seed: pd.DataFrame
    checks: Sequence[Claim] = field(repr=False)

    @property
    def summary(self) -> pd.DataFrame:
        """Mean, lowest and highest seed, as `approximation_summary` returns them."""
        return approximation_summary(self.by_seed)


@dataclass(frozen=True, eq=False)
class Intuition(Result):
    """Router and prior on a line, and the noise of the router's gradient.

    Args:
        searches: one problem of each case, as `line_search_frame` returns them.
        noise: gradients over training, as `router_gradient_noise` returns them.
        checks: the checks of the theorem in `theory`.
    """

    item = "trex_theorem43"
    title = "T-REX Theorem 4.3, our reading: router and intuition"
    question = "When does the intuition help the router, and does it make the router's gradient less noisy?"
    how_to_read = (
        "(a) Loss between the prior alone (ω = 0) and the router alone (ω = 1); a dot is the closed form. (b) Variance "
        "of the gradient divided by its squared mean, shaded from the lowest to the highest seed. (c) The same, divided "
        "by the value without a prior, with 95 % intervals over seeds; the mismatched prior is the control."
    )
    how_to_explore = (
        "“loss along the line from prior to router”: the prior alone is at ω = 0, the router alone at ω = 1, and a "
        "dot is the closed form. “router gradient noise”: the variance of the router's gradient divided by its squared "
        "mean, one line per seed; the mismatched prior is the control."
    )
    drawing, exploring = "draw_intuition", ""

    searches: pd.DataFrame
    noise: pd.DataFrame
    checks: Sequence[Claim] = field(repr=False)

    @property
    def ratios(self) -> pd.DataFrame:
        """Noise relative to no prior, as `noise_against_none` returns it."""
        return noise_against_none(self.noise)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"line_search": self.searches, "noise": self.noise, "against_no_prior": self.ratios}


@asked()
def measure_systems(
    runs: Runs,
    adapters: Mapping[str, Any] | None = None,
    in_features: int = 128,
    out_features: int = 128,
    max_rank: int = 8,
) -> Systems:
    """Count the parameters of the systems, and compare the runs' accuracies.

    Args:
        runs: of one backbone and suite, including T-REX and LoRA-MoE.
        adapters: PEFT configurations of the methods to count; None takes those of the runs.
        in_features, out_features: of the drawn layer.
        max_rank: the largest I and J of the sizes in the interactive figure.

    Raises:
        ValueError: for no runs, and for runs of several backbones or suites.

    Example:
        >>> found = measure_systems(runs, max_rank=2)
        >>> found.backbone["method"].tolist()
        ['LoRA-MoE', 'mix-and-match', 'T-REX']
    """
    for name, one in (adapters or {}).items():
        if not hasattr(one, "target_modules"):
            raise refused(f"adapters[{name!r}]", one, "PEFT configuration", "pass one, such as ma.TRexConfig(...)")
    backbone, suite = shared(runs, "backbone"), shared(runs, "suite")
    base, _ = load_backbone(backbone)
    ranks = rank_plot_frame(max_rank, ("independent",))
    return Systems(
        in_features=in_features,
        out_features=out_features,
        parameters=figure1_parameters(in_features, out_features),
        sizes=sizes_of(ranks, in_features, out_features),
        backbone=backbone_parameters(base, adapters or {method_of(run): run.config.adapter for run in runs}),
        layers=layer_parameters(),
        by_dataset=accuracy_by_dataset(runs, baselines(load_suite(suite))),
        runs=tuple(runs),
    )


@asked()
def measure_span(
    max_rank: int = 8,
    budgets: int | Sequence[int] = BUDGETS,
    features: int = 512,
    num_experts: int = 8,
    in_features: int = 128,
    out_features: int = 128,
) -> Span:
    """Measure the span of every size, and of the largest systems within a budget.

    Args:
        max_rank: the largest I and J.
        budgets: trainable parameters of a layer.
        features: inputs and outputs of the layer to which the budgets apply.
        num_experts: of LoRA-MoE.
        in_features, out_features: of the layer whose parameters the widget shows.

    Example:
        >>> found = measure_span(max_rank=2, budgets=[4096], features=64)
        >>> bool((found.ranks["measured"] == found.ranks["predicted"]).all())
        True
    """
    ranks = rank_plot_frame(max_rank)
    return Span(
        ranks=ranks,
        equal_factors=span_table(),
        budgets=span_by_budget(listed(budgets), features, features, num_experts),
        sizes=sizes_of(ranks, in_features, out_features),
        checks=tuple(checked("trex_lemma_4_1_*")),
    )


@asked()
def measure_used(runs: Runs, prompts: int = 4) -> Used:
    """Record the routings of test prompts in every run, and measure the directions that they use.

    Args:
        runs: of one suite, with routed adapters; usually LoRA-MoE, mix-and-match and T-REX at the same seeds.
        prompts: number of test rows per data set.

    Raises:
        ValueError: for no runs, runs of several suites, and runs without a routed adapter.

    Example:
        >>> found = measure_used(runs, prompts=1)
        >>> found.used["method"].unique().tolist()
        ['LoRA-MoE', 'mix-and-match', 'T-REX', 'T-REX, router alone']
    """
    for name in ("suite", "datasets"):
        shared(runs, name)
    test = first_prompts(runs[0], prompts)
    adapters, gates, alone = [], [], []
    for run in runs:
        model, scores = run.model(), run.intuition(test)
        modules = adapter_modules(model)
        # as in the run's training: in its prompt form and with its maximum length
        by_module, tokens = record_gates(model, run.tokenizer, test, scores, run.config.max_length, run.config.form)
        adapters.append((run, modules))
        gates.append((run, by_module))
        if scores is not None:
            alone.append((run, router_alone(modules, by_module, scores[tokens["row"]])))
    parts = [(None, gates), *((f"{method_of(run)}{ALONE}", [(run, by_module)]) for run, by_module in alone)]
    return Used(
        used=pd.concat([used_by_runs(pairs, label) for label, pairs in parts], ignore_index=True),
        reached=reached_by_runs(adapters),
        energy=energy_bands(pd.concat([energy_by_runs(pairs, label) for label, pairs in parts])),
        runs=tuple(runs),
    )


@asked(seeds=0, restarts=0)
def measure_approximation(
    parameters: int = 288, num_experts: int = 4, seeds: int | Sequence[int] = (0, 1, 2), restarts: int = 1
) -> Approximation:
    """Fit each system to families of targets at equal budgets.

    Args:
        parameters: the budget.
        num_experts: of LoRA-MoE.
        seeds: of the targets.
        restarts: fits from random starts, in addition to the one from a smaller system's solution.

    Example:
        >>> found = measure_approximation(parameters=144, num_experts=2, seeds=(0,), restarts=0)
        >>> found.summary["family"].unique().tolist()
        ['shared', 'clustered', 'unstructured']
    """
    seeds = listed(seeds)
    return Approximation(
        by_seed=approximation_frame(parameters, num_experts, seeds, restarts),
        checks=tuple(checked("trex_theorem_4_2_*")),
        sample=f"{len(seeds)} seeds of synthetic targets, a budget of {parameters} parameters",
    )


@asked(seeds=0, steps=0)
def measure_intuition(
    seeds: int | Sequence[int] = (0, 1, 2, 3, 4), steps: int | Sequence[int] = (0, 10, 20, 50, 100), problems: int = 200
) -> Intuition:
    """Search on lines between router and prior, and train routers with an aligned prior, a mismatched prior and none.

    Args:
        seeds: of the synthetic tasks.
        steps: training steps at which the gradient is measured, in increasing order; the first one is the start.
        problems: number of random routing problems; one of each case is shown.

    Example:
        >>> found = measure_intuition(seeds=(0, 1), steps=(0, 2), problems=40)
        >>> found.ratios["prior"].unique().tolist()
        ['aligned', 'mismatched']
    """
    seeds, steps = listed(seeds), listed(steps)
    if len(steps) < 2:
        raise ValueError(
            f"steps = {steps[0]} is only the start; pass later steps too, such as steps=(0, {steps[0] or 20})"
        )
    return Intuition(
        searches=line_search_frame(problems=problems),
        noise=router_gradient_noise(tuple(seeds), tuple(steps)),
        checks=tuple(checked("trex_theorem_4_3_*")),
        sample=f"{len(seeds)} seeds of synthetic tasks, {max(steps)} training steps; {problems} random line searches",
    )


def sizes_of(ranks: pd.DataFrame, in_features: int, out_features: int) -> pd.DataFrame:
    """`parameters_of_sizes` of every size of independent vectors in a frame of `rank_plot_frame`."""
    independent = ranks.loc[ranks["kind"] == "independent", ["I", "J", "measured"]]
    return parameters_of_sizes(list(independent.itertuples(index=False, name=None)), in_features, out_features)
