"""The command line: `python -m moe_analysis --help`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

HELP = "Train mixtures of low-rank experts, regenerate the papers' figures, check their theorems."
app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=HELP)
console = Console()
OnlyOption = Annotated[list[str] | None, typer.Option(help="A figure id or notebook; repeat for several.")]


@app.command()
def figures(
    only: OnlyOption = None,
    preset: Annotated[str, typer.Option(help="tiny, quick or full")] = "quick",
    suite: Annotated[str | None, typer.Option(help="embedded, a folder, or a name in $MOE_ANALYSIS_DATA")] = None,
    backbone: Annotated[str | None, typer.Option(help="compact, or a Hugging Face id or folder")] = None,
    runs: Annotated[Path | None, typer.Option(help="where runs are kept")] = None,
    out: Annotated[Path | None, typer.Option(help="where figures are written; default figures/")] = None,
) -> None:
    """Regenerate the figures by executing their notebooks; finished runs are used again."""
    from . import figures as making
    from .presets import preset as named

    named(preset)
    items = making.choose(only or [])
    if suite:
        from .tasks.suite import load_suite

        load_suite(suite)  # a wrong suite is told now, not minutes into a notebook
        suite = str(Path(suite).resolve()) if Path(suite).is_dir() else suite
        out = out or making.PROJECT / "figures" / Path(suite).name
    values = {"PRESET": preset, "SUITE": suite, "BACKBONE": backbone, "RUNS": str(runs.resolve()) if runs else None,
              "FIGURES": str(out.resolve()) if out else None}  # fmt: skip
    started = time.monotonic()
    text = (TextColumn("{task.description}"), TextColumn("{task.fields[note]}"))
    with Progress(SpinnerColumn(), *text, BarColumn(), TimeElapsedColumn(), console=console) as bar:
        tasks: dict[str, Any] = {}

        def on_cell(notebook: str, cell: int, cells: int) -> None:
            if notebook not in tasks:
                tasks[notebook] = bar.add_task(notebook, total=cells, note="")
            bar.update(tasks[notebook], completed=cell, note=f"cell {cell}/{cells}")
            if cell == cells:
                bar.stop_task(tasks[notebook])

        paths = making.regenerate(items, {f"MOE_ANALYSIS_{name}": value for name, value in values.items()}, on_cell)
    for item, path in zip(items, paths):
        console.print(f"{item.title:55s} {path}", highlight=False)
    from .gallery import build

    console.print(f"{'gallery':55s} {build(paths[0].parent)}", highlight=False)
    console.print(f"done in {time.monotonic() - started:.0f} s", highlight=False)


@app.command()
def gallery(
    folder: Annotated[Path | None, typer.Option(help="where the figures are; default figures/")] = None,
) -> None:
    """Write index.html: every figure with its claims, numbers and origin on one page that needs no network."""
    from .gallery import build
    from .plots.save import figures_folder

    console.print(f"{build(figures_folder(folder))}", highlight=False, soft_wrap=True)


@app.command()
def verify(as_json: Annotated[bool, typer.Option("--json", help="print a list of objects")] = False) -> None:
    """Check the papers' theorems; exit status 1 if a claim does not hold."""
    from .theory import verify as check

    table = check()
    if as_json:
        typer.echo(json.dumps(json.loads(table.to_json(orient="records")), indent=1))
    else:
        console.print(claims_table(table))
    raise typer.Exit(0 if table["holds"].all() else 1)


def claims_table(claims: Any) -> Table:
    table = Table("claim", "source", "statement", "measured", "expected", "residual", "holds")
    for claim in claims.itertuples():
        values = (str(claim.measured), str(claim.expected), f"{claim.residual:.1e}")
        verdict = "[green]yes[/]" if claim.holds else "[red]no[/]"
        table.add_row(claim.name, claim.source, claim.statement, *values, verdict)
    return table


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="JSON of a TrainConfig; adapter needs a peft_type")],
    out: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="print path and final numbers as JSON")] = False,
) -> None:
    """Train one run; called again after an interruption it goes on from its last checkpoint.

    Over several processes: `torchrun --nproc_per_node 2 -m moe_analysis train config.json`.
    """
    from .training import TrainConfig, train
    from .training.distributed import first
    from .training.run import read_json

    run = train(TrainConfig.from_dict(read_json(config)), out=out, progress=not as_json)
    if not first():
        return
    last = run.history[run.history["split"] == "test"].iloc[-1]
    if as_json:
        numbers = {name: float(last[name]) for name in ("loss", "accuracy")}
        typer.echo(json.dumps({"path": str(run.path), **numbers}))
    else:
        console.print(f"{run.path}: test loss {last['loss']:.3f}, accuracy {last['accuracy']:.3f}", highlight=False)


@app.command()
def sweep(
    grid: Annotated[Path, typer.Argument(help="YAML with base, grid, list, seeds, slurm")],
    out: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs"),
    workers: Annotated[int | None, typer.Option(help="runs at a time; default: the machine's cores")] = None,
    executor: Annotated[str, typer.Option(help="process, dask or submitit (Slurm)")] = "process",
    scheduler: Annotated[str | None, typer.Option(help="address of a Dask scheduler that runs already")] = None,
    per_job: Annotated[int, typer.Option(help="runs that a job trains in turn, where jobs start slowly")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print a list of objects at the end")] = False,
) -> None:
    """Train every run of a grid that is not finished; exit status 1 if one failed. Call it again to go on."""
    from .training.executors import open_executor
    from .training.grid import read_grid
    from .training.live import display
    from .training.sweep import sweep as train_them
    from .training.sweep_status import SweepStatus

    plan = read_grid(grid)
    told = Console(stderr=True) if as_json else console
    status = SweepStatus(plan.configs, out)
    try:
        with open_executor(executor, out, workers, scheduler, plan.slurm) as (chosen, limit), \
                display(status, told) as tell:  # fmt: skip
            done = train_them(plan.configs, out, chosen, limit, tell, per_job)
    except KeyboardInterrupt:
        told.print("stopped; the same command goes on from the last checkpoints", highlight=False)
        raise typer.Exit(130) from None
    for name, outcome in done.failures.items():
        told.print(f"[red]{escape(name)} failed:[/] {escape(outcome.error)}\n  traceback: {out / name / 'failure.txt'}",
                   highlight=False, soft_wrap=True)  # fmt: skip
    if as_json:
        typer.echo(json.dumps(json.loads(done.table.to_json(orient="records")), indent=1))
    raise typer.Exit(1 if done.failures else 0)


@app.command()
def runs(out: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs")) -> None:
    """List the runs of a folder."""
    from .training.run import Run, RunError
    from .training.sweep_status import run_state

    table = Table("run", "state", "step", "seconds", "test loss", "test accuracy")
    for path in sorted(out.glob("*/config.json")):
        try:
            run = Run.load(path.parent)
            status, state = run.status, run_state(run)
            tests = run.history[run.history["split"] == "test"] if run.finished else None
        except RunError as error:
            console.print(f"[red]{error}[/]", highlight=False)
            continue
        numbers = [f"{tests[name].iloc[-1]:.3f}" if tests is not None else "" for name in ("loss", "accuracy")]
        step, seconds = f"{status.get('step', 0)}/{run.config.steps}", str(status.get("seconds", ""))
        table.add_row(run.id, state, step, seconds, *numbers)
    console.print(table)


def main() -> None:
    """Run the command line; errors of ours are one message, not a traceback."""
    try:
        app()
    except (ValueError, RuntimeError) as error:
        console.print(f"[red]error:[/] {error}", highlight=False, markup=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
