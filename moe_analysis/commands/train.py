"""`train` and `watch`: train one run, and watch runs that are being trained."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .options import JsonOption, OutOption, QuietOption, exits_of, page
from .program import BAD, FAILED, FINE, INTERRUPTED, TERMINATED, kept
from .terminal import answer, emit, notes, spinner

if TYPE_CHECKING:
    from ..training import Run, TrainConfig
    from ..training.progress import RunProgress

FIRST = '{"adapter": {"peft_type": "TREX", "target_modules": ["q_proj", "v_proj"]}, "steps": 50}'
HELP = page(
    f"""
    Train, record and evaluate one run.

    Reads a TrainConfig as JSON; omitted fields have their defaults, and adapter needs a peft_type. Writes a folder named
    after the configuration: config.json, status.json, history and evaluation (Parquet), records (Zarr) and the adapter
    as PEFT saves it. A finished run is only read. A stopped run resumes from its last checkpoint and gives the same
    numbers; Ctrl-C writes a checkpoint after the current step. A terminal shows the run's progress on stderr; watch
    shows it in another terminal.

    A first config.json:
    [cyan]{FIRST.replace("[", chr(92) + "[")}[/]

    With several processes, where batch_size is the batch of all of them together:
    [cyan]torchrun --standalone --nproc_per_node 2 -m moe_analysis train config.json[/]
    """,
    examples=["train config.json", "train config.json --out /data/runs --json"],
    exits=exits_of(FINE, INTERRUPTED, TERMINATED, own={BAD: "bad configuration, or the training failed"}),
)
POLL_SECONDS = 0.5  # between two looks at the runs
WATCH_HELP = page(
    """
    Show runs while another process trains them: progress, time left, loss, entropy of the gates, load of the experts.

    Without an id it shows every run that is being trained in the folder. It ends when the runs end, and prints their
    states; Ctrl-C ends it earlier and does not affect the runs. It also works on other machines that share the folder.
    With --json it prints the current state of the runs and does not wait.
    """,
    examples=["watch", "watch T-REX-embedded-s0", "watch 690e63 --out /data/runs", "watch --json"],
    exits=exits_of(FINE, INTERRUPTED, own={FAILED: "a run failed", BAD: "no such run, or one that cannot be read"}),
)


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="JSON of a TrainConfig, such as the config.json of a run.")
    ],
    out: OutOption = Path("runs"),
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the run of `config`; see HELP."""
    from ..training.files import last_test, read_json

    values = read_json(config, f"pass a file such as {FIRST}")
    with spinner("loading torch, transformers and PEFT"):
        from ..training import TrainConfig
        from ..training.distributed import first

    run = trained(TrainConfig.from_dict(values), out, not quiet)
    if not first():
        return
    loss, accuracy = last_test(run.path, run.history)
    if as_json:
        emit({"path": str(run.path), "loss": loss, "accuracy": accuracy})
    else:
        answer(f"{run.path}: test loss {loss:.3f}, accuracy {accuracy:.3f}")


def trained(config: TrainConfig, out: Path, progress: bool) -> Run:
    """The run, trained to its end; the first of several processes shows how far it is, where progress is wanted."""
    from ..noise import no_bars
    from ..training import Run, train
    from ..training.panel import look_at, shown
    from ..training.status import check_reports
    from ..training.sweep.running import read_once

    config.check()
    run = Run(out / config.run_name, config)
    if os.environ.get("RANK", "0") != "0" or run.finished:
        return train(config, out, progress=False)
    check_reports(config.reports)
    with kept(lambda: progress_kept(run)), no_bars():  # their lines would break the panel
        read_once([config])  # embeds the prompts where that is needed, with a bar of its own
        with shown(lambda: look_at(run), progress, notes):
            return train(config, out, progress=False)


def progress_kept(run: Run) -> str:
    """Where a run that is stopped now will resume."""
    from ..training.checkpoints import sound_checkpoint, step_of

    found = sound_checkpoint(run.path / "checkpoints")
    if found is None:
        return f"{run.id} had no checkpoint yet (save_every = {run.config.save_every}) and starts again."
    return f"{run.id} resumes from step {step_of(found)} of {run.config.steps}."


def watch(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...",
            help="Ids as `runs` lists them; the beginning, the hash at the end, or a pattern also works.",
            autocompletion=options.run_ids,
            show_default="those that are being trained",
        ),
    ] = None,
    out: OutOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show the runs `ids`; see WATCH_HELP."""
    from ..training.files import RUNNING
    from ..training.run_folder import find_runs

    find_runs(out, ids or [])  # a missing folder or id is reported before anything heavy is loaded
    with spinner("loading torch, transformers and PEFT"):
        from ..training.panel import Panel, shown

    look = looking(out, ids or [])
    rows = look()
    if as_json:
        emit([as_values(row) for row in rows])
        return
    if not rows:
        answer(f"no run of {out} is being trained; `{options.PROGRAM} runs --out {out}` lists its runs")
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
    from ..training.files import held
    from ..training.progress import progress_of
    from ..training.run import Run
    from ..training.run_folder import find_runs, run_paths

    paths = find_runs(out, ids) if ids else [path for path in run_paths(out) if held(path)]
    runs = [Run.load(path) for path in paths]
    return lambda: [progress_of(run) for run in runs]


def ending(row: RunProgress, out: Path) -> str:
    """The state of a run that no process is training."""
    from ..training.files import FAILURE, last_line
    from ..training.progress import pace

    if row.state == "finished":
        return f"{row.name} is finished: {pace(row)}"
    where = f"{row.name} {row.state} at step {row.step} of {row.steps}"
    if row.state == "failed":
        return f"{where}: {last_line(out / row.name / FAILURE)}"
    return f"{where} and is not being trained; the command that started it resumes it"


def as_values(row: RunProgress) -> dict[str, Any]:
    """JSON values of a row: its fields, the seconds that are left, and the curves of live.json."""
    return {
        **asdict(replace(row, live=None)),
        "seconds_left": row.seconds_left,
        "live": row.live and row.live.to_dict(),
    }
