"""`runs compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any

import typer
from rich.markup import escape

from . import options
from .options import IdsArgument, InnerOutOption, JsonOption, exits_of, page, wants_json
from .program import BAD, FINE
from .terminal import each, emit, note, number, records, show, spinner, table

MOST = 8  # columns that a terminal has room for
WITH_VALUES = 3  # runs whose own values are shown next to the differences
HELP = page(
    """
    Compare runs: how their configurations differ, how they learned, and their results for each data set.

    Differences are relative to the first run. The interval below them is that of their mean over the data sets (95 %,
    Student's t): it applies to data sets like these, not to other seeds.

    --html writes a page with the differing settings and the results as lines, and the losses on one axis. It needs no
    network and works for any number of runs.
    """,
    examples=[
        "runs compare T-REX-embedded-s0 79a6b6",
        "runs compare 'T-REX*' --json",
        "runs compare '*' --html compared.html",
    ],
    exits=exits_of(FINE, own={BAD: "fewer than two runs, or one that cannot be read"}),
)


def compare(
    ctx: typer.Context,
    ids: IdsArgument,
    out: InnerOutOption = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page that shows the comparison.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the runs; see HELP."""
    if html is not None and html.suffix != ".html":
        raise typer.BadParameter(f"--html {html} is not a page; pass a name that ends in .html")
    from ..training.run_folder import find_runs

    paths = find_runs(options.runs_folder(ctx), ids)
    with spinner("loading torch, transformers and PEFT"):
        from ..run_comparison import tables as comparing
        from ..run_comparison.comparison import RunComparison
        from ..training.run import Run

    as_json = wants_json(ctx, as_json)
    if not as_json and html is None and len(paths) > MOST:
        raise ValueError(
            f"{len(paths)} runs match, but a table has room for {MOST}; name fewer, or pass --json or --html"
        )
    runs = [Run.load(path) for path in each(paths, "reading runs")]
    compared = RunComparison(runs)
    if html is not None:
        note(f"wrote {compared.save(html)}")
    parts = {
        "config": comparing.config_differences(runs),
        "final": comparing.final_results(runs),
        "loss": comparing.loss_windows(runs),
        "datasets": comparing.dataset_scores(runs),
    }
    parts["mean_differences"] = comparing.mean_differences(parts["datasets"])
    if as_json:
        emit({name: records(frame) for name, frame in parts.items()})
        return
    if len(paths) > MOST:
        note(f"{len(paths)} runs match, but a table has room for {MOST}; the page has them all")
        return
    labels = dict(zip((run.id for run in runs), ascii_uppercase))
    show(
        final_table(parts["final"], labels),
        config_table(compared.differences, labels),
        loss_table(parts["loss"], labels),
        *(scores_table(one, parts["datasets"], parts["mean_differences"], labels) for one in comparing.MEASURES),
    )
    if count := len(parts["config"]) - len(compared.differences):
        note(
            f"left out of the configurations: {count} fields that only some adapters have, at their defaults; --json "
            "lists them"
        )


def final_table(final: Any, labels: dict[str, str]) -> Any:
    numbers = ("step", "seconds", "train", "test", "accuracy")
    listed = table("", "run", *numbers, numbers=numbers, title="final losses and accuracy")
    for row in final.itertuples():
        values = (row.train_loss, row.test_loss, row.test_accuracy)
        cells = (number(row.step, 0), number(row.seconds, 0), *map(number, values))
        listed.add_row(f"[bold]{labels[row.run]}[/]", escape(row.run), *cells)
    return listed


def config_table(differences: Any, labels: dict[str, str]) -> Any:
    """One row per field: the values of the runs, and what the field means."""
    heads = ("field", *labels.values(), "what it means")
    listed = table(*heads, title="configurations" + (" are the same" * differences.empty))
    for name, meaning, *values in differences.itertuples(index=False):
        listed.add_row(name, *("–" if value is None else escape(str(value)) for value in values), escape(meaning))
    return listed


def loss_table(windows: Any, labels: dict[str, str]) -> Any:
    listed = table("steps", *labels.values(), numbers=("steps", *labels.values()), title="training loss")
    for (first, last), rows in windows.groupby(["first", "last"], sort=True):
        losses = rows.set_index("run")["loss"]
        listed.add_row(f"{first}–{last}", *(number(losses.get(run)) for run in labels))
    return listed


def scores_table(measure: str, scores: Any, means: Any, labels: dict[str, str]) -> Any:
    """One row per data set: values of the runs where there is room, and differences to the first."""
    first, *others = labels
    shown = list(labels) if len(labels) <= WITH_VALUES else [first]
    heads = [*(labels[run] for run in shown), *(f"{labels[run]}−{labels[first]}" for run in others)]
    listed = table("data set", "rows", *heads, numbers=("rows", *heads), title=f"test {measure}")
    for dataset, rows in scores.groupby("dataset", sort=False):
        rows = rows.set_index("run")
        values = [number(rows[measure].get(run)) for run in shown]
        gaps = [number(rows[f"{measure}_difference"].get(run), sign=True) for run in others]
        listed.add_row(escape(str(dataset)), " ".join(sorted({str(count) for count in rows["rows"]})), *values, *gaps)
    if len(scores):
        own = [number(scores.loc[scores["run"] == run, measure].mean()) for run in shown]
        spread = means[means["measure"] == measure].set_index("run")
        listed.add_section()
        listed.add_row("mean", "", *own, *(number(spread["difference"].get(run), sign=True) for run in others))
        for bound in ("low", "high"):
            listed.add_row(
                f"95 % {bound}", "", *([""] * len(own)), *(number(spread[bound].get(run), sign=True) for run in others)
            )
    return listed
