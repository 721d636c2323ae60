"""The notebooks that are being executed: a bar for each with the time left, or a line for each outside a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from ..atomic import write_whole
from .terminal import note, notes


@dataclass
class Pace:
    """The cells of one notebook: seconds of each the last time (empty where unknown), and when each began now."""

    cells: int
    before: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    def left(self, now: float) -> float | None:
        """Seconds until the last cell ends; None before there is anything to judge by.

        Where the last time is unknown, the cells to come are taken to be like those that are done.
        """
        done = self.seconds(now)[:-1]
        if len(self.before) == self.cells:
            expected = self.before
        elif done:
            expected = [sum(done) / len(done)] * self.cells
        else:
            return None
        if not self.starts:
            return sum(expected)
        place = len(done)
        return max(0.0, expected[place] - (now - self.starts[-1])) + sum(expected[place + 1 :])

    def seconds(self, now: float) -> list[float]:
        """Of every cell that began, the last of them until now."""
        return [after - start for start, after in zip(self.starts, [*self.starts[1:], now])]


class Memory:
    """Seconds of the cells of notebooks, in a JSON file: settings -> notebook -> list. A help, never needed: a file
    that cannot be read or written is as none."""

    def __init__(self, path: Path, settings: str) -> None:
        self.path, self.settings = path, settings

    def recall(self, notebook: str) -> list[float]:
        known = self._read().get(self.settings)
        seconds = known.get(notebook) if isinstance(known, dict) else None
        right = isinstance(seconds, list) and all(type(value) in (int, float) for value in seconds)
        return [float(value) for value in seconds] if right and seconds else []

    def keep(self, seconds: Mapping[str, list[float]]) -> None:
        known = self._read()
        mine = known.get(self.settings)
        rounded = {name: [round(value, 2) for value in values] for name, values in seconds.items()}
        known[self.settings] = {**(mine if isinstance(mine, dict) else {}), **rounded}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(known, indent=1, sort_keys=True) + "\n")
        except OSError:
            return

    def _read(self) -> dict:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


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
