"""live.json: the progress of a run while it trains, thinned to a few hundred points."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...atomic import write_whole
from ..files import RunError, read_json

FILE = "live.json"
MOST_POINTS = 200
DIGITS = 5  # of a number, which is to be drawn and not computed with


@dataclass(frozen=True)
class Point:
    """One point of the curves.

    Attributes:
        step: Updates so far.
        loss: The task's, in nats per answer token and without balance losses; mean since the point before.
        gate_entropy: Of a token's gates, 1 for equal gates, 0 for one expert; mean over tokens and routers.
        busiest_expert: The largest share of the gates' weight that one expert has; mean over routers.
        dead_experts: Experts of all routers that the latest samples hardly used.

    The last three are NaN where no gates were seen.
    """

    step: int
    loss: float
    gate_entropy: float = math.nan
    busiest_expert: float = math.nan
    dead_experts: float = math.nan


COLUMNS = [entry.name for entry in fields(Point)]


@dataclass(frozen=True)
class Live:
    """What a run says of itself while it trains.

    Attributes:
        step: Updates so far.
        loss: Of the latest one, as in `Point`.
        routers: How many routers are watched; 0 where there are none.
        experts: Of all of them together.
        pace: Seconds a step since this process began, without its first; NaN before there is one.
        load: (E,) share of the gates' weight of an expert, the busiest first; mean over routers of one size.
        points: The curves, oldest first.

    >>> live = Live(3, 0.5, points=(Point(1, 2.0), Point(3, 0.5)))
    >>> live.curve("loss")
    [2.0, 0.5]
    """

    step: int = 0
    loss: float = math.nan
    routers: int = 0
    experts: int = 0
    pace: float = math.nan
    load: tuple[float, ...] = ()
    points: tuple[Point, ...] = ()

    def curve(self, name: str) -> list[float]:
        """A column of the points."""
        return [getattr(point, name) for point in self.points]

    def until(self, step: int) -> Live:
        """The same without the points after a step, from which a run resumes."""
        return replace(self, step=step, points=tuple(point for point in self.points if point.step <= step))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, null for a number that is none; `from_dict` reads them back."""
        return {
            "step": self.step,
            "loss": short(self.loss),
            "routers": self.routers,
            "experts": self.experts,
            "pace": short(self.pace),
            "load": [short(share) for share in self.load],
            "columns": COLUMNS,
            "points": [[point.step, *map(short, astuple(point)[1:])] for point in self.points],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Live:
        """Read `to_dict` back; raises ValueError, TypeError or KeyError for anything else."""
        if values["columns"] != COLUMNS:
            raise ValueError(f"columns = {values['columns']!r} of another version; this one has {COLUMNS}")
        points = tuple(Point(whole(step), *numbers(row)) for step, *row in values["points"])
        return cls(
            whole(values["step"]),
            number(values["loss"]),
            whole(values["routers"]),
            whole(values["experts"]),
            number(values["pace"]),
            numbers(values["load"]),
            points,
        )


def short(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is no count")
    return value


def number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def numbers(values: Iterable[Any]) -> tuple[float, ...]:
    return tuple(number(value) for value in values)


def read_live(folder: Path) -> Live | None:
    """What the file in a run's folder says; None where it is missing, damaged or of another version.

    The file is a help for who watches: no damage of it may stop a run or a list of runs.
    """
    try:
        return Live.from_dict(read_json(folder / FILE))
    except (RunError, KeyError, TypeError, ValueError, OverflowError):
        return None


def write_live(folder: Path, live: Live) -> None:
    """Write the file; a disk that refuses is none of training's business."""
    with suppress(OSError):
        write_whole(folder / FILE, json.dumps(live.to_dict(), separators=(",", ":")) + "\n")
