"""`runs`: list the runs of a folder; the group of the commands that show, compare and delete them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from . import completion, runs_compare, runs_delete, runs_show
from .exit_codes import BAD, FINE
from .options import JsonOption, OutOption, StatesOption
from .pages import exits_of, page
from .program import Command, Group
from .terminal import emit, note, number, records, show, table
from .waiting import each, spinner

STYLES = {"finished": "green", "running": "cyan", "failed": "red", "damaged": "red", "stopped": "yellow"}
LOOPS = 8  # that are named
NUMBERS = ("step", "seconds", "loss", "accuracy")
HELP = page(
    """
    List the runs of a folder, or show, compare and delete some of them.

    States: finished; running (a process trains it now); stopped (the same command goes on with it); failed (its
    failure.txt says why); damaged (its files cannot be read). Loss and accuracy are means over the data sets' test
    rows.
    """,
    examples=[
        "runs",
        "runs --state finished --name T-REX --sort loss",
        "runs --out /data/runs --json",
        "runs compare 'T-REX*s0*' 'LoRA-MoE*s0*'",
        "runs delete --state failed '*'",
    ],
    exits=exits_of(FINE, **{f"code_{BAD}": "no such folder or run"}),
)

app = typer.Typer(cls=Group, rich_markup_mode="rich")
app.command("show", cls=Command, help=runs_show.HELP)(runs_show.show_run)
app.command("compare", cls=Command, help=runs_compare.HELP)(runs_compare.compare)
app.command("delete", cls=Command, help=runs_delete.HELP)(runs_delete.delete)


@app.callback(invoke_without_command=True, help=HELP)
def runs(
    ctx: typer.Context,
    out: OutOption = Path("runs"),
    state: StatesOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Only runs whose id or system has this in it, or fits it, as 'g?SGD*'.",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN", help=f"Order: {', '.join(completion.ORDERS)}.", autocompletion=completion.orders
        ),
    ] = "run",
    reverse: Annotated[bool, typer.Option("--reverse", help="Largest first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the runs of `out`; see HELP."""
    if ctx.invoked_subcommand is not None:
        if state or name or reverse or sort != "run":
            raise typer.BadParameter("filters and sorting are of the list; write them without a command behind `runs`")
        return
    check_choices("--state", state or [], completion.STATES)
    check_choices("--sort", [sort], completion.ORDERS)
    listed = listing(out, state or [], name, sort, reverse)
    if as_json:
        emit(records(listed))
        return
    show(runs_table(listed))
    note(summary(listed, out))
    note_loops(out)
    for run in listed[listed["error"] != ""].itertuples():
        note(f"{run.run}: {run.error}", style="red")


def check_choices(option: str, given: list[str], known: tuple[str, ...]) -> None:
    if unknown := [value for value in given if value not in known]:
        raise typer.BadParameter(f"{option} {unknown[0]} is unknown; choose from {', '.join(known)}")


def listing(out: Path, states: list[str], name: str | None, sort: str, reverse: bool) -> Any:
    """The frame of `list_runs`, filtered and sorted."""
    with spinner("loading torch, transformers and PEFT"):
        from ..training.run_folder import chosen, list_runs, run_paths

    return chosen(list_runs(each(run_paths(out), "reading runs")), states, name, sort, reverse)


def runs_table(runs: Any) -> Any:
    listed = table("run", "state", *NUMBERS, numbers=NUMBERS)
    for run in runs.itertuples():
        state = f"[{STYLES[run.state]}]{run.state}[/]"
        step = "" if run.state == "damaged" else f"{run.step}/{run.steps}"
        listed.add_row(escape(run.run), state, step, number(run.seconds, 0), number(run.loss), number(run.accuracy))
    return listed


def note_loops(out: Path) -> None:
    """Name the records of a person's own loops, which have no state, no tests and no configuration to list."""
    from ..training.run_folder import attached_paths

    if loops := attached_paths(out):
        names = ", ".join(path.name for path in loops[:LOOPS]) + (", …" if len(loops) > LOOPS else "")
        note(
            f"{len(loops)} recorded loop{'s' * (len(loops) != 1)} besides: {names}; "
            f"ma.AttachedRun.load({str(loops[0])!r}) opens one"
        )


def summary(runs: Any, out: Path) -> str:
    """Such as "75 runs in runs: 74 finished, 1 failed"."""
    counts = runs["state"].value_counts()
    parts = [f"{counts[state]} {state}" for state in completion.STATES if state in counts]
    return f"{len(runs)} run{'s' * (len(runs) != 1)} in {out}" + (f": {', '.join(parts)}" if parts else "")
