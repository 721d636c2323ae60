"""`sweep`: many runs from a grid file or a campaign, shown as they run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .options import JsonOption, OutOption, QuietOption, exits_of, page
from .program import BAD, FAILED, FINE, INTERRUPTED, TERMINATED, kept
from .terminal import emit, note, notes, records, seconds_of, spinner

PART = re.compile(r"(\d+)/(\d+)")
FIRST = """base: {steps: 50, adapter: {peft_type: MOELORA, target_modules: [q_proj]}}
grid: {lr: [0.001, 0.005], adapter.r: [2, 4]}
seeds: [0, 1]"""
HELP = page(
    f"""
    Train every unfinished run of a grid or a campaign.

    Reads a YAML file: base (fields that all runs share), grid (field: list of values; every combination is trained),
    list (mappings of changes), seeds, slurm. adapter.r is the field r of the adapter. Writes one folder per run, like
    train; a run that fails leaves a failure.txt, and the other runs are still trained.

    A first grid.yaml with eight runs:

    [cyan]{FIRST.replace("[", chr(92) + "[").replace(chr(10), chr(10) + "    ")}[/]

    A campaign (such as campaigns/compact.yaml) tunes systems on held-out training rows and then trains each with many
    seeds. Every finished run is added to the table data/results/STUDY.parquet, and is not trained again even if its
    folder is gone. `results` shows and merges tables.

    The same command resumes a sweep that was stopped, and several machines that share the folder may run it at once.
    After the time given by --for, or Ctrl-C, running runs stop after a checkpoint, and no new run starts.
    """,
    examples=[
        "sweep grid.yaml --workers 2",
        "sweep campaigns/compact.yaml --for 2h",
        "sweep grid.yaml --executor submitit --per-job 4",
        "sweep grid.yaml --executor dask --workers 8",
    ],
    exits=exits_of(FINE, BAD, INTERRUPTED, TERMINATED, own={FAILED: "a run failed; the others are trained"}),
)


@dataclass(frozen=True)
class How:
    """Options that a grid and a campaign share."""

    workers: int | None
    executor: str
    scheduler: str | None
    per_job: int
    seconds: float | None
    quiet: bool


def part_of(text: str | None) -> tuple[int, int]:
    """(k, n) of "k/n"; (1, 1) for None."""
    if text is None:
        return 1, 1
    found = PART.fullmatch(text)
    k, n = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= k <= n:
        raise ValueError(f"--part = {text!r} is not a part; write 1/2 here and 2/2 on the second of two machines")
    return k, n


def train_campaign(path: Path, out: Path, folder: Path | None, how: How, part: str | None, as_json: bool) -> None:
    """Train the runs of the campaign in `path` that the table lacks; ends the program with its status."""
    from ..campaigns.files import read_campaign
    from ..campaigns.results import table_path
    from ..campaigns.running import run_campaign
    from ..training.sweep.executors import open_executor

    which, campaign = part_of(part), read_campaign(path)
    table = table_path(campaign.study, folder)
    with (
        kept(f"finished runs are in {table}, and the others resume from the last checkpoints in {out}."),
        open_executor(how.executor, out, how.workers, how.scheduler, campaign.slurm) as (chosen, limit),
    ):
        watch = watching(table, out, how.quiet)
        done = run_campaign(campaign, table, out, watch, chosen, limit, how.per_job, how.seconds, which)
    told(done, out)
    told_of_table(done, table)
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


def watching(table: Path, out: Path, quiet: bool) -> Any:
    """The `Watch` of a campaign on stderr; with `--quiet` it shows no single runs."""
    from ..training.sweep.running import SweepStatus, display

    @contextmanager
    def watch(stage: str, missing: Sequence[Any], count: int) -> Iterator[Any]:
        note(f"{stage}: {count - len(missing)} of {count} runs are in {table}; training {len(missing)}")
        with display(SweepStatus(missing, out), notes, quiet) as tell:
            yield tell

    return watch


def told(done: Any, out: Path) -> None:
    """Say what failed and what is left of a sweep or a campaign."""
    for name, outcome in done.failures.items():
        file = out / name / "failure.txt"  # not of a run whose files are damaged
        where = f"\n  traceback: {file}" if file.exists() else ""
        note(f"{name} failed: {outcome.error}{where}", style="red")
    if done.left:
        note(f"{len(done.left)} runs are left; the same command resumes them", style="yellow")


def told_of_table(done: Any, table: Path) -> None:
    for name, reason in done.unwritten.items():
        note(f"{name} is finished, but not in the table: {reason}", style="red")
    for one in done.differences:
        note(f"the table keeps its first outcome of {one}", style="red")
    if done.untuned and not done.left:
        note(
            f"final runs were not trained because tuning runs are missing in {table}: {', '.join(done.untuned)}; train or "
            "merge those, then call again",
            style="yellow",
        )
    elif not done.left:
        note(f"all runs are in {table}")


def sweep(
    grid: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML with base, grid, list, seeds, slurm; or a campaign.")
    ],
    out: OutOption = Path("runs"),
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Runs at a time.", show_default="the cores of the machine")
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="process (this machine), dask or submitit (Slurm).", autocompletion=options.executors
        ),
    ] = "process",
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address of a running Dask scheduler.", show_default="a cluster on this machine"
        ),
    ] = None,
    per_job: Annotated[
        int, typer.Option(metavar="N", help="Runs per job, one after another; useful if jobs start slowly.")
    ] = 1,
    time_limit: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="Stop after this time, with checkpoints: 2h, 90m, 1h30m.",
            show_default="until all runs are done",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of a campaign's table.", show_default="data/results of the clone"),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="For a campaign: train every N-th run from the K-th on; other machines train the rest.",
            show_default="all runs",
        ),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the runs of `grid`; see HELP."""
    seconds = None if time_limit is None else seconds_of("--for", time_limit)
    if not grid.exists():  # reported before anything heavy is loaded
        raise ValueError(f"{grid} is missing; pass a YAML file like the one in `sweep --help`")
    with spinner("loading torch, transformers and PEFT"):
        from ..campaigns.files import is_campaign
        from ..training.sweep.grid import read_grid

    how = How(workers, executor, scheduler, per_job, seconds, quiet)
    if is_campaign(grid):
        train_campaign(grid, out, results, how, part, as_json)
    for name, value in (("--results", results), ("--part", part)):
        if value is not None:
            raise ValueError(f"{name} = {str(value)!r} works only with a campaign, but {grid} is a grid; omit it")
    done = swept(read_grid(grid), out, how)
    told(done, out)
    if as_json:
        emit(records(done.table))
    raise typer.Exit(FAILED if done.failures else FINE)


def swept(plan: Any, out: Path, how: How) -> Any:
    """The `Sweep`, shown on stderr while it runs, unless quiet."""
    from ..training.sweep.executors import open_executor
    from ..training.sweep.running import SweepStatus, display
    from ..training.sweep.running import sweep as train_them

    status = SweepStatus(plan.configs, out)
    with (
        kept(f"finished runs are kept in {out}, and the others resume from the last checkpoints."),
        open_executor(how.executor, out, how.workers, how.scheduler, plan.slurm) as (chosen, limit),
        display(status, notes, how.quiet) as tell,
    ):
        return train_them(plan.configs, out, chosen, limit, tell, how.per_job, how.seconds, progress=False)
