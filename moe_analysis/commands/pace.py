"""How long a notebook will still take, judged by the last time it was executed with the same settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


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
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            temporary.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            os.replace(temporary, self.path)
        except OSError:
            return

    def _read(self) -> dict:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
