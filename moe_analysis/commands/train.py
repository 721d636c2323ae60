"""`train`: one run from a JSON file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import JsonOption, OutOption, QuietOption, exits_of, page
from .program import BAD, FINE, INTERRUPTED, TERMINATED, kept
from .terminal import answer, emit, notes, spinner

if TYPE_CHECKING:
    from ..training import Run, TrainConfig

FIRST = '{"adapter": {"peft_type": "TREX", "target_modules": ["q_proj", "v_proj"]}, "steps": 50}'
HELP = page(
    f"""
    Train, record and evaluate one run.

    Reads a TrainConfig as JSON; what is left out has its default, and adapter needs a peft_type. Writes a folder named
    after the configuration: config.json, status.json, history and evaluation (Parquet), records (Zarr) and the adapter
    as PEFT saves it. A run that is finished already is only read; one that was stopped goes on from its last
    checkpoint, to the same numbers: Ctrl-C writes one behind the step it fell in. A terminal shows how the run goes on
    stderr; watch shows it in another terminal.

    A first config.json:
    [cyan]{FIRST.replace("[", chr(92) + "[")}[/]

    Over several processes, with batch_size the batch of all of them:
    [cyan]torchrun --standalone --nproc_per_node 2 -m moe_analysis train config.json[/]
    """,
    examples=["train config.json", "train config.json --out /data/runs --json"],
    exits=exits_of(FINE, INTERRUPTED, TERMINATED, **{f"code_{BAD}": "bad configuration, or the training failed"}),
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
    with spinner("loading torch, transformers and PEFT"):
        from ..training import TrainConfig
        from ..training.distributed import first
        from ..training.files import read_json

    run = trained(TrainConfig.from_dict(read_json(config, f"pass a file such as {FIRST}")), out, not quiet)
    if not first():
        return
    last = run.history[run.history["split"] == "test"].iloc[-1]
    if as_json:
        emit({"path": str(run.path), **{name: float(last[name]) for name in ("loss", "accuracy")}})
    else:
        answer(f"{run.path}: test loss {last['loss']:.3f}, accuracy {last['accuracy']:.3f}")


def trained(config: TrainConfig, out: Path, progress: bool) -> Run:
    """The run, trained to its end; the first of several processes shows how far it is, where progress is wanted."""
    from ..noise import no_bars
    from ..training import Run, train
    from ..training.live.display import look_at, shown
    from ..training.reports import check_reports
    from ..training.sweep import read_once

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
    """Where a run that is stopped now will go on."""
    from ..training.trainer import last_complete_checkpoint

    found = last_complete_checkpoint(run.path / "checkpoints")
    if found is None:
        return f"{run.id} had no checkpoint yet (save_every = {run.config.save_every}) and begins anew."
    return f"{run.id} goes on from step {found.rpartition('-')[2]} of {run.config.steps}."
