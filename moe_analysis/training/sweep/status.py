"""How far a sweep is, read from its runs' folders alone, and the live table or the lines that a person watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape

from ..config import TrainConfig
from ..live.display import shown
from ..live.panel import Panel
from ..live.progress import WAITING, RunProgress, clock, progress_of, run_state
from ..run import FINISHED, Run
from ..run_files import COLUMNS, FAILED, STOPPED
from .work import Outcome, failed_at


class SweepStatus:
    """Where every run of a sweep is, each time it is asked; made before the sweep starts.

    A failure.txt that was there before belongs to an earlier sweep: its run is to be tried again and waits.
    """

    def __init__(self, configs: Iterable[TrainConfig], out: str | Path) -> None:
        self.runs = {config.run_name: Run(Path(out) / config.run_name, config) for config in configs}
        self.failed_before = {name: failed_at(run.path) for name, run in self.runs.items()}
        self.finished: dict[str, RunProgress] = {}
        self.read()

    def read(self) -> list[RunProgress]:
        return [self._read(name, run) for name, run in self.runs.items()]

    def look(self) -> Panel:
        """The panel of all runs, as they are now."""
        return Panel(self.read())

    def _read(self, name: str, run: Run) -> RunProgress:
        if name in self.finished:
            return self.finished[name]
        state = run_state(run)
        if state == STOPPED or (state == FAILED and failed_at(run.path) == self.failed_before[name]):
            state = WAITING
        progress = progress_of(run, state)
        if state == FINISHED:
            self.finished[name] = progress
        return progress


def table_of(configs: Iterable[TrainConfig], out: str | Path, unfinished: Mapping[str, Outcome]) -> pd.DataFrame:
    """run, state ("finished", or that of the outcome of an unfinished one), system, suite, seed, step, steps, seconds,
    loss, accuracy (test rows), error (empty where it did not fail), path; a row for every configuration, in the order
    given."""
    rows = []
    for config in configs:
        run, outcome = Run(Path(out) / config.run_name, config), unfinished.get(config.run_name)
        progress = progress_of(run, outcome.state if outcome else FINISHED)
        rows.append(
            {
                "run": run.id,
                "state": progress.state,
                "system": config.name or config.system,
                "suite": config.suite,
                "seed": config.seed,
                "step": progress.step,
                "steps": progress.steps,
                "seconds": progress.seconds,
                "loss": progress.loss,
                "accuracy": progress.accuracy,
                "error": outcome.error if outcome else "",
                "path": str(run.path),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


@contextmanager
def display(status: SweepStatus, console: Console, quiet: bool = False) -> Iterator[Callable[[str, Outcome], None]]:
    """Show a sweep while the block runs, unless quiet; what it yields is to be told of every run that ended."""
    if not (quiet or console.is_terminal):
        yield lines(status, console)
        return
    with shown(lambda: status.look, False if quiet else None, console):
        yield lambda *_: None


def lines(status: SweepStatus, console: Console) -> Callable[[str, Outcome], None]:
    """A function that prints how a run ended, with the count of those that did."""
    before = sum(row.state == FINISHED for row in status.read())
    ended = Counter({FINISHED: before})
    if before:
        console.print(f"{before} of {len(status.runs)} runs are finished already", highlight=False)

    def tell(name: str, outcome: Outcome) -> None:
        ended[outcome.state] += 1
        row = next(row for row in status.read() if row.name == name)
        what = (
            f"failed: {first_line(outcome.error)}"
            if outcome.state == FAILED
            else (
                f"finished {row.steps} steps in {clock(row.seconds)}, test loss {row.loss:.3f}, "
                f"accuracy {row.accuracy:.3f}"
            )
        )
        console.print(
            f"{ended.total()}/{len(status.runs)} {escape(name)}: {escape(what)}", highlight=False, soft_wrap=True
        )

    return tell


def first_line(text: Any) -> str:
    return str(text).partition("\n")[0]
