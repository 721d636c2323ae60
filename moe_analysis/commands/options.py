"""What commands share: options, help pages, and the values that a shell completes.

Nothing heavy is imported, so that completion is fast.
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..atomic import unwritable
from ..figures import ITEMS
from ..presets import PRESETS
from .program import MEANING

EXECUTORS = ("process", "dask", "submitit")
STATES = ("finished", "running", "failed", "stopped", "damaged")
ORDERS = ("run", "state", "step", "seconds", "loss", "accuracy", "changed", "parameters")
PROGRAM = "python -m moe_analysis"


def figure_names(incomplete: str) -> list[tuple[str, str]]:
    """Ids of figures with their titles, then the notebooks."""
    notebooks = dict.fromkeys(item.notebook for item in ITEMS)
    names = [(item.id, item.title) for item in ITEMS] + [(name, "every figure of this notebook") for name in notebooks]
    return [pair for pair in names if pair[0].startswith(incomplete)]


def completion(names: Iterable[str]) -> Callable[[str], list[str]]:
    def beginning(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return beginning


presets, executors, states, orders = map(completion, (PRESETS, EXECUTORS, STATES, ORDERS))


def run_ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the runs in the folder that the command line names; of those that a shell would break, the digests."""
    chosen = set(ctx.params.get("ids") or ())
    return [pair for pair in listed(runs_folder(ctx)) if pair[0].startswith(incomplete) and pair[0] not in chosen]


def listed(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*/config.json")):
        name = path.parent.name
        if name.startswith("."):
            continue
        yield (name, "") if shlex.quote(name) == name else (name.rpartition("-")[2], name)


def runs_folder(ctx: Any) -> Path:
    """The folder given after the command, before it, by the environment, or the usual one."""
    while ctx is not None:
        if out := ctx.params.get("out"):
            return Path(out)
        ctx = ctx.parent
    return Path(os.environ.get("MOE_ANALYSIS_RUNS") or "runs")


OutOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", envvar="MOE_ANALYSIS_RUNS", help="Folder of the runs.")
]
# of a command inside `runs`, which takes the folder in either place
InnerOutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help="Folder of the runs.", show_default="runs, or $MOE_ANALYSIS_RUNS"),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; everything else goes to stderr.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
IdsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="ID...",
        help="Ids as `runs` lists them; the beginning, the hash at the end, or a pattern such as 'T-REX*' also works.",
        autocompletion=run_ids,
        show_default=False,
    ),
]
StatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        autocompletion=states,
        show_default=False,
        help=f"Only runs in this state: {', '.join(STATES)}. Repeat for several.",
    ),
]


def page(text: str, examples: Sequence[str] = (), exits: Mapping[int, str] | None = None) -> str:
    """A help page in rich's markup.

    text: paragraphs, whose lines are joined, as a terminal breaks them at its own width; one that begins with [cyan]
    is a file or a command and keeps its lines. examples: what follows the program's name. exits: exit status -> what
    it means for this command; None leaves that part out.
    """
    parts = re.split(r"\n\s*\n", inspect.cleandoc(text))
    paragraphs = [part if part.startswith("[cyan]") else " ".join(part.split()) for part in parts]
    if examples:
        lines = (f"  [cyan]{' '.join([PROGRAM, example]).strip()}[/]" for example in examples)
        paragraphs.append("\n".join(["[bold]Examples[/]", *lines]))
    if exits is not None:
        lines = (f"  [bold]{code:<3}[/] {meaning}" for code, meaning in exits.items())
        paragraphs.append("\n".join(["[bold]Exit status[/]", *lines]))
    first, *rest = paragraphs
    return "\n\n".join([first, *(f"[not dim]{part}[/]" for part in rest)])


def exits_of(*codes: int, own: Mapping[int, str]) -> dict[int, str]:
    """The general meaning of some exit codes, and this command's own of others."""
    return {code: own.get(code, MEANING[code]) for code in sorted({*codes, *own})}


def wants_json(ctx: typer.Context, given: bool) -> bool:
    """Whether --json was given to a command inside `runs`, or before it, to `runs` itself."""
    return given or bool(ctx.parent is not None and ctx.parent.params.get("as_json"))


def check_folder(option: str, folder: Path) -> None:
    """Raise ValueError for a folder that cannot be written, or made; nothing is left there."""
    if reason := unwritable(folder):
        raise ValueError(f"{option} = {str(folder)!r} cannot be written ({reason}); pass another folder")
