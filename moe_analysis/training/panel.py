"""The panel of runs in training, one in full or several as a table: in a terminal, in a notebook, or as plain lines."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live as Redrawn
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..cards.charts import heights, spark_bars, spark_curve
from ..cards.templates import environment, inline
from ..extras import extra
from .files import FAILED, FINISHED, RUNNING, STOPPED, RunError
from .progress import WAITING, Fact, Live, RunProgress, clock, facts_of, kept_rows, pace, progress_of, summary, time_of
from .run import Run

STYLES = {RUNNING: "cyan", FAILED: "red", FINISHED: "green", STOPPED: "yellow", WAITING: "dim"}
MARGIN = 7  # lines of a terminal that a table's frame, its summary and the prompt take
HIDDEN = 6  # last characters of a name that a narrow terminal does not show: four of the digest tell runs apart
SHOWN = 8  # characters before those that it does show, as in -s0-87cb
# columns of a terminal from which a table shows the training loss, the gates, and their curves
NARROW, WIDE, WIDER = 80, 108, 140
GATES = ("training loss", "entropy", "busiest", "dead")
BAR, CURVE, SHORT = 40, 32, 8  # characters of a bar, of a curve, and of one in a table
BLOCKS = "▁▂▃▄▅▆▇█"
HERE = Path(__file__).parent
MOST_ROWS = 12  # of a sweep that are shown, the running ones first
BADGES = {FINISHED: "yes", FAILED: "no", RUNNING: "now"}  # state -> class in panel.css; others are absent
IN_ROWS = ("loss", "gate entropy", "busiest expert", "dead experts")  # of the facts, what a row of several has room for
REFRESH_SECONDS = 0.5
LINE_SECONDS = 60.0
_DRAWING = threading.Lock()  # a terminal has room for one panel that moves


@dataclass(frozen=True)
class Panel:
    """Runs as they are now; printed by rich, shown by a notebook, or as text.

    Attributes:
        rows: The runs. A terminal shows as many of several as it has lines for.
    """

    rows: Sequence[RunProgress]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if len(self.rows) == 1:
            yield one_run(self.rows[0], options.max_width)
        elif self.rows:
            room = max(1, console.height - MARGIN) if console.is_terminal else len(self.rows)
            yield several_runs(self.rows, room, options.max_width)

    @property
    def line(self) -> str:
        """What a log file gets now and then."""
        if len(self.rows) != 1:
            return summary(self.rows)
        row = self.rows[0]
        left = f", about {clock(row.seconds_left)} left" if row.seconds_left is not None else ""
        loss = f", loss {row.live.loss:.3f}" if row.live is not None and row.live.points else ""
        return f"{row.name}: step {row.step} of {row.steps}{loss}{left}"

    def _repr_html_(self) -> str:
        return panel_html(self.rows)

    def __repr__(self) -> str:
        return self.line


def several_runs(rows: Sequence[RunProgress], room: int, width: int) -> Group:
    """As many runs as there is room for, running and failed ones first to be kept, and a summary below."""
    kept = kept_rows(rows, room)
    watched = any(row.live is not None and row.live.points for row in kept)
    grid = Table("run", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    more = GATES if watched and width >= WIDE else GATES[:1] if watched and width >= NARROW else ()
    for name in ("state", "step", *more, "loss", "accuracy", "time"):
        grid.add_column(name, justify="left" if name == "state" else "right", no_wrap=True)
    for row in kept:
        tests = ["" if value is None else f"{value:.3f}" for value in (row.loss, row.accuracy)]
        step = f"{row.step}/{row.steps}"
        gates = gate_cells(row.live, width >= WIDER)[: len(more)]
        grid.add_row(Name(row.name), f"[{STYLES[row.state]}]{row.state}[/]", step, *gates, *tests, time_of(row))
    return Group(grid, Text(summary(rows, len(rows) - len(kept))))  # as a caption it would break at the table's width


def one_run(row: RunProgress, width: int) -> Group:
    """A run in full: its name and state, a bar with the time left, and its curves."""
    head = Text.assemble((row.name, "bold"), "  ", (row.state, STYLES[row.state]), no_wrap=True, overflow="ellipsis")
    bar = Table.grid(padding=(0, 2, 0, 0))
    bar.add_row(ProgressBar(row.steps, row.step, width=min(BAR, max(8, width - 44))), Text(pace(row)))
    parts: list[RenderableType] = [head, Text(pace(row)) if row.state == FINISHED else bar]
    if facts := facts_of(row.live):
        curve = max(8, min(CURVE, width - 60))
        grid = Table.grid(padding=(0, 2, 0, 0))
        for justify in ("left", "left", "right", "left"):
            grid.add_column(justify=justify, no_wrap=True)
        for fact in facts:
            drawn = blocks(fact.values, curve, from_zero=fact.shares)
            style = "red" if fact.value == "nan" else "bold"
            grid.add_row(
                fact.label, Text(drawn, "cyan"), Text(fact.value, style), Text(fact.note, "dim", overflow="ellipsis")
            )
        parts.append(grid)
    return Group(*parts)


def gate_cells(live: Live | None, curves: bool) -> list[Text]:
    """Cells of a table: the loss with its curve, and entropy, busiest expert and dead experts."""
    facts = {fact.label: fact for fact in facts_of(live)}
    cells = []
    for label in IN_ROWS:
        fact = facts.get(label)
        if fact is None:
            cells.append(Text(""))
            continue
        drawn = blocks(fact.values, SHORT) if label == "loss" or (curves and label != "dead experts") else ""
        value = f"{fact.value:>5}" if label == "loss" else fact.value
        cells.append(Text.assemble((f"{drawn:>{SHORT}} " if drawn else "", "cyan"), value))
    return cells


@dataclass(frozen=True)
class Name:
    """A run's name in the width that the other columns leave."""

    text: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, len(self.text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield Text(shortened(self.text, options.max_width), no_wrap=True, overflow="ellipsis")


def shortened(name: str, room: int) -> str:
    """A name that is longer than `room` without its middle and most of its digest; the rest still distinguishes runs."""
    if len(name) <= room:
        return name
    end = name[-HIDDEN - SHOWN : -HIDDEN]
    if room < SHOWN + 2:
        return "…" + end[SHOWN + 1 - room :]
    return f"{name[: room - SHOWN - 2]}…{end}…"


def blocks(values: Sequence[float], most: int, from_zero: bool = False) -> str:
    """A curve of at most `most` characters; a gap for values that are not numbers.

    >>> blocks([4.0, 3.0, float("nan"), 1.0], 10)
    '█▆ ▁'
    """
    places = heights(binned(values, most), from_zero)
    return "".join(" " if one is None else BLOCKS[round(one * (len(BLOCKS) - 1))] for one in places)


def binned(values: Sequence[float], most: int) -> list[float]:
    """At most `most` values: means of neighbors without those that are not finite, NaN if none is.

    >>> binned([1.0, 3.0, 5.0, float("nan")], 2)
    [2.0, 5.0]
    """
    if len(values) <= most:
        return list(values)
    edges = [len(values) * place // most for place in range(most + 1)]
    parts = ([one for one in values[a:b] if math.isfinite(one)] for a, b in zip(edges, edges[1:]))
    return [sum(part) / len(part) if part else math.nan for part in parts]


def panel_html(rows: Sequence[RunProgress]) -> str:
    """One run in full, or a row for each of several that have begun, and a summary."""
    several = len(rows) > 1
    begun = [row for row in rows if row.state != WAITING] if several else rows
    kept = kept_rows(begun, MOST_ROWS)
    return (
        environment(HERE)
        .get_template("panel.html")
        .render(
            style=style(),
            runs=[described(row, several) for row in kept],
            summary=summary(rows, len(begun) - len(kept)) if several else "",
        )
    )


@cache
def style() -> Any:
    """For the inside of one rule, so that it reaches nothing else on the page."""
    from markupsafe import Markup

    colors, base = (str(inline(f"{name}.css")) for name in ("colors", "notebook"))
    return Markup("\n".join([colors.replace(":root", "&"), base, (HERE / "panel.css").read_text("utf-8")]))


def described(row: RunProgress, short: bool) -> dict[str, Any]:
    facts = facts_of(row.live)
    return {
        "name": row.name,
        "state": row.state,
        "badge": BADGES.get(row.state, "absent"),
        "share": 100 * row.step / max(1, row.steps),
        "step": row.step,
        "steps": row.steps,
        "pace": f"{row.step}/{row.steps}" + (f" · {time}" if (time := time_of(row)) else "") if short else pace(row),
        "tests": "" if row.loss is None or not short else f"test loss {row.loss:.3f}, accuracy {row.accuracy:.3f}",
        "facts": [drawn(fact) for fact in facts if not short or fact.label in IN_ROWS],
    }


def drawn(fact: Fact) -> dict[str, Any]:
    """A fact as the template takes it, with its curve or bars."""
    told = f"{fact.label} {fact.value}, {fact.note}" if fact.value else f"{fact.label}, {fact.note}"
    picture = (spark_bars if fact.shares else spark_curve)(fact.values, told)
    return {"label": fact.label, "value": fact.value, "note": fact.note, "picture": picture}


Look = Callable[[], Panel]  # reads how things stand; called from another thread too


def look_at(run: Run) -> Look:
    """Reads one run's folder."""
    return lambda: Panel([progress_of(run)])


def steady(look: Look) -> Look:
    """The same, with the latest panel where a folder cannot be read for a moment: watching must not stop a run."""
    latest = Panel([])

    def again() -> Panel:
        nonlocal latest
        with suppress(RunError, OSError):
            latest = look()
        return latest

    return again


@contextmanager
def shown(look: Callable[[], Look], progress: bool | None, console: Console | None = None) -> Iterator[None]:
    """Show a panel while the block runs.

    Args:
        look: Makes what reads the panel; called only where it is shown.
        progress: None shows it in notebooks and terminals; True elsewhere too, as one line per minute; False never.
        console: Where a terminal shows it; stderr by default.
    """
    console = console or Console(stderr=True)
    if progress is False:
        yield
    elif in_page():
        with in_notebook(steady(look())):
            yield
    elif console.is_terminal and not console.is_dumb_terminal:
        with in_terminal(steady(look()), console):
            yield
    elif progress:
        now = steady(look())
        with every(LINE_SECONDS, lambda: console.print(Text(now().line), highlight=False, soft_wrap=True)):
            yield
    else:
        yield


def in_page() -> bool:
    """Whether IPython has a page to show HTML on: in a notebook, and not in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def in_terminal(look: Look, console: Console) -> Iterator[None]:
    if not _DRAWING.acquire(blocking=False):
        yield
        return
    try:
        with Redrawn(get_renderable=look, console=console, refresh_per_second=1 / REFRESH_SECONDS):
            yield
    finally:
        _DRAWING.release()


@contextmanager
def in_notebook(look: Look) -> Iterator[None]:
    with extra("notebooks"):
        from IPython.display import display

    handle = display(look(), display_id=True)
    try:
        with every(REFRESH_SECONDS, lambda: handle.update(look())):
            yield
    finally:
        handle.update(look())


@contextmanager
def every(seconds: float, act: Callable[[], Any]) -> Iterator[None]:
    """Do something now and then in a thread while the block runs; what goes wrong there is left out."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            # a file that is being written, a page that went away: the next call will try again
            with suppress(Exception):
                act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
