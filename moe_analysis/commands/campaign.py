"""What `sweep` does with a campaign: its stages shown as they run, and what they came to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from .exit_codes import FAILED, FINE
from .interrupts import kept
from .terminal import emit, note

PART = re.compile(r"(\d+)/(\d+)")


def part_of(text: str | None) -> tuple[int, int]:
    """(k, n) of "k/n"; (1, 1) for None."""
    if text is None:
        return 1, 1
    found = PART.fullmatch(text)
    k, n = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= k <= n:
        raise ValueError(f"--part = {text!r} is no part; write 1/2 here and 2/2 on the second of two machines")
    return k, n


def run(path: Path, out: Path, folder: Path | None, how: dict[str, Any], part: str | None, as_json: bool) -> None:
    """Train what the table of the campaign in `path` lacks; ends the program with its status.

    how: workers, executor, scheduler, per_job and seconds, as of the command `sweep`.
    """
    from ..campaigns.files import read_campaign
    from ..campaigns.results import table_path
    from ..campaigns.running import run_campaign
    from ..training.sweep.executors import open_executor

    which, campaign = part_of(part), read_campaign(path)
    table = table_path(campaign.study, folder)
    with (
        kept(f"finished runs are in {table}, and the others go on from the last checkpoints in {out}."),
        open_executor(how["executor"], out, how["workers"], how["scheduler"], campaign.slurm) as (chosen, limit),
    ):
        done = run_campaign(
            campaign, table, out, watching(table, out), chosen, limit, how["per_job"], how["seconds"], which
        )
    tell(done, table, out)
    if as_json:
        emit(
            {
                "study": campaign.study,
                "table": str(table),
                "left": done.left,
                "untuned": done.untuned,
                "failures": {name: outcome.error for name, outcome in done.failures.items()},
                "unwritten": done.unwritten,
                "differences": [str(one) for one in done.differences],
            }
        )
    raise typer.Exit(FAILED if done.failures or done.unwritten or done.differences else FINE)


def watching(table: Path, out: Path) -> Any:
    """The `Watch` of a campaign on stderr."""
    from ..training.sweep.status import SweepStatus, display
    from .terminal import notes

    @contextmanager
    def watch(stage: str, missing: Sequence[Any], count: int) -> Iterator[Any]:
        note(f"{stage}: {count - len(missing)} of {count} runs are in {table}; training {len(missing)}")
        with display(SweepStatus(missing, out), notes) as tell:
            yield tell

    return watch


def tell(done: Any, table: Path, out: Path) -> None:
    for name, outcome in done.failures.items():
        note(f"{name} failed: {outcome.error}\n  traceback: {out / name / 'failure.txt'}", style="red")
    for name, reason in done.unwritten.items():
        note(f"{name} is finished, but not in the table: {reason}", style="red")
    for one in done.differences:
        note(f"the table keeps its first outcome of {one}", style="red")
    if done.left:
        note(f"{len(done.left)} runs are left; the same command goes on with them", style="yellow")
    elif done.untuned:
        note(
            f"without final runs, as runs of their tuning are missing in {table}: {', '.join(done.untuned)}; train or "
            "merge those, then call again",
            style="yellow",
        )
    else:
        note(f"all runs are in {table}")
