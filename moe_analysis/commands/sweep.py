"""`sweep`: every run of a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import campaign, completion
from .durations import seconds_of
from .exit_codes import BAD, FAILED, FINE, INTERRUPTED, TERMINATED
from .interrupts import kept
from .options import JsonOption, OutOption
from .pages import exits_of, page
from .terminal import emit, note, notes, records
from .waiting import spinner

FIRST = """base: {steps: 50, adapter: {peft_type: MOELORA, target_modules: [q_proj]}}
grid: {lr: [0.001, 0.005], adapter.r: [2, 4]}
seeds: [0, 1]"""
HELP = page(
    f"""
    Train every run of a grid, or of a campaign, that is not finished yet.

    Reads a YAML file: base (fields that all runs share), grid (field: list of values, of which every combination is
    taken), list (mappings of changes), seeds, slurm. Names with a dot reach into the adapter, as adapter.r does. Writes
    a folder a run, as train does; a run that fails leaves failure.txt and stops no other.

    A first grid.yaml, of eight runs:

    [cyan]{FIRST.replace("[", chr(92) + "[").replace(chr(10), chr(10) + "    ")}[/]

    A campaign (as campaigns/compact.yaml) tunes systems on rows held out of train and then trains each with many seeds;
    every finished run goes into the table data/results/STUDY.parquet at once, and is not trained again though its
    folder is gone. `results` shows and merges tables.

    The same command goes on where a sweep was stopped, and several machines that share the folder may run it at once.
    After the time given by --for, and after Ctrl-C, the runs that train stop behind a checkpoint, and no other begins.
    """,
    examples=[
        "sweep grid.yaml --workers 2",
        "sweep campaigns/compact.yaml --for 2h",
        "sweep grid.yaml --executor submitit --per-job 4",
        "sweep grid.yaml --executor dask --workers 8",
    ],
    exits=exits_of(FINE, BAD, INTERRUPTED, TERMINATED, **{f"code_{FAILED}": "a run failed; the others are trained"}),
)


def sweep(
    grid: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML with base, grid, list, seeds, slurm; or a campaign.")
    ],
    out: OutOption = Path("runs"),
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Runs at a time.", show_default="the cores of the machine"),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="process (this machine), dask or submitit (Slurm).",
            autocompletion=completion.executors,
        ),
    ] = "process",
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Of a Dask scheduler that runs already.", show_default="a cluster on this machine"
        ),
    ] = None,
    per_job: Annotated[
        int, typer.Option(metavar="N", help="Runs that a job trains in turn, where jobs start slowly.")
    ] = 1,
    time_limit: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="Stop after so long, behind checkpoints: 2h, 90m, 1h30m.",
            show_default="until all runs are done",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Of a campaign's table.", show_default="data/results of the clone"),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            metavar="K/N",
            help="Of a campaign: train every N-th run from the K-th on, the others elsewhere.",
            show_default="all runs",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the runs of `grid`; see HELP."""
    seconds = None if time_limit is None else seconds_of("--for", time_limit)
    with spinner("loading torch, transformers and PEFT"):
        from ..campaigns.files import is_campaign
        from ..training.sweep.grid import read_grid

    how: dict[str, Any] = {
        "workers": workers,
        "executor": executor,
        "scheduler": scheduler,
        "per_job": per_job,
        "seconds": seconds,
    }
    if is_campaign(grid):
        campaign.run(grid, out, results, how, part, as_json)
    for name, value in (("--results", results), ("--part", part)):
        if value is not None:
            raise ValueError(f"{name} = {str(value)!r} is of a campaign, and {grid} is a grid; leave it out")
    plan = read_grid(grid)
    done = swept(plan, out, **how)
    for name, outcome in done.failures.items():
        note(f"{name} failed: {outcome.error}\n  traceback: {out / name / 'failure.txt'}", style="red")
    if done.left:
        note(f"{len(done.left)} runs are left; the same command goes on with them", style="yellow")
    if as_json:
        emit(records(done.table))
    raise typer.Exit(FAILED if done.failures else FINE)


def swept(
    plan: Any, out: Path, workers: int | None, executor: str, scheduler: str | None, per_job: int, seconds: float | None
) -> Any:
    """The `Sweep`, shown on stderr while it runs."""
    from ..training.sweep import sweep as train_them
    from ..training.sweep.executors import open_executor
    from ..training.sweep.status import SweepStatus, display

    status = SweepStatus(plan.configs, out)
    with (
        kept(f"finished runs are kept in {out}, and the others go on from the last checkpoints."),
        open_executor(executor, out, workers, scheduler, plan.slurm) as (chosen, limit),
        display(status, notes) as tell,
    ):
        return train_them(plan.configs, out, chosen, limit, tell, per_job, seconds)
