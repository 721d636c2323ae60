"""`runs delete`: remove runs, after a question."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import completion
from .exit_codes import BAD, FINE, INTERRUPTED
from .interrupts import kept
from .options import IdsArgument, InnerOutOption, JsonOption, StatesOption
from .pages import exits_of, page
from .runs_show import inherited
from .terminal import answer, emit, note, notes
from .waiting import each, spinner

HELP = page(
    """
    Delete runs: the whole folder of each, its records and its adapter.

    Lists them and asks first; a script passes --yes. A run that a process trains now is refused, and then nothing is
    deleted. An interruption leaves whole runs and no half ones.
    """,
    examples=[
        "runs delete HydraLoRA-embedded-s0-79a6",
        "runs delete 'LoRA-MoE*' --yes",
        "runs delete --state failed --state damaged '*'",
    ],
    exits=exits_of(FINE, INTERRUPTED, **{f"code_{BAD}": "no such run, or one is being trained"}),
)


def delete(
    ctx: typer.Context,
    ids: IdsArgument,
    out: InnerOutOption = None,
    state: StatesOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the runs; see HELP."""
    as_json = as_json or bool(inherited(ctx, "as_json"))
    paths = doomed(completion.runs_folder(ctx), ids, state or [])
    if not paths or not (yes or agreed(paths, as_json)):
        note("nothing was deleted")
        deleted = []
    else:
        deleted = delete_all(paths)
    if as_json:
        emit({"deleted": deleted})
    elif deleted:
        answer(f"deleted {len(deleted)} run{'s' * (len(deleted) != 1)}")


def doomed(folder: Path, ids: list[str], states: list[str]) -> list[Path]:
    """The runs that are named and in one of the states; raises RunError where one is being trained."""
    from .runs import check_choices

    check_choices("--state", states, completion.STATES)
    with spinner("loading torch, transformers and PEFT"):
        from ..training.run_folder import find_runs, list_runs, refuse_held

    paths = find_runs(folder, ids)
    if states:
        listed = list_runs(each(paths, "reading runs"))
        paths = [path for path, state in zip(paths, listed["state"]) if state in states]
    refuse_held(paths)
    return paths


def agreed(paths: list[Path], as_json: bool) -> bool:
    """Whether a person says yes; raises ValueError where nobody can be asked."""
    from ..training.run_folder import folder_bytes

    if as_json or not watched():
        raise ValueError("nobody is there to be asked; pass --yes to delete without a question")
    for path in paths:
        note(f"  {path.name}")
    size = sum(folder_bytes(path) for path in each(paths, "measuring")) / 1e6
    notes.print(f"Delete {len(paths)} run{'s' * (len(paths) != 1)} ({size:.1f} MB)?", end="", highlight=False)
    return typer.confirm("", prompt_suffix=" ", err=True)


def watched() -> bool:
    return sys.stdin.isatty()


def delete_all(paths: list[Path]) -> list[str]:
    from ..training.run_folder import clear_deleted, delete_run

    deleted: list[str] = []
    for _ in clear_deleted(paths[0].parent):
        note("removed what an interrupted deletion had left")
    with kept(lambda: f"{len(deleted)} of {len(paths)} runs are deleted, the others are whole."):
        for path in each(paths, "deleting"):
            delete_run(path)
            deleted.append(path.name)
    return deleted
