"""By what systems are compared: parts of the tests, declared before the runs, without uninformative tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ...evidence import Effect
from ...evidence.effect import over_tasks
from .scores import INSIDE, OUTSIDE, crossed

# part of the tests -> the endpoint's name; a suite without roles has one inside
ENDPOINTS = {
    "originals": "retention",
    "variants": "acquisition",
    INSIDE: "in distribution",
    OUTSIDE: "transfer",
}
MEANING = {
    "originals": "tasks that the backbone knew",
    "variants": "rules that only an adapter can learn",
    INSIDE: "the tasks of training",
    OUTSIDE: "tasks that nobody trained on",
}
BASE = "base model"  # before any training
REFERENCES = ("LoRA", "LoRA-MoE", "HydraLoRA", "MixLoRA")
FLOOR, CEILING = 0.05, 0.95  # above guessing; accuracy
TOLD = (
    " Claims leave out tasks near guessing or near perfect for the strongest of {references}, by rows held out of train; if "
    "nothing was tuned, by the test rows, which can favor the others by 0.3 points."
)
TASK_COLUMNS = ["part", "dataset", "guess", "reference", "kept"]


def versions(methods: Iterable[str], name: str) -> list[str]:
    """The labels of a system's versions, itself among them.

    >>> versions(["LoRA", "MixLoRA (4)", "MixLoRA (8)", "T-REX, smaller"], "MixLoRA")
    ['MixLoRA (4)', 'MixLoRA (8)']
    """
    return [label for label in methods if label == name or label.startswith(f"{name} (")]


def left_out_told(references: Sequence[str] = REFERENCES) -> str:
    """What a reader must know of the rule of `task_table`: a drawing shows all tasks, and claims are about fewer.

    The favor was measured with the stored runs of `compact`, three seeds: 30 of 100 test rows judged the tasks, and the
    differences on these rows were compared with those on the other 70.

    >>> print(left_out_told(("LoRA", "SiRA"))[1:70])
    Claims leave out tasks near guessing or near perfect for the stronges
    """
    return TOLD.format(references=f"{', '.join(references[:-1])} and {references[-1]}")


def inside_parts(frame: pd.DataFrame) -> list[str]:
    """The parts of `scores` that were trained on, each an endpoint of its own."""
    found = set(frame["part"])
    return [part for part in ENDPOINTS if part in found and part != OUTSIDE]


def task_table(
    frame: pd.DataFrame,
    levels: pd.DataFrame,
    references: Sequence[str] = REFERENCES,
    floor: float = FLOOR,
    ceiling: float = CEILING,
    held_out: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Every task and whether it counts: the rule that leaves out those at floor or ceiling.

    A task counts where the strongest reference is at least `floor` above guessing and at most at `ceiling`. The
    strongest reference is the one with the highest mean accuracy over the tasks that were trained on. Tasks that
    nobody trained on all count.

    Args:
        frame: of `scores`.
        levels: of `scores.levels`; its column guess.
        references: methods among which the strongest is found, with all their versions; those without scores are
            passed over.
        floor, ceiling: accuracies.
        held_out: scores on rows held out of train, by which to judge instead, where there are some.

    Returns:
        part, dataset, guess, reference (accuracy of the strongest reference, NaN where the rule does not apply), kept.
    """
    judging = frame if held_out is None else held_out
    named = [label for name in references for label in versions(dict.fromkeys(judging["method"]), name)]
    judging = judging[(judging["part"] != OUTSIDE) & judging["method"].isin(named)]
    means = judging.groupby(["method", "part", "dataset"], sort=False)["accuracy"].mean()
    strongest: Mapping[tuple[str, str], float] = {}
    if len(means):
        strongest = means.loc[means.groupby("method", sort=False).mean().idxmax()].to_dict()
    guess = levels.set_index(["part", "dataset"])["guess"]
    rows = []
    for key in frame[["part", "dataset"]].drop_duplicates().itertuples(index=False, name=None):
        reached = strongest.get(key, np.nan)
        kept = bool(np.isnan(reached) or guess[key] + floor <= reached <= ceiling)
        rows.append((*key, guess[key], reached, kept))
    return pd.DataFrame(rows, columns=TASK_COLUMNS)


def kept_scores(frame: pd.DataFrame, tasks: pd.DataFrame, part: str) -> pd.DataFrame:
    """The rows of one part whose tasks count."""
    own = tasks[(tasks["part"] == part) & tasks["kept"]]
    return frame[(frame["part"] == part) & frame["dataset"].isin(own["dataset"])]


def gap(
    frame: pd.DataFrame, tasks: pd.DataFrame, part: str, method: str, other: str, measure: str = "accuracy"
) -> pd.DataFrame | str:
    """method minus other, (tasks, seeds that both have); a text that says why there is nothing to compare."""
    if missing := [name for name in (method, other) if name not in set(frame["method"])]:
        return f"no run of {' or '.join(missing)}"
    rows = kept_scores(frame, tasks, part)
    if rows.empty:
        return f"every task of {ENDPOINTS[part]} is at floor or ceiling" if part in set(frame["part"]) else "not tested"
    found = crossed(rows, method, measure) - crossed(rows, other, measure)
    found = found.dropna(axis=1, how="all")
    return found if found.shape[1] else f"{method} and {other} share no seed"


def within_guessing(tasks: pd.DataFrame, guessing: pd.DataFrame, part: str) -> str:
    """Why accuracies of a part say nothing: no method is above guessing there; empty where they say something.

    Where `task_table` has left out the tasks at floor, the strongest reference is above guessing on each that counts.
    """
    own = tasks[tasks["part"] == part]
    above = guessing.loc[guessing["part"] == part, "above"]
    judged = own["reference"].notna().any()
    return "" if judged or above.empty or above.any() else f"no system is above guessing in {ENDPOINTS[part]}"


def effect(
    frame: pd.DataFrame,
    tasks: pd.DataFrame,
    guessing: pd.DataFrame,
    part: str,
    method: str,
    other: str,
    measure: str = "accuracy",
) -> Effect | str:
    """method minus other on the tasks of a part that count, over tasks and seeds; a text where a precondition fails.

    A part of one data set is about that data set and no sample of tasks: its effect is over seeds.

    Args:
        frame, tasks: of `scores` and `task_table`.
        guessing: `against_level` of "guess": where no method of the part is above it, accuracies say nothing.
        part, method, other, measure: what is compared.
    """
    if reason := within_guessing(tasks, guessing, part):
        return reason
    found = gap(frame, tasks, part, method, other, measure)
    return found if isinstance(found, str) else effect_of(found, tasks, part)


def effect_of(gaps: pd.DataFrame, tasks: pd.DataFrame, part: str) -> Effect:
    """(tasks, seeds) as an effect over both, or over seeds alone where the part has one data set."""
    alone = tasks.loc[tasks["part"] == part, "dataset"].nunique() == 1
    return over_tasks(gaps.to_numpy(), bool(alone))
