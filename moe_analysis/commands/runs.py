"""`runs`: list the runs of a folder, show one, delete some; `runs_compare` has the comparison."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..cards.in_words import counted
from ..run_comparison import settings as columns
from . import options, runs_compare
from .options import IdsArgument, InnerOutOption, JsonOption, OutOption, StatesOption, exits_of, page, wants_json
from .program import BAD, FINE, INTERRUPTED, Command, Group, kept
from .terminal import answer, each, emit, fits, note, notes, number, records, show, spinner, table

SHOW_HELP = page(
    """
    Show one run: its state, its settings, and its results for each data set.

    Settings that have their default are omitted, except with --json.
    """,
    examples=["runs show T-REX-embedded-s0", "runs show 690e63 --json"],
    exits=exits_of(FINE, own={BAD: "no such run, or one that cannot be read"}),
)
DELETE_HELP = page(
    """
    Delete runs: the whole folder of each, its records and its adapter.

    Lists them and asks first; in a script, pass --yes. If one of them is being trained, nothing is deleted. An
    interruption never leaves half a run.
    """,
    examples=[
        "runs delete HydraLoRA-embedded-s0-79a6",
        "runs delete 'LoRA-MoE*' --yes",
        "runs delete --state failed --state damaged '*'",
    ],
    exits=exits_of(FINE, INTERRUPTED, own={BAD: "no such run, or one is being trained"}),
)
STYLES = {"finished": "green", "running": "cyan", "failed": "red", "damaged": "red", "stopped": "yellow"}
LOOPS = 8  # that are named
NUMBERS = ("step", "seconds", "loss", "accuracy")
PARAMETERS = "parameters"
ALWAYS = 3  # settings that are shown where a terminal has no room for them, and ids break into lines
HELP = page(
    """
    List the runs of a folder, or show, compare and delete some of them.

    States: finished; running (a process is training it); stopped (the same command resumes it); failed (see its
    failure.txt); damaged (its files cannot be read). Loss and accuracy are means over the data sets' test rows.

    Settings that differ between the runs are columns, as many as fit into the terminal; the line above lists the
    settings that all share. In a file or a pipe, and with --json, all settings that differ are shown. Parameters are
    the numbers in the saved adapter.
    """,
    examples=[
        "runs",
        "runs --state finished --name T-REX --sort loss",
        "runs --out /data/runs --json",
        "runs compare 'T-REX*s0*' 'LoRA-MoE*s0*'",
        "runs delete --state failed '*'",
    ],
    exits=exits_of(FINE, own={BAD: "no such folder or run"}),
)

app = typer.Typer(cls=Group, rich_markup_mode="rich")


def show_run(
    ctx: typer.Context,
    run_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A run's id, its beginning, or the hash at its end.",
            autocompletion=options.run_ids,
            show_default=False,
        ),
    ],
    out: InnerOutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the run; see SHOW_HELP."""
    from ..training.files import RunError
    from ..training.run_folder import find_runs, folder_bytes, list_runs

    paths = find_runs(options.runs_folder(ctx), [run_id])
    if len(paths) > 1:
        raise RunError(f"{run_id!r} matches {len(paths)} runs; give more of the id, or use `runs compare`")
    with spinner("loading torch, transformers and PEFT"):
        from ..training.run import Run

    run = Run.load(paths[0])
    listed = records(list_runs(paths).drop(columns="settings"))[0]
    about = {**listed, "bytes": folder_bytes(run.path), "versions": run.status.get("versions", {})}
    evaluation = run.evaluation if run.finished else None
    if wants_json(ctx, as_json):
        results = None if evaluation is None else records(evaluation)
        emit({**about, "config": run.config.to_dict(), "evaluation": results})
        return
    answer(
        f"{run.id}: {about['state']}, step {about['step']} of {about['steps']}, {number(about['seconds'], 0)} s, "
        f"{about['bytes'] / 1e6:.1f} MB in {run.path}"
    )
    if about["error"]:
        note(about["error"], style="red")
    show(choices_table(run.config), *([] if evaluation is None else [results_table(evaluation)]))


def choices_table(config: Any) -> Any:
    """Fields of a configuration that are not the default of theirs, with what they mean."""
    from ..training.choices import choices, meaning

    listed = table("field", "value", "what it means", title="what was chosen")
    for choice in choices(config):
        listed.add_row(choice.field, escape(str(choice.value)), escape(meaning(choice.field, (config.adapter,))))
    return listed


def results_table(evaluation: Any) -> Any:
    numbers = ("rows", "loss", "accuracy")
    listed = table("data set", "kind", *numbers, numbers=numbers, title="test rows")
    for row in evaluation.itertuples():
        listed.add_row(escape(row.dataset), row.kind, str(row.rows), number(row.loss), number(row.accuracy))
    listed.add_section()
    means = (number(evaluation[name].mean()) for name in ("loss", "accuracy"))
    listed.add_row("mean", "", str(evaluation["rows"].sum()), *means)
    return listed


def delete(
    ctx: typer.Context,
    ids: IdsArgument,
    out: InnerOutOption = None,
    state: StatesOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the runs; see DELETE_HELP."""
    as_json = wants_json(ctx, as_json)
    paths = doomed(options.runs_folder(ctx), ids, state or [])
    if not paths or not (yes or agreed(paths, as_json)):
        note("nothing was deleted")
        deleted = []
    else:
        deleted = delete_all(paths)
    if as_json:
        emit({"deleted": deleted})
    elif deleted:
        answer(f"deleted {counted(len(deleted), 'run')}")


def doomed(folder: Path, ids: list[str], states: list[str]) -> list[Path]:
    """The runs that are named and in one of the states; raises RunError if one is being trained."""
    check_choices("--state", states, options.STATES)
    from ..training.run_folder import find_runs, list_runs, refuse_held

    paths = find_runs(folder, ids)
    if states:
        listed = list_runs(each(paths, "reading runs"))
        paths = [path for path, state in zip(paths, listed["state"]) if state in states]
    refuse_held(paths)
    return paths


def agreed(paths: list[Path], as_json: bool) -> bool:
    """Whether a person says yes; raises ValueError if nobody can be asked."""
    from ..training.run_folder import folder_bytes

    if as_json or not watched():
        raise ValueError("cannot ask for confirmation here; pass --yes to delete without it")
    for path in paths:
        note(f"  {path.name}")
    size = sum(folder_bytes(path) for path in each(paths, "measuring")) / 1e6
    notes.print(f"Delete {counted(len(paths), 'run')} ({size:.1f} MB)?", end="", highlight=False)
    return typer.confirm("", prompt_suffix=" ", err=True)


def watched() -> bool:
    return sys.stdin.isatty()


def delete_all(paths: list[Path]) -> list[str]:
    from ..training.run_folder import clear_deleted, delete_run

    deleted: list[str] = []
    for _ in clear_deleted(paths[0].parent):
        note("removed the rest of an interrupted deletion")
    with kept(lambda: f"{len(deleted)} of {len(paths)} runs are deleted, the others are unchanged."):
        for path in each(paths, "deleting"):
            delete_run(path)
            deleted.append(path.name)
    return deleted


app.command("show", cls=Command, help=SHOW_HELP)(show_run)
app.command("compare", cls=Command, help=runs_compare.HELP)(runs_compare.compare)
app.command("delete", cls=Command, help=DELETE_HELP)(delete)


@app.callback(invoke_without_command=True, help=HELP)
def runs(
    ctx: typer.Context,
    out: OutOption = Path("runs"),
    state: StatesOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Only runs whose id or system contains this or matches it, such as 'g?SGD*'.",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(metavar="COLUMN", help=f"Order: {', '.join(options.ORDERS)}.", autocompletion=options.orders),
    ] = "run",
    reverse: Annotated[bool, typer.Option("--reverse", help="Largest first.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the runs of `out`; see HELP."""
    if ctx.invoked_subcommand is not None:
        if state or name or reverse or sort != "run":
            raise typer.BadParameter("filters and sorting apply only to the list; use them with `runs` alone")
        return
    check_choices("--state", state or [], options.STATES)
    check_choices("--sort", [sort], options.ORDERS)
    from ..training.run_folder import chosen, list_runs, run_paths

    listed = chosen(list_runs(each(run_paths(out), "reading runs")), state or [], name, sort, reverse)
    if as_json:
        names = columns.differing(list(listed["settings"]))
        some = [{name: one[name] for name in names if name in one} for one in listed["settings"]]
        emit(records(listed.assign(settings=some)))
        return
    show_list(listed)
    note(summary(listed, out))
    note_loops(out)
    for run in listed[listed["error"] != ""].itertuples():
        note(f"{run.run}: {run.error}", style="red")


def check_choices(option: str, given: list[str], known: tuple[str, ...]) -> None:
    if unknown := [value for value in given if value not in known]:
        raise typer.BadParameter(f"{option} {unknown[0]} is unknown; choose from {', '.join(known)}")


def runs_table(runs: Any, settings: list[str]) -> Any:
    """The runs, with columns for these settings; `PARAMETERS` among them is the size of the saved adapter."""
    heads = [columns.title(name) for name in settings]
    listed = table("run", *heads, "state", *NUMBERS, numbers=(*heads, *NUMBERS))
    every = list(runs.itertuples())
    chosen = [
        [size_of(run) for run in every]
        if name == PARAMETERS
        else columns.cells([one.get(name) for one in runs["settings"]])
        for name in settings
    ]
    for place, run in enumerate(every):
        state = f"[{STYLES[run.state]}]{run.state}[/]"
        step = "" if run.state == "damaged" else f"{run.step}/{run.steps}"
        numbers = (number(run.seconds, 0), number(run.loss), number(run.accuracy))
        listed.add_row(escape(run.run), *(escape(texts[place]) for texts in chosen), state, step, *numbers)
    return listed


def size_of(run: Any) -> str:
    import pandas as pd

    return columns.ABSENT if pd.isna(run.parameters) else f"{run.parameters:,}".replace(",", " ")


def show_list(runs: Any) -> None:
    """Print what the runs have in common, and the table of what they do not."""
    whole = runs[runs["state"] != "damaged"]
    settings = list(whole["settings"])
    names = columns.differing(settings)
    sizes = whole["parameters"].dropna().unique()
    if len(sizes) > 1:
        names.insert(1, PARAMETERS)
    if len(whole) > 1:
        same = columns.shared(settings) | ({PARAMETERS: size_of(next(whole.itertuples()))} if len(sizes) == 1 else {})
        if same:
            answer(columns.told(same, len(whole)))
    shown = list(names)
    while len(shown) > ALWAYS and not fits(runs_table(runs, shown)):
        shown.pop()
    show(runs_table(runs, shown))
    if hidden := names[len(shown) :]:
        some = ", ".join(map(columns.title, hidden[:LOOPS])) + (", …" if len(hidden) > LOOPS else "")
        note(f"{len(hidden)} more settings differ: {some}; a wider terminal, a pipe or --json shows them")


def note_loops(out: Path) -> None:
    """Name the records of a person's own loops, which have no state, no tests and no configuration to list."""
    from ..training.run_folder import attached_paths

    if loops := attached_paths(out):
        names = ", ".join(path.name for path in loops[:LOOPS]) + (", …" if len(loops) > LOOPS else "")
        note(
            f"{counted(len(loops), 'recorded loop')} besides: {names}; ma.AttachedRun.load({str(loops[0])!r}) opens one"
        )


def summary(runs: Any, out: Path) -> str:
    """Such as "75 runs in runs: 74 finished, 1 failed"."""
    counts = runs["state"].value_counts()
    parts = [f"{counts[state]} {state}" for state in options.STATES if state in counts]
    return f"{counted(len(runs), 'run')} in {out}" + (f": {', '.join(parts)}" if parts else "")
