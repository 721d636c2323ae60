"""The checkpoints of a run: sealed with the digest of every file, and checked before the run resumes from one."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path

from ..atomic import write_whole
from ..tasks.cache import file_digest
from .files import RunError, RunWarning, json_text, read_json

KEPT_CHECKPOINTS = 2
# written last into a checkpoint, with size and SHA-256 of every file: one without it was cut off. Older versions wrote
# an empty one.
COMPLETE = "complete"
NAMED = re.compile(r"checkpoint-(\d+)", re.ASCII)
# what a Trainer goes on without where it is not there, with other numbers; for an empty seal, which names no files
NEEDED = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


def step_of(checkpoint: Path) -> int:
    """The updates that a checkpoint follows, by its name."""
    return int(checkpoint.name.rpartition("-")[2])


def checkpoints(folder: Path) -> list[Path]:
    """The folders that a Trainer wrote as checkpoints, cut off or not, the latest first; copies are none of them."""
    found = [path for path in folder.glob("checkpoint-*") if NAMED.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as written to its end."""
    files = {
        path.relative_to(checkpoint).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path != checkpoint / COMPLETE
    }
    write_whole(checkpoint / COMPLETE, json_text({"files": files}))


def unseal(checkpoint: Path) -> None:
    """Say that a checkpoint is being written, also where one lies there that was damaged."""
    (checkpoint / COMPLETE).unlink(missing_ok=True)


def fault_of(checkpoint: Path) -> str | None:
    """What is wrong with the files of a sealed checkpoint, naming the first at fault; None if nothing is."""
    try:
        if not (checkpoint / COMPLETE).stat().st_size:
            missing = [name for name in NEEDED if not (checkpoint / name).is_file()]
            return f"{checkpoint / missing[0]} is missing" if missing else None
        for name, expected in read_json(checkpoint / COMPLETE)["files"].items():
            path = checkpoint / name
            if not path.is_file():
                return f"{path} is missing"
            if path.stat().st_size != expected["bytes"]:
                return f"{path} has {path.stat().st_size} bytes, not {expected['bytes']} as when it was written"
            if file_digest(path) != expected["sha256"]:
                return f"{path} has changed since it was written"
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    except (RunError, KeyError, TypeError, AttributeError):
        return f"{checkpoint / COMPLETE} is damaged"
    return None


def sound_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint whose files are as they were written; None if there is none. Changes nothing."""
    return next((path for path in sealed(folder) if fault_of(path) is None), None)


def sealed(folder: Path) -> list[Path]:
    return [path for path in checkpoints(folder) if (path / COMPLETE).is_file()]


def checkpoint_to_resume(folder: Path) -> Path | None:
    """The checkpoint from which a run goes on, None if it begins; a warning names each later one that is damaged.

    Checkpoints that were cut off are deleted: only the process that holds the run may call this.

    Raises:
        RunError: If there are checkpoints and all of them are damaged.
    """
    whole = sealed(folder)
    for path in set(checkpoints(folder)) - set(whole):
        shutil.rmtree(path)
    faults: list[str] = []
    for path in whole:
        if (fault := fault_of(path)) is None:
            for earlier in faults:
                warnings.warn(f"{earlier}; the run resumes from {path.name}", RunWarning, stacklevel=3)
            return path
        faults.append(fault)
    if faults:
        raise RunError(f"{'; '.join(faults)}; restore it, or delete {folder}, and the run begins again")
    return None


def rotate(folder: Path, latest: Path) -> None:
    """Delete the checkpoints before `latest` that are not kept; damaged ones after it are no reason to."""
    until = [path for path in checkpoints(folder) if step_of(path) <= step_of(latest)]
    for path in until[KEPT_CHECKPOINTS:]:
        shutil.rmtree(path, ignore_errors=True)
