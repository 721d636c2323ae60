"""From runs to T-REX's Fig. 3, the map of tasks, and your own adapter compared with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...comparison import meta_backbone
from ...theory.method_table import method_table
from ...training.transfer import evaluate_all, levels_on
from ..asked import Runs, asked
from ..records import method_of
from ..result import Result
from .endpoints import left_out_told, task_table
from .learning import learning
from .scores import against_level, comparisons, levels, part_summary, scores, task_differences

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

    def gaps(self, against: str = REFERENCE) -> dict[str, pd.DataFrame]:
        """Every task against one system: accuracy and loss, as `task_differences` returns them."""
        return {measure: task_differences(self.scores, against, measure) for measure in ("accuracy", "loss")}


@dataclass(frozen=True, eq=False)
class Systems(Compared):
    """T-REX's Fig. 3 and its headlines.

    Args:
        gains: accuracy minus that of the untrained backbone, as `against_level` returns it.
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
        + left_out_told()
    )
    how_to_explore = (
        "Above, one row per system: a dot is the mean over tasks and seeds, its line the 95 % interval over seeds, "
        "small marks are seeds, and the upright line is the backbone before training; the menu chooses accuracy above "
        "guessing or loss, and the part: originals show retention, variants acquisition, tasks out of distribution "
        "transfer. Below, tasks one by one and their accuracies around a radar, for the systems that the legend "
        "chooses: further out is better, and gray is guessing." + left_out_told()
    )

    gains: pd.DataFrame
    losses: pd.DataFrame
    authors: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        return super().tables | {"learning": self.learning}

    @property
    def numbers(self) -> Mapping[str, Any]:
        names = ("costs", "levels", "summary", "guessing", "gains", "pairs", "losses", "tasks", "authors", "learned")
        return {name: getattr(self, name) for name in names}

    @property
    def by_task(self) -> SystemTasks:
        """The same scores as a map of tasks."""
        return SystemTasks(**shared(self))


@dataclass(frozen=True, eq=False)
class SystemTasks(Compared):
    """Every task of every system against LoRA."""

    item = "comparison_tasks"
    title = "Beyond the papers: systems task by task"
    question = "On which tasks do the systems differ?"
    how_to_read = (
        "Each cell is accuracy minus that of LoRA, in points; purple is better, orange worse. Bold: the 95 % interval "
        "over seeds does not contain zero. It is not corrected, so about one cell in twenty is bold by chance. The "
        "first column is LoRA." + left_out_told()
    )
    how_to_explore = (
        "Each cell is a system's difference to LoRA, in accuracy or loss by the menu; purple is better, orange worse. "
        "Point at a cell for its 95 % interval over seeds. It is not corrected, so about one interval in twenty "
        "excludes zero by chance." + left_out_told()
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
