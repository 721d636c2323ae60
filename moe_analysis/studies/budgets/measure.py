"""From runs to accuracy against parameters, more layers at one budget, and the time of a training step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ...comparison import lora_budget, meta_backbone, step_time_pairs
from ...presets import FEED_FORWARD
from ...theory.method_table import method_table
from ...training.transfer import evaluate_all, levels_on
from ..asked import Runs, asked
from ..records import method_of
from ..result import Result
from ..systems.endpoints import inside_parts, left_out_told, task_table
from ..systems.measure import COMPANIONS
from ..systems.scores import against_level, levels, scores
from ..systems.stored import Stored, stored_scores
from .differences import gaps_by_budget, layers_table
from .points import budget_points
from .results import budget_results, sizes_of
from .step_ratios import METHOD, REFERENCE, operation_ratios
from .step_time import random_decoder, round_seconds, summary

FOUR = ("LoRA", "HydraLoRA", "MixLoRA", "S'MoRE")  # the curves of the paper
LAYERS = {"S'MoRE, L = 1": 1, "S'MoRE": 2, "S'MoRE, L = 3": 3}
WIDER = ((256, 704), (512, 1408), (768, 2048))  # widths of a decoder and of its feed-forward blocks
AT = " @ "  # in a table's label, between the system and the budget of its size


@dataclass(frozen=True, eq=False)
class AtBudgets(Result):
    """Systems of several sizes, each with its budget.

    Args:
        scores: columns of `systems.scores` and budget: one row per method, seed, budget and data set.
        results: means over the data sets of a part, as `budget_results` returns them.
        guessing: accuracy minus guessing by budget, as `against_level` returns it.
        tasks: which tasks count, as `task_table` returns it.
        costs: one row per method and budget, as `theory.method_table` returns it.
        untrained: part -> mean accuracy of the backbone before training; empty if it was not measured.
    """

    scores: pd.DataFrame
    results: pd.DataFrame
    guessing: pd.DataFrame
    tasks: pd.DataFrame
    costs: pd.DataFrame
    untrained: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    @property
    def parts(self) -> list[str]:
        """The parts that were trained on; each is a separate endpoint."""
        return inside_parts(self.scores)

    @property
    def means(self) -> pd.DataFrame:
        """Accuracy and loss by part, budget and method."""
        grouped = self.results.groupby(["part", "budget", "method"], sort=False)
        return grouped[["accuracy", "loss"]].mean().unstack("part")


@dataclass(frozen=True, eq=False)
class BudgetCurves(AtBudgets):
    """S'MoRE's Fig. 4 and Table 2.

    Args:
        points: of the paper's four systems, as `budget_points` returns it.
    """

    item = "smore_fig4"
    title = "S'MoRE Fig. 4: accuracy against parameters"
    question = "Is S'MoRE more accurate than LoRA, MixLoRA and HydraLoRA of the same size?"
    how_to_read = (
        "Left: means over tasks with 95 % intervals over seeds; higher and further left is better, and gray steps are the "
        "Pareto front. Right: S'MoRE minus each other system at equal budget, paired by seed; above the dashed line, "
        "S'MoRE is better. Upper row: tasks that the backbone already knew (retention); lower row: rules that only an "
        "adapter can learn (acquisition)." + left_out_told()
    )
    how_to_explore = (
        "“means”: means over tasks with 95 % intervals over seeds; further left is smaller. “S'MoRE minus each other "
        "system”: at equal budget, paired by seed. S'MoRE is better if an accuracy is above the dashed line, or a loss "
        "below it. Originals are tasks that the backbone already knew (retention), variants are rules that only an "
        "adapter can learn (acquisition)." + left_out_told()
    )
    saved = ("costs", "results", "points", "gaps", "tasks")

    points: pd.DataFrame

    @property
    def gaps(self) -> pd.DataFrame:
        """S'MoRE minus each of the other three at every equal budget, as `gaps_by_budget` returns them."""
        return gaps_by_budget(self.results, METHOD, FOUR)


@dataclass(frozen=True, eq=False)
class MoreLayers(AtBudgets):
    """S'MoRE's Table 5.

    Args:
        points: for every number of layers, as `budget_points` returns it, with a column layers.
        table: differences to the fewest layers, as `layers_table` returns them.
    """

    item = "smore_table5"
    title = "S'MoRE Table 5: more layers at one budget"
    question = "Do more layers help when the number of parameters stays the same?"
    how_to_read = (
        "Left: means over tasks with 95 % intervals over seeds, by the number of layers. Right: differences to one "
        "layer, paired by seed; above the dashed line, more layers are better. If there are several budgets, a separate "
        "mark is their mean." + left_out_told()
    )
    how_to_explore = (
        "Differences to the fewest layers, paired by seed, with 95 % intervals over seeds. More layers are better if an "
        "accuracy is above the dashed line, or a loss below it. If there are several budgets, a separate line is their "
        "mean." + left_out_told()
    )
    drawing = "draw_layers"
    judging = "claims_layers"
    saved = ("table", "points")

    points: pd.DataFrame
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class StepTimes(Result):
    """S'MoRE's Table 7.

    Args:
        times: medians and their intervals, as `step_time.summary` returns them, with a column size.
        expected: as `operation_ratios` returns it, with a column size.
        rounds: S'MoRE's time / MixLoRA's: columns size, round, ratio.
    """

    item = "smore_table7"
    title = "S'MoRE Table 7: time of a training step"
    question = "How much longer does a training step of S'MoRE take than a step of MixLoRA of the same size?"
    how_to_read = (
        "One row per width of the backbone. Dots are ratios to MixLoRA, which is the dashed line: medians over rounds in "
        "which the systems take turns, with 95 % intervals. The band is the paper's range. Rings are the ratios of the "
        "operations that the modules compute."
    )
    drawing = "draw_time"
    judging = "claims_time"

    times: pd.DataFrame
    expected: pd.DataFrame
    rounds: pd.DataFrame


@asked()
def measure(runs: Mapping[int, Runs], outside: str | None = None, workers: int | None = None) -> BudgetCurves:
    """Accuracy against parameters.

    Args:
        runs: budget (nominal trainable parameters) -> its runs, of one backbone and suite. Runs with other gates have
            names such as "S'MoRE (dense)" and "MixLoRA (dense)".
        outside: a suite that no run was trained on; None is the companion of the runs' own suite.
        workers: evaluating processes; None is one per core.

    Raises:
        ValueError: for runs of several suites, or tested on different rows.
    """
    return BudgetCurves(**of_four(at_budgets(runs, outside, workers)))


@asked()
def measure_layers(
    runs: Mapping[int, Runs],
    layers: Mapping[str, int] = LAYERS,
    outside: str | None = None,
    workers: int | None = None,
) -> MoreLayers:
    """More layers of S'MoRE; arguments as for `measure`.

    Args:
        layers: label -> number of layers; other runs, and budgets with only one number of layers, are left out.
    """
    # for all runs, because the comparison must not decide which tasks count
    common = of_layers(at_budgets(runs, outside, workers), layers)
    kept = [found for budget, found in runs.items() if budget in set(common["results"]["budget"])]
    return MoreLayers(**{**common, "runs": tuple(run for found in kept for run in found if method_of(run) in layers)})


@asked()
def measure_table(
    table: str | Path | pd.DataFrame, measure: str = "accuracy", choose_by: str | None = None
) -> BudgetCurves:
    """Fig. 4 from a campaign's table of results; arguments and errors as for `systems.measure_table`.

    A label such as "MixLoRA @ 80000" is the system at that budget; all labels without a budget have that of their
    largest system.

    Raises:
        ValueError: for a table without configurations, because its sizes are unknown.
    """
    found = stored_scores(table, measure, choose_by)
    return BudgetCurves(**counting(found, of_four(of_table(found)), FOUR))


@asked(tokens=2)
def measure_times(rounds: int = 20, targets: str | Sequence[str] | None = None, tokens: int | None = None) -> StepTimes:
    """Time of a step of MixLoRA and S'MoRE at equal parameters: for the compact backbone, 128 wide, and three wider ones.

    Forward, backward and AdamW on random tokens, in one thread and in process time; the two take turns. In the compact
    backbone, a step is mostly the overhead of many small operations. The cost of a step depends only on shapes, so the
    wider backbones, with two layers, have random weights.

    Args:
        rounds: number of timed rounds.
        targets: names of the adapted layers; None is the feed-forward projections.
        tokens: per sample; None is 64 at width 128 and 128 at the other widths. Fewer are faster but less informative.
    """
    targets = list(FEED_FORWARD if targets is None else targets)
    budgets: dict[str, tuple[Any, int, tuple[int, int]]] = {
        "width 128": ("compact", 20, (16, tokens or 64)),
        **{
            f"width {hidden}": (random_decoder(hidden, inner, layers=2), 16, (4, tokens or 128))
            for hidden, inner in WIDER
        },
    }
    times, expected, ratios = [], [], []
    for size, (model, rank, batch) in budgets.items():
        shell = meta_backbone(model)
        budget = lora_budget(rank, targets, shell)
        pair = step_time_pairs([budget], targets, shell)[budget]
        found = round_seconds(pair, model, batch, rounds)
        table = summary(found.seconds, REFERENCE).assign(tokens=batch[0] * batch[1], size=size)
        table.insert(1, "trainable", table["method"].map(found.trainable))
        times.append(table)
        expected.append(operation_ratios(pair, shell).assign(size=size))
        ratio = found.seconds[METHOD] / found.seconds[REFERENCE]
        ratios.append(pd.DataFrame({"size": size, "round": ratio.index, "ratio": ratio.to_numpy()}))
    frames = (pd.concat(parts, ignore_index=True) for parts in (times, expected, ratios))
    return StepTimes(*frames, sample=f"{rounds} rounds, one thread of a CPU")


def of_four(common: dict[str, Any]) -> dict[str, Any]:
    """The fields of `BudgetCurves`, from those of `AtBudgets`."""
    results = common["results"]
    return {**common, "points": budget_points(results[results["method"].isin(FOUR)])}


def of_layers(common: dict[str, Any], layers: Mapping[str, int]) -> dict[str, Any]:
    """The fields of `MoreLayers`, from those of `AtBudgets`: the budgets that have several numbers of layers."""
    results = common["results"][common["results"]["method"].isin(list(layers))]
    several = results.groupby("budget")["method"].nunique() > 1
    budgets = several.index[several]
    if budgets.empty:
        raise ValueError(
            f"no budget has final runs of two of {', '.join(layers)}; there are {', '.join(sorted(set(common['results']['method'])))}"
        )
    for name in ("scores", "costs", "results"):
        frame = common[name]
        common = {**common, name: frame[frame["method"].isin(list(layers)) & frame["budget"].isin(budgets)]}
    results = common["results"].assign(layers=common["results"]["method"].map(layers))
    points = budget_points(results)
    points["layers"] = points["method"].map(layers)
    return {**common, "results": results, "points": points, "table": layers_table(results)}


def of_table(found: Stored) -> dict[str, Any]:
    """The fields of `AtBudgets`, from a campaign's table."""
    if not found.adapters:
        raise ValueError(f"{found.name} has no configurations, so sizes are unknown; pass the table itself")
    shell = meta_backbone(found.backbone)
    sizes = pd.DataFrame([{"label": name, **sizes_of(one, shell)} for name, one in found.adapters.items()])
    names = sizes["label"].str.split(AT)
    one = sizes["trainable"].max()
    sizes = sizes.assign(method=names.str[0], budget=[int(parts[1]) if len(parts) > 1 else one for parts in names])
    known = sizes.set_index("label")[["method", "budget"]]
    frame = found.scores.rename(columns={"method": "label"}).join(known, on="label")
    held_out = found.held_out
    if held_out is not None:  # of systems without a final run too
        held_out = held_out.assign(method=held_out["method"].str.split(AT).str[0])
    costs = method_table(found.adapters, shell)
    untrained = found.levels.groupby("part")["untrained"].agg(lambda values: values.mean(skipna=False)).dropna()
    return {
        "scores": frame,
        "results": budget_results(frame, sizes),
        "guessing": guessing_at(frame, found.levels),
        "tasks": task_table(frame, found.levels, held_out=held_out),
        "costs": costs.assign(budget=sizes["budget"].to_numpy(), method=sizes["method"].to_numpy()),
        "untrained": untrained.to_dict(),
        "stored": found.name,
    }


def counting(found: Stored, fields: dict[str, Any], methods: Collection[str]) -> dict[str, Any]:
    """The fields from a campaign's table, with a `sample` that counts the runs of these methods alone."""
    scores = fields["scores"]
    return {**fields, "sample": found.sample_for(set(scores.loc[scores["method"].isin(methods), "label"]))}


def at_budgets(runs: Mapping[int, Sequence[Any]], outside: str | None, workers: int | None) -> dict[str, Any]:
    """The fields of `AtBudgets`."""
    every = [run for found in runs.values() for run in found]
    if len(suites := {str(run.config.suite) for run in every}) > 1:
        raise ValueError(f"runs are of the suites {', '.join(sorted(suites))}; measure those of one suite at a time")
    config = every[0].config
    outside = outside or COMPANIONS.get(str(config.suite), "embedded_ood")
    shell = meta_backbone(config.backbone)
    frames, costs, sizes = [], [], []
    for budget, own in runs.items():
        frames.append(scores(own, evaluate_all(own, outside, workers, config.eval_rows)).assign(budget=budget))
        adapters = {method_of(run): run.config.adapter for run in own}
        costs.append(method_table(adapters, shell).assign(budget=budget))
        sizes += [{"method": name, "budget": budget, **sizes_of(one, shell)} for name, one in adapters.items()]
    frame = pd.concat(frames, ignore_index=True)
    inside = levels_on(every[0], config.suite, config.eval_rows)
    table = levels(inside, levels_on(every[0], outside, config.eval_rows), config.suite)
    return {
        "scores": frame,
        "results": budget_results(frame, pd.DataFrame(sizes)),
        "guessing": guessing_at(frame, table),
        "tasks": task_table(frame, table),
        "costs": pd.concat(costs),
        "runs": tuple(every),
    }


def guessing_at(frame: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """`against_level` of "guess" at every budget, with a column budget."""
    parts = [against_level(own, table).assign(budget=budget) for budget, own in frame.groupby("budget", sort=False)]
    return pd.concat(parts, ignore_index=True)
