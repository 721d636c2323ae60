"""The notebooks that are being executed: a bar for each with the time left, or a line for each outside a terminal."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from .pace import Memory, Pace
from .terminal import note, notes


def hours(seconds: float | None) -> str:
    """Such as "0:03:05"; "-:--:--" for None."""
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))


class TimesColumn(ProgressColumn):
    """Elapsed time, and what is left of the notebook."""

    max_refresh = 0.5

    def __init__(self, paces: dict[str, Pace]) -> None:
        super().__init__()
        self.paces = paces

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(hours(task.finished_time), style="progress.elapsed")
        left = self.paces[task.description].left(time.monotonic())
        return Text(f"{hours(task.elapsed)}, left {hours(left)}", style="progress.remaining")


class NotebookBars:
    """A context manager whose on_cell and on_end are told of the notebooks' progress, from any thread."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.paces, self.tasks = memory, dict[str, Pace](), dict[str, Any]()
        self.done: dict[str, list[float]] = {}
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(16),
            TextColumn("cell {task.fields[cell]}/{task.total}"),
            TimesColumn(self.paces),
        )
        self.bar = Progress(*columns, console=notes, disable=not notes.is_terminal)

    def __enter__(self) -> NotebookBars:
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()
        self.memory.keep(self.done)

    def on_cell(self, notebook: str, cell: int, cells: int) -> None:
        """Cell number `cell` of `cells` begins."""
        now = time.monotonic()
        if notebook not in self.tasks:
            self.paces[notebook] = pace = Pace(cells, self.memory.recall(notebook))
            self.tasks[notebook] = self.bar.add_task(notebook, total=cells, cell=cell)
            if not notes.is_terminal:
                left = pace.left(now)
                note(f"{notebook}: {cells} cells" + (f", about {hours(left)}" if left is not None else ""))
        self.paces[notebook].starts.append(now)
        self.bar.update(self.tasks[notebook], completed=cell - 1, cell=cell)

    def on_end(self, notebook: str) -> None:
        """The last cell has ended."""
        self.done[notebook] = self.paces[notebook].seconds(time.monotonic())
        self.bar.update(self.tasks[notebook], completed=self.paces[notebook].cells)
        if not notes.is_terminal:
            note(f"{notebook}: done in {hours(sum(self.done[notebook]))}")
