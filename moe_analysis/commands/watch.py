"""`watch`: the panel of runs that another process trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .options import JsonOption, OutOption, exits_of, page
from .program import BAD, FAILED, FINE, INTERRUPTED
from .terminal import answer, emit, notes, spinner

if TYPE_CHECKING:
    from ..training.live.progress import RunProgress

POLL_SECONDS = 0.5
HELP = page(
    """
    Show runs while another process trains them: progress, time left, loss, entropy of the gates, load of the experts.

    Without an id it shows every run that is being trained in the folder. It ends when they do, and says how; Ctrl-C
    ends it earlier and changes nothing of the runs. Several machines that share the folder see the same. With --json it
    prints how the runs stand now, and does not wait.
    """,
    examples=["watch", "watch T-REX-embedded-s0", "watch 690e63 --out /data/runs", "watch --json"],
    exits=exits_of(
        FINE,
        INTERRUPTED,
        **{f"code_{FAILED}": "a run failed", f"code_{BAD}": "no such run, or one that cannot be read"},
    ),
)


def watch(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...",
            help="Ids as `runs` lists them; a beginning, the hash at the end, or a pattern will do.",
            autocompletion=options.run_ids,
            show_default="those that are being trained",
        ),
    ] = None,
    out: OutOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show the runs `ids`; see HELP."""
    with spinner("loading torch, transformers and PEFT"):
        from ..training.live.display import shown
        from ..training.live.panel import Panel
        from ..training.run_files import RUNNING

    look = looking(out, ids or [])
    rows = look()
    if as_json:
        emit([as_values(row) for row in rows])
        return
    if not rows:
        answer(f"no run of {out} is being trained; `{options.PROGRAM} runs --out {out}` lists those that are there")
    elif any(row.state == RUNNING for row in rows):
        with shown(lambda: lambda: Panel(look()), True, notes):
            while any(row.state == RUNNING for row in rows):
                time.sleep(POLL_SECONDS)
                rows = look()
    for row in rows:
        answer(ending(row, out))
    raise typer.Exit(FAILED if any(row.state == "failed" for row in rows) else FINE)


def looking(out: Path, ids: Sequence[str]) -> Callable[[], list[RunProgress]]:
    """Reads how the runs stand; where none is named, those that are being trained when this is called."""
    from ..training.live.progress import progress_of, run_state
    from ..training.run import Run
    from ..training.run_folder import find_runs, run_paths
    from ..training.status import held

    paths = find_runs(out, ids) if ids else [path for path in run_paths(out) if held(path)]
    runs = [Run.load(path) for path in paths]
    return lambda: [progress_of(run, run_state(run)) for run in runs]


def ending(row: RunProgress, out: Path) -> str:
    """How a run stands that nobody trains."""
    from ..training.live.facts import pace
    from ..training.sweep.work import kept_failure

    if row.state == "finished":
        return f"{row.name} is finished: {pace(row)}"
    where = f"{row.name} {row.state} at step {row.step} of {row.steps}"
    if row.state == "failed":
        return f"{where}: {kept_failure(out / row.name).error}"
    return f"{where} and is not being trained; the command that began it goes on with it"


def as_values(row: RunProgress) -> dict[str, Any]:
    """JSON values of a row: its fields, the seconds that are left, and the curves of live.json."""
    return {
        **asdict(replace(row, live=None)),
        "seconds_left": row.seconds_left,
        "live": row.live and row.live.to_dict(),
    }
