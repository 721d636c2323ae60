"""What a panel says of runs, in words and numbers, however it is drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..run import FINISHED
from ..run_files import FAILED, RUNNING, STOPPED
from .progress import WAITING, RunProgress, clock, seconds_left
from .state import Live

INTEREST = (RUNNING, FAILED, FINISHED, STOPPED, WAITING)  # states, those first that a small panel keeps


@dataclass(frozen=True)
class Fact:
    """One thing that a panel shows of a run.

    Attributes:
        label: Its name.
        value: Its latest value as text.
        note: What the value is to be held against.
        values: A curve, or the shares of experts; empty where there is none.
        shares: Whether the values are amounts beside each other instead of a curve.
    """

    label: str
    value: str
    note: str = ""
    values: tuple[float, ...] = ()
    shares: bool = False


def facts_of(live: Live) -> list[Fact]:
    """What there is to be shown of a run, in the order of its interest: the loss alone where nothing routes."""
    loss = Fact("loss", f"{live.loss:.3f}", "nats an answer token", tuple(live.curve("loss")))
    if not live.routers or not live.load or not live.points:
        return [loss]
    routers = f"{live.routers} router{'s' * (live.routers != 1)}"
    curves = {name: tuple(live.curve(name)) for name in ("gate_entropy", "busiest_expert", "dead_experts")}
    entropy, busiest, idle = (latest(curve) for curve in curves.values())
    return [
        loss,
        Fact("gate entropy", f"{entropy:.2f}", "1: equal gates, 0: one expert", curves["gate_entropy"]),
        Fact(
            "busiest expert",
            percent(busiest),
            f"{percent(1 / len(live.load))} if all were equal",
            curves["busiest_expert"],
        ),
        Fact("expert load", "", f"busiest first, mean of {routers}", live.load, shares=True),
        Fact(
            "dead experts",
            "–" if math.isnan(idle) else f"{idle:.0f}",
            f"of {live.experts} in {routers}",
            curves["dead_experts"],
        ),
    ]


def latest(values: Sequence[float]) -> float:
    """The last value that is a number; NaN where none is."""
    return next((one for one in reversed(values) if math.isfinite(one)), math.nan)


def percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"


def kept_rows(rows: Sequence[RunProgress], room: int) -> list[RunProgress]:
    """Those of most interest, in the order given."""
    order = INTEREST
    kept = sorted(range(len(rows)), key=lambda place: order.index(rows[place].state))[:room]
    return [rows[place] for place in sorted(kept)]


def pace(row: RunProgress) -> str:
    """The step, and how long a run took or will take; what else it does where the steps are done."""
    text = f"step {row.step} of {row.steps}"
    if row.state == FINISHED:
        tests = "" if row.loss is None else f", test loss {row.loss:.3f}, accuracy {row.accuracy:.3f}"
        return f"{text} in {clock(row.seconds)}{tests}"
    if row.state == RUNNING and row.step == row.steps:
        return f"{text}, evaluating"
    return f"{text}, about {clock(row.seconds_left)} left" if row.seconds_left is not None else text


def time_of(row: RunProgress) -> str:
    """What a run took, or while it trains what it still takes."""
    left = row.seconds_left
    return clock(row.seconds or None) if left is None else f"{clock(left)} left"


def summary(rows: Sequence[RunProgress], hidden: int = 0) -> str:
    """Such as "1 finished, 2 running of 3; about 26 s left"."""
    counts = Counter(row.state for row in rows)
    order = (FINISHED, RUNNING, WAITING, STOPPED, FAILED)
    parts = [f"{counts[state]} {state}" for state in order if counts[state]]
    text = f"{', '.join(parts)} of {len(rows)}"
    if (left := seconds_left(rows)) is not None:
        text += f"; about {clock(left)} left"
    return text + (f"; {hidden} not shown" if hidden else "")
