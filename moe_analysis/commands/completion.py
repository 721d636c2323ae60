"""Values that a shell completes; nothing heavy is imported, because a person waits for every one of them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ..figures import ITEMS
from ..presets import PRESETS

EXECUTORS = ("process", "dask", "submitit")
STATES = ("finished", "running", "failed", "stopped", "damaged")
ORDERS = ("run", "state", "step", "seconds", "loss", "accuracy", "changed")


def figure_names(incomplete: str) -> list[tuple[str, str]]:
    """Ids of figures with their titles, then the notebooks."""
    notebooks = dict.fromkeys(item.notebook for item in ITEMS)
    names = [(item.id, item.title) for item in ITEMS] + [(name, "every figure of this notebook") for name in notebooks]
    return [pair for pair in names if pair[0].startswith(incomplete)]


def presets(incomplete: str) -> list[str]:
    return [name for name in PRESETS if name.startswith(incomplete)]


def executors(incomplete: str) -> list[str]:
    return [name for name in EXECUTORS if name.startswith(incomplete)]


def states(incomplete: str) -> list[str]:
    return [name for name in STATES if name.startswith(incomplete)]


def orders(incomplete: str) -> list[str]:
    return [name for name in ORDERS if name.startswith(incomplete)]


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
