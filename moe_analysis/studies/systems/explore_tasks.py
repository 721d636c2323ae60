"""Systems against each other, task by task: which one is the reference, and which tasks are shown."""

from __future__ import annotations

import pandas as pd

from ...cards.in_words import signed
from ...drawing.explorer import Explorer, View, choice
from .draw import TITLES, drawn_parts
from .draw_tasks import task_figure
from .measure import SystemTasks
from .scores import task_differences

EVERY = "all parts"


def widget(found: SystemTasks, against: str | None = None, part: str | None = None) -> Explorer:
    """The system that all others are held against, and the part of the tasks; the arguments are those shown first."""
    return task_widget(found.scores, found.reference if against is None else against, part)


def task_widget(scores: pd.DataFrame, against: str = "LoRA", part: str | None = None) -> Explorer:
    """Lists of systems and of parts of the tasks, and the heat map of accuracy minus that of the chosen system.

    scores: what `scores` returned. part: a part of the tasks, or "all parts", which takes longest (None:
    the first part). Raises ValueError for a system or part that the scores do not hold.
    """

    def draw(against: str, part: str) -> View:
        shown = scores if part == EVERY else scores[scores["part"] == part]
        differences = task_differences(shown, against)
        alt = (
            f"Heat map of accuracy minus that of {against}, {differences['dataset'].nunique()} tasks by "
            f"{differences['method'].nunique()} systems."
        )
        figure = task_figure(differences, against)
        return View(figure, alt, task_note(differences, against))

    methods = list(dict.fromkeys(scores["method"]))
    first, *_ = drawn_parts(scores)
    parts = {**{TITLES[name]: name for name in drawn_parts(scores)}, EVERY: EVERY}
    controls = {
        "against": choice("against", "Compare with", against, methods, "The system that all others are held against"),
        "part": choice("part", "Tasks", first if part is None else part, parts, "Which part of the tasks is shown"),
    }
    return Explorer(controls, draw)


def task_note(differences: pd.DataFrame, against: str) -> str:
    """Each system's mean difference over the tasks shown, and on how many its interval leaves out zero."""
    lines = []
    for method, rows in differences.groupby("method", sort=False):
        better, worse = int((rows["low"] > 0).sum()), int((rows["high"] < 0).sum())
        lines.append(
            f"{method}: {signed(100 * rows['difference'].mean(), 1)} points against {against} over {len(rows)} "
            f"tasks; interval above 0 on {better}, below on {worse}"
        )
    return "\n".join([*lines, "Intervals are over seeds and not corrected for the number of tasks."])
