"""`results`: the tables of long studies: listed, shown with their tuning, merged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..places import shipped
from .options import JsonOption, exits_of, page
from .program import BAD, FAILED, FINE, Command, Group
from .terminal import answer, emit, note, number, records, show, spinner, table

FolderOption = Annotated[
    Path | None,
    typer.Option("--results", metavar="FOLDER", help="Folder of the tables.", show_default="data/results of the clone"),
]
TITLES = {
    "tuning": "tuning, on rows held out of train",
    "left out": "tasks left out: at floor or ceiling for the strongest reference",
    "final runs": "final runs, on test rows, means over seeds",
}
HELP = page(
    """
    List the tables of results, or show and merge some of them.

    A table is one Parquet file per study, one row per finished run: configuration, seed, which test rows were answered
    right, losses, the loss curve, seconds, machine and version. `sweep` writes it while a campaign runs.
    """,
    examples=["results", "results show compact", "results merge a.parquet b.parquet --into c.parquet"],
    exits=exits_of(FINE, own={BAD: "no such table, a damaged one, or one of another schema"}),
)
SHOW_HELP = page(
    """
    Show what a study found: the whole tuning grid of every system with the chosen cell, the tasks that its rule
    excludes, and the final runs by the declared endpoints.

    Grid, rule and endpoints come from the campaign file. Without it, means of the final runs over all data sets of
    their own suite are shown.
    """,
    examples=["results show compact", "results show compact --json"],
    exits=exits_of(FINE, own={BAD: "no such table, a damaged one, or one of another schema"}),
)
MERGE_HELP = page(
    """
    Merge tables of one study from several machines.

    Rows with the same configuration and seed are the same run. The first one is kept, and runs whose rows differ are
    named.
    """,
    examples=["results merge a.parquet b.parquet --into c.parquet"],
    exits=exits_of(
        FINE,
        own={
            FAILED: "merged, and some run has different outcomes in two tables",
            BAD: "no such table, a damaged one, or one of another schema or study",
        },
    ),
)

app = typer.Typer(cls=Group, rich_markup_mode="rich")


@app.callback(invoke_without_command=True, help=HELP)
def results(ctx: typer.Context, folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """List the tables of a folder; see HELP."""
    ctx.obj = folder
    if ctx.invoked_subcommand is not None:
        return
    with spinner("loading pandas and pyarrow"):
        from ..campaigns.results import RESULTS_FOLDER, listed

    where = folder or RESULTS_FOLDER
    if not where.is_dir():
        raise ValueError(f"--results = {str(where)!r} is not a folder; pass the folder of your tables")
    found = listed(where)
    if as_json:
        emit(records(found))
        return
    counts = ("systems", "seeds", "runs")
    shown = table("study", "stage", *counts, "hours", numbers=(*counts, "hours"))
    for one in found.to_dict("records"):
        numbers = [str(one[name]) for name in counts]
        shown.add_row(escape(one["study"]), one["stage"], *numbers, number(one["hours"], 1))
    show(shown)
    note(f"{found['study'].nunique()} tables in {where}")


@app.command("show", cls=Command, help=SHOW_HELP)
def show_results(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Name of a study, or the path of a table (.parquet).")],
    campaign: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The campaign's file.", show_default="the packaged file of STUDY"),
    ] = None,
    folder: FolderOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the tuning and the final runs of a study; see SHOW_HELP."""
    with spinner("loading pandas and pyarrow"):
        from ..campaigns.results import known_rows, result_runs

    folder = folder or ctx.obj
    rows = known_rows(study, folder)  # a missing name is reported before anything heavy is loaded
    path = campaign or shipped("campaigns") / f"{Path(study).stem}.yaml"
    hidden = "" if campaign or path.exists() else f"{path} is not there; pass it with --campaign"
    if not hidden:
        from ..campaigns.campaign import CampaignError
        from ..tasks.rows import SuiteError

        try:
            frames, notes = of_campaign(path, rows)
        except CampaignError as error:
            if campaign or not isinstance(error.__cause__, SuiteError):
                raise
            hidden = str(error.__cause__)  # the table is shown even without the data it was measured on
    if hidden:
        frames = {"final runs": final_means(result_runs(study, folder))}
        notes = [f"tuning and endpoints are not shown: {hidden}"]
    if as_json:
        emit({**{name.replace(" ", "_"): records(frame) for name, frame in frames.items()}, "notes": notes})
        return
    for name, frame in frames.items():
        if len(frame):
            show(frame_table(frame, TITLES[name]))
    for text in notes:
        note(text, style="yellow")


def of_campaign(path: Path, rows: Any) -> tuple[dict[str, Any], list[str]]:
    """(the frames to show by name, what to mind) of a campaign and the rows of its table."""
    from ..campaigns.endpoints import system_means, task_table
    from ..campaigns.files import read_campaign
    from ..campaigns.tuning import at_an_end, chosen_cells, tuning_table

    campaign = read_campaign(path, rows)
    chosen, tasks = chosen_cells(campaign, rows), task_table(campaign, rows)
    open_labels = [label for label in campaign.systems if label not in chosen]
    missing = [f"{', '.join(open_labels)}: the tuning is not complete, nothing is chosen"] if open_labels else []
    frames = {
        "tuning": tuning_table(campaign, rows),
        "left out": tasks[~tasks["kept"]].drop(columns="kept"),
        "final runs": system_means(campaign, rows),
    }
    return frames, [*missing, *at_an_end(campaign, chosen)]


def final_means(runs: Any) -> Any:
    """system, configuration, seeds and the means over them; two configurations of one label stay two lines."""
    final = runs[runs["stage"] == "final"]
    grouped = final.groupby(["system", "configuration"], sort=False)
    means = grouped.agg(
        seeds=("seed", "size"),
        accuracy=("accuracy", "mean"),
        accuracy_norm=("accuracy_norm", "mean"),
        loss=("loss", "mean"),
        minutes=("seconds", lambda values: values.mean() / 60),
    )
    return means.reset_index()


def frame_table(frame: Any, title: str) -> Any:
    """A frame as a table; what was chosen is marked."""
    texts = ("system", "configuration", "chosen")
    shown = table(*frame.columns, title=title, numbers=tuple(name for name in frame.columns if name not in texts))
    for line in frame.to_dict("records"):
        shown.add_row(*map(cell, line.values()), style="bold" if line.get("chosen") else "")
    return shown


def cell(value: Any) -> str:
    if isinstance(value, bool):
        return "✓" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


@app.command("merge", cls=Command, help=MERGE_HELP)
def merge(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="Tables of results (.parquet).")],
    into: Annotated[
        Path, typer.Option(metavar="TABLE", help="The table that gets the rows; it is created if missing.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Merge tables of one study; see MERGE_HELP."""
    with spinner("loading pandas and pyarrow"):
        from ..campaigns.table import merge_tables

    added, differences = merge_tables(tables, into)
    for one in differences:
        note(f"kept the first outcome of {one}", style="red")
    if as_json:
        emit({"into": str(into), "added": added, "differences": [str(one) for one in differences]})
    else:
        answer(f"{into}: {added} rows added")
    raise typer.Exit(FAILED if differences else FINE)
