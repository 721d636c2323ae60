"""From runs or a campaign's table to T-REX's Fig. 3, the map of tasks, and your own adapter compared with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...comparison import meta_backbone
from ...theory.method_table import method_table
from ...training.transfer import evaluate_all, levels_on
from ..asked import Runs, asked
from ..records import method_of
from ..result import Result
from .endpoints import CEILING, FLOOR, REFERENCES, task_table
from .learning import learning
from .scores import against_level, comparisons, levels, part_summary, scores, task_differences
from .stored import stored_scores
from .table_2 import side_by_side

COMPANIONS = {"embedded": "embedded_ood", "multitask": "bbh"}  # suite -> the one that nobody trained on
REFERENCE = "LoRA"


@dataclass(frozen=True, eq=False)
class Compared(Result):
    """Systems that were trained and tested alike: what all results of this study are made of.

    Args:
        scores: one row per method, seed and data set, as `scores` returns it.
        levels: what every score must beat, as `scores.levels` returns it.
        summary: means over tasks, as `part_summary` returns it.
        guessing: accuracy less guessing, as `against_level` returns it.
        tasks: which tasks count, as `task_table` returns it.
        pairs: every pair of systems by accuracy, as `comparisons` returns it.
        costs: one row per method, as `theory.method_table` returns it; empty where sizes are unknown.
    """

    scores: pd.DataFrame
    levels: pd.DataFrame
    summary: pd.DataFrame
    guessing: pd.DataFrame
    tasks: pd.DataFrame
    pairs: pd.DataFrame
    costs: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        """In the order in which they are drawn."""
        return list(dict.fromkeys(self.scores["method"]))

    @property
    def left_out(self) -> pd.DataFrame:
        """Tasks at floor or ceiling, which no claim is about."""
        return self.tasks[~self.tasks["kept"]]

    @property
    def means(self) -> pd.DataFrame:
        """Accuracy and loss by method and part."""
        return self.summary.pivot(index="method", columns=["measure", "part"], values="mean").loc[self.methods]

    def gaps(self, against: str = REFERENCE) -> dict[str, pd.DataFrame]:
        """Every task against one system: accuracy and loss, as `task_differences` returns them."""
        return {measure: task_differences(self.scores, against, measure) for measure in ("accuracy", "loss")}


@dataclass(frozen=True, eq=False)
class Systems(Compared):
    """T-REX's Fig. 3 and its headlines.

    Args:
        gains: accuracy less that of the untrained backbone, as `against_level` returns it.
        losses: every pair of systems by loss.
        authors: trainable parameters at the sizes of the authors' code, one row per method.
    """

    item = "trex_fig3"
    title = "T-REX Fig. 3: systems in and out of distribution"
    question = "Is T-REX more accurate than other adapters made of LoRA, on tasks it was trained on and on others?"
    how_to_read = (
        "Above, one row per system: a dot is the mean accuracy above guessing over tasks and seeds, its line the 95 % "
        "interval over seeds, small marks are seeds; the black line is the backbone before training, gray is worse than "
        "guessing. Originals show retention, variants acquisition, tasks out of distribution transfer. Below, each task "
        "that was not trained on, and their accuracies around a radar: further out is better, and gray is guessing."
    )
    how_to_explore = (
        "Above, one row per system: a dot is the mean over tasks and seeds, its line the 95 % interval over seeds, "
        "small marks are seeds, and the black line is the backbone before training; the menu chooses accuracy above "
        "guessing or loss, and the part: originals show retention, variants acquisition, tasks out of distribution "
        "transfer. Below, tasks one by one and their accuracies around a radar, for the systems that the legend "
        "chooses: further out is better, and gray is guessing."
    )

    gains: pd.DataFrame
    losses: pd.DataFrame
    authors: pd.DataFrame

    @property
    def learning(self) -> pd.DataFrame:
        """Every system on every task against the base model on the same rows."""
        return learning(self.scores, self.levels)

    @property
    def learned(self) -> pd.DataFrame:
        """Of each part and system, on how many tasks its mean lies above the base model: columns are the words of
        `learning`."""
        counts = self.learning.groupby(["part", "method", "learning"], sort=False).size()
        return counts.unstack(fill_value=0)

    @property
    def beside_paper(self) -> pd.DataFrame:
        """Table 2 of S'MoRE side by side with ours; empty for other data sets."""
        return side_by_side(self.scores, self.levels)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        further = {"learning": self.learning, "Table 2 side by side": self.beside_paper}
        return super().tables | {name: table for name, table in further.items() if len(table)}

    @property
    def numbers(self) -> Mapping[str, Any]:
        names = ("costs", "levels", "summary", "guessing", "gains", "pairs", "losses", "tasks", "authors", "learned")
        beside = {"table_2": self.beside_paper} if len(self.beside_paper) else {}
        return {name: getattr(self, name) for name in names} | beside

    @property
    def by_task(self) -> SystemTasks:
        """The same scores as a map of tasks."""
        return SystemTasks(**shared(self))


@dataclass(frozen=True, eq=False)
class TunedSystems(Systems):
    """The same by a campaign that tuned every system alike.

    Args:
        tuning: one row per run of the tuning, as `stored.Stored.tuning`.
    """

    tuning: pd.DataFrame

    @property
    def rates(self) -> SystemRates:
        """The tuning as a figure of its own.

        Raises:
            ValueError: for a table without tuning.
        """
        if self.tuning.empty:
            raise ValueError(
                f"{self.stored} has no tuning with configurations; pass the table of a campaign that tunes"
            )
        runs, seeds = len(self.tuning), self.tuning["seed"].nunique()
        sample = f"{runs} runs of {seeds} seed{'s' * (seeds != 1)}, by rows held out of train"
        return SystemRates(tuning=self.tuning, sample=sample, stored=self.stored)


@dataclass(frozen=True, eq=False)
class SystemRates(Result):
    """How every system was tuned: the whole grid, and what was chosen.

    Args:
        tuning: one row per run, as `stored.Stored.tuning`.
    """

    item = "systems_rates"
    title = "Beyond the papers: every system over its grid of learning rates"
    question = "Does any system look worse only because its learning rate was not right?"
    how_to_read = (
        "One panel per system: mean accuracy on rows held out of train by the learning rate, for each rate of its router; "
        "the ring is the choice that the final runs were trained with, the thin line the best accuracy that any system "
        "reached. The grid is the same for all."
    )
    how_to_explore = (
        "All systems in one drawing: mean accuracy on rows held out of train by the learning rate, a dash for each "
        "rate of the router. A ring is the choice that the final runs were trained with. The grid is the same for "
        "all; the legend chooses systems."
    )
    drawing = "draw_rates"
    judging = "claims_rates"

    tuning: pd.DataFrame

    @property
    def chosen(self) -> pd.DataFrame:
        """method, lr, router_multiplier, accuracy, loss, trials, end ("least", "most" or "": whether the rate is an end
        of the grid)."""
        best = self.tuning[self.tuning["chosen"]].drop_duplicates("method").set_index("method")
        tried = self.tuning.groupby("method", sort=False)["lr"].agg(["min", "max", "size"]).loc[best.index]
        ends = np.select([best["lr"] <= tried["min"], best["lr"] >= tried["max"]], ["least", "most"], "")
        columns = ["lr", "router_multiplier", "accuracy", "loss"]
        return best[columns].assign(trials=tried["size"], end=ends).reset_index()

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return {"chosen": self.chosen, "tuning": self.tuning}


@dataclass(frozen=True, eq=False)
class SystemTasks(Compared):
    """Every task of every system against LoRA."""

    item = "comparison_tasks"
    title = "Beyond the papers: systems task by task"
    question = "On which tasks do the systems differ?"
    how_to_read = (
        "Each cell is accuracy less that of LoRA in points; purple is better, orange worse. Bold: the 95 % interval "
        "over seeds does not contain zero. It is not corrected, so about one cell in twenty is bold by chance. The "
        "first column is LoRA."
    )
    how_to_explore = (
        "Each cell is a system's difference to LoRA, in accuracy or loss by the menu; purple is better, orange worse. "
        "Point at a cell for its 95 % interval over seeds. It is not corrected, so about one interval in twenty "
        "leaves out zero by chance."
    )
    drawing = "draw_tasks"
    judging = "claims_tasks"
    exploring = "explore_tasks"

    @property
    def reference(self) -> str:
        """The system that all others are held against."""
        return REFERENCE if REFERENCE in self.methods else self.methods[0]

    @property
    def differences(self) -> dict[str, pd.DataFrame]:
        return self.gaps(self.reference)

    @property
    def numbers(self) -> Mapping[str, Any]:
        return self.differences


@dataclass(frozen=True, eq=False)
class OwnAdapter(SystemTasks):
    """An adapter of your own beside others.

    Args:
        name: its label.
    """

    item = "own_adapter"
    title = "An adapter of your own, task by task"
    question = "Is your adapter more accurate than the other systems?"
    judging = "claims_adapter"

    name: str

    @property
    def numbers(self) -> Mapping[str, Any]:
        return {"costs": self.costs, "summary": self.summary, "pairs": self.pairs}


@asked()
def measure(runs: Runs, outside: str | None = None, workers: int | None = None) -> Systems:
    """Test runs on a suite that nobody trained on, and compare them pair by pair.

    Args:
        runs: of one backbone and suite, usually the nine systems of `comparison.systems` at the same seeds.
        outside: the other suite; None is the companion of the runs' own.
        workers: processes that evaluate; None is one per core.

    Raises:
        ValueError: for runs of several suites, or that were tested on different rows.
    """
    common = in_common(runs, outside, workers)
    frame, table = common["scores"], common["levels"]
    return Systems(
        **common,
        gains=against_level(frame, table, "untrained"),
        losses=comparisons(frame, measure="loss"),
        authors=authors_sizes(runs[0].config.backbone),
    )


@asked()
def measure_tasks(runs: Runs, outside: str | None = None, workers: int | None = None) -> SystemTasks:
    """The map of tasks; arguments and errors as for `measure`, whose `by_task` is the same."""
    return SystemTasks(**in_common(runs, outside, workers))


@asked()
def measure_adapter(runs: Runs, name: str, outside: str | None = None, workers: int | None = None) -> OwnAdapter:
    """An adapter of your own beside others; arguments and errors as for `measure`.

    Args:
        name: its label among the runs.

    Raises:
        ValueError: for a label without runs.
    """
    labels = list(dict.fromkeys(method_of(run) for run in runs))
    if name not in labels:
        raise ValueError(f"name = {name!r} has no run; choose one of {', '.join(labels)}")
    return OwnAdapter(**in_common(runs, outside, workers), name=name)


@asked()
def measure_table(
    table: str | Path | pd.DataFrame,
    measure: str = "accuracy",
    references: str | Sequence[str] = REFERENCES,
    floor: float = FLOOR,
    ceiling: float = CEILING,
    choose_by: str = "accuracy",
) -> TunedSystems:
    """The same from a campaign's table of results, when machines and runs are gone.

    Args:
        table: path of the .parquet file or a study's name, its frame, or the frame of its `results`.
        measure: "accuracy" or "accuracy_norm".
        references, floor, ceiling: which tasks count, see `task_table`; judged on the rows held out of train.
        choose_by: what the campaign chose its cells by; final runs of others are left out and named in `sample`.

    Raises:
        ResultsError, ValueError: as `stored_scores`.

    Example:
        >>> found = measure_table("compact")
        >>> found.rates.chosen.set_index("method").loc[["LoRA", "T-REX"], "lr"].tolist()
        [0.003, 0.02]
    """
    found = stored_scores(table, measure, choose_by)
    frame = found.scores
    shell = meta_backbone(found.backbone) if found.adapters else None
    costs = pd.DataFrame({"method": [], "trainable": []})
    return TunedSystems(
        scores=frame,
        tuning=found.tuning,
        levels=found.levels,
        summary=part_summary(frame),
        guessing=against_level(frame, found.levels, "guess"),
        tasks=task_table(frame, found.levels, references, floor, ceiling, found.held_out),
        pairs=comparisons(frame),
        costs=costs if shell is None else method_table(found.adapters, shell),
        gains=against_level(frame, found.levels, "untrained"),
        losses=comparisons(frame, measure="loss"),
        authors=authors_sizes(found.backbone or "compact"),
        sample=found.sample,
        stored=found.name,
    )


def in_common(runs: Sequence[Any], outside: str | None, workers: int | None) -> dict[str, Any]:
    """The fields of `Compared`."""
    scores(runs)  # refuses what cannot be compared before anything is evaluated
    config = runs[0].config
    outside = outside or COMPANIONS.get(str(config.suite), "embedded_ood")
    transferred = evaluate_all(runs, outside, workers, config.eval_rows)
    frame = scores(runs, transferred)
    inside = levels_on(runs[0], config.suite, config.eval_rows)
    table = levels(inside, levels_on(runs[0], outside, config.eval_rows), config.suite)
    adapters = {method_of(run): run.config.adapter for run in runs}
    return {
        "scores": frame,
        "levels": table,
        "summary": part_summary(frame),
        "guessing": against_level(frame, table, "guess"),
        "tasks": task_table(frame, table),
        "pairs": comparisons(frame),
        "costs": method_table(adapters, meta_backbone(config.backbone)),
        "runs": tuple(runs),
    }


def shared(found: Compared) -> dict[str, Any]:
    """The fields that every result of this study has."""
    names = ("scores", "levels", "summary", "guessing", "tasks", "pairs", "costs", "runs", "sample", "stored")
    return {name: getattr(found, name) for name in names}


def authors_sizes(backbone: Any) -> pd.DataFrame:
    """Trainable parameters of the systems of T-REX's headline at its authors' sizes, LoRA with the same total rank."""
    import peft

    from ...presets import methods

    known = methods()
    known["LoRA"] = peft.LoraConfig(r=32, target_modules=known["T-REX"].target_modules)
    chosen = {name: known[name] for name in ("LoRA", "LoRA-MoE", "SiRA", "T-REX")}
    return method_table(chosen, meta_backbone(backbone))[["method", "trainable"]]
