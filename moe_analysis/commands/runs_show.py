"""`runs show`: one run in full."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

import typer
from rich.markup import escape

from . import completion
from .exit_codes import BAD, FINE
from .options import InnerOutOption, JsonOption
from .pages import exits_of, page
from .terminal import answer, emit, note, number, records, show, table
from .waiting import spinner

HELP = page(
    """
    Show one run: its state, the choices it was made with, and its results data set by data set.

    Fields of the configuration that have their default are left out, except with --json.
    """,
    examples=["runs show T-REX-embedded-s0", "runs show 690e63 --json"],
    exits=exits_of(FINE, **{f"code_{BAD}": "no such run, or one that cannot be read"}),
)


def show_run(
    ctx: typer.Context,
    run_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A run's id, its beginning, or the hash at its end.",
            autocompletion=completion.run_ids,
            show_default=False,
        ),
    ],
    out: InnerOutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the run; see HELP."""
    with spinner("loading torch, transformers and PEFT"):
        from ..training.files import RunError
        from ..training.run import Run
        from ..training.run_folder import find_runs, folder_bytes, list_runs

    paths = find_runs(completion.runs_folder(ctx), [run_id])
    if len(paths) > 1:
        raise RunError(f"{run_id!r} fits {len(paths)} runs; show one, or compare them")
    run = Run.load(paths[0])
    listed = records(list_runs(paths))[0]
    about = {**listed, "bytes": folder_bytes(run.path), "versions": run.status.get("versions", {})}
    evaluation = run.evaluation if run.finished else None
    if as_json or inherited(ctx, "as_json"):
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


def inherited(ctx: typer.Context, name: str) -> Any:
    """An option that was given before the command, to `runs` itself."""
    return ctx.parent.params.get(name) if ctx.parent is not None else None


def choices_table(config: Any) -> Any:
    """Fields of a configuration that are not the default of theirs; an adapter's own defaults too are left out."""
    from .run_comparison import flat

    values, usual = flat(config.to_dict()), flat(type(config)().to_dict())
    own = {f"adapter.{entry.name}": entry.default for entry in fields(config.adapter)}
    usual = {name: value for name, value in usual.items() if not name.startswith("adapter.")} | own
    listed = table("field", "value", title="what was chosen")
    for name, value in values.items():
        if name == "adapter.peft_type" or (value != usual.get(name) and value is not None):
            listed.add_row(name, escape(str(value)))
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
