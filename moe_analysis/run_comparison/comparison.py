"""Runs side by side as an object: tables, a card in a notebook, a figure, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..training.choices import meaning
from ..training.run_folder import flat
from . import tables
from .labels import labels
from .settings import differing

if TYPE_CHECKING:
    import plotly.graph_objects as go

ITEM = "run_comparison"
QUESTION = "How do these runs differ, how did they learn, and what are their results?"
READING = (
    "“settings and outcomes”: one line per run. Each row is a setting in which the runs differ, or an outcome, with its "
    "smallest value at the left and its largest at the right; words are in alphabetical order. If lines cross between a "
    "setting and an outcome, one falls where the other rises. “training loss”: smoothed, by step. Click a name in the "
    "legend to hide its run in both; double-click to show it alone."
)


@dataclass(frozen=True, eq=False, repr=False)
class RunComparison:
    """At least two runs side by side; the first is the one that others are compared to.

    Args:
        runs: as `Run.load` gives them, no two of one id.
    """

    runs: Sequence[Any] = field(repr=False)

    def __post_init__(self) -> None:
        tables.check(self.runs)

    @cached_property
    def settings(self) -> list[dict[str, Any]]:
        """The configuration of each run as one level of names."""
        return [flat(run.config.to_dict()) for run in self.runs]

    @cached_property
    def names(self) -> list[str]:
        """The label of each run: its method, and the settings that distinguish it from the others."""
        return labels(self.runs, self.settings, self.fields)

    @cached_property
    def fields(self) -> list[str]:
        """The settings in which the runs differ, the most telling ones first."""
        chosen = set(self.differences["field"])
        return [name for name in differing(self.settings) if name in chosen]

    @cached_property
    def differences(self) -> pd.DataFrame:
        """field, meaning, then a column for each run's id: every field that differs and is not left at its default."""
        frame = tables.config_differences(self.runs)
        frame = frame[~tables.untouched(frame, self.runs)].reset_index(drop=True)
        adapters = tuple(run.config.adapter for run in self.runs)
        frame.insert(1, "meaning", [meaning(name, adapters) for name in frame["field"]])
        return frame

    @cached_property
    def final(self) -> pd.DataFrame:
        """run, label, state, step, seconds, train_loss, test_loss, test_accuracy, then for each measure of the test
        rows the difference to the first run with its 95 % interval over the data sets (…_difference, …_low, …_high)."""
        frame = tables.final_results(self.runs)
        frame.insert(1, "label", self.names)
        for measure, rows in self.mean_differences.groupby("measure", sort=False):
            wanted = rows.set_index("run")[["difference", "low", "high"]].add_prefix(f"{measure}_")
            frame = frame.join(wanted, on="run")
        return frame

    @cached_property
    def datasets(self) -> pd.DataFrame:
        """Loss and accuracy of each run and data set, and the differences from the first run."""
        return tables.dataset_scores(self.runs)

    @cached_property
    def mean_differences(self) -> pd.DataFrame:
        """Means over the data sets of the differences from the first run, with their 95 % intervals."""
        return tables.mean_differences(self.datasets)

    def interactive(self) -> go.Figure:
        """The plotly figure: settings and outcomes as parallel coordinates, and the losses on one axis."""
        from .draw import interactive

        return interactive(self)

    def save(self, path: str | Path) -> Path:
        """Write one page that needs no other file and no network.

        Args:
            path: a file that ends in .html.

        Raises:
            SaveError: for another ending, and for a place that cannot be written.
        """
        from ..drawing import save_page

        return save_page(path, ITEM, self.interactive(), caption=self.caption)

    @property
    def caption(self) -> dict[str, str]:
        """title, question, how_to_read and origin, as a page shows them."""
        unfinished = [name for name, run in zip(self.names, self.runs) if not run.finished]
        without = f"; {', '.join(unfinished)} not finished and without losses" if unfinished else ""
        return {
            "title": f"{len(self.runs)} runs side by side",
            "question": QUESTION,
            "how_to_read": READING,
            "origin": f"{', '.join(run.id for run in self.runs)}{without}",
        }

    def __repr__(self) -> str:
        shown = self.final[["label", "state", "test_loss", "test_accuracy"]].round(3)
        return f"{len(self.runs)} runs, which differ in {', '.join(self.fields) or 'nothing'}\n{shown}"

    def _repr_html_(self) -> str:
        """For a notebook: the fields that differ with their meaning, the losses, and the outcomes."""
        from .card import comparison_html

        return comparison_html(self)


def compare_runs(runs: Sequence[Any]) -> RunComparison:
    """Compare runs side by side.

    Args:
        runs: At least two: runs, or folders of runs. The first is the one that the others are compared to.

    Returns:
        An object that a notebook shows as a card, with `differences`, `final` and `datasets` as tables,
        `interactive()` for plotly and `save("name.html")` for a page.

    Raises:
        ValueError: For fewer than two runs, or for the same run twice. RunError: for a folder that cannot be read.

    Example:
        >>> compared = ma.compare_runs(runs[:2])
        >>> list(compared.differences.columns[:2]), len(compared.final)
        (['field', 'meaning'], 2)
    """
    from ..training.run import Run

    return RunComparison([Run.load(run) if isinstance(run, str | Path) else run for run in runs])
