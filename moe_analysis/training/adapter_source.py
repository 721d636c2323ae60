"""The Python file of a user's own adapter, kept in the folder of every run that was trained with it.

With it a folder is whole wherever it is taken. Opening one executes nothing: a model wants the same file registered, or
the word of the person who calls `run.model(trust_code=True)`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig

from .. import peft_bridge
from ..adapters import REGISTRY, own
from ..tasks.rows import shorten
from .config import read_adapter, unknown_fields
from .kept_adapter import KeptAdapter

FOLDER, ABOUT = "adapter_source", "about.json"
SHOWN = 12  # digits of a digest in a message


@dataclass(frozen=True)
class KeptSource:
    """What a run's folder keeps. path: the copy; file: its name as the user had it; sha256: of its bytes."""

    path: Path
    file: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.file}, sha256 {self.sha256[:SHOWN]}"


def keep_source(folder: Path, system: str) -> None:
    """Copy the registered adapter's file into a run's folder, whole or not at all; nothing for an adapter of ours."""
    source = own.source_of(system)
    if source is None or (folder / FOLDER).exists():
        return
    fresh = folder / f".{FOLDER}"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    (fresh / f"{system}.py").write_bytes(source.content)
    about = {"file": source.path.name, "sha256": source.sha256}
    (fresh / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    os.replace(fresh, folder / FOLDER)


def kept_source(folder: Path, system: str) -> KeptSource | None:
    """What a run's folder keeps of its adapter; None where it keeps nothing. Raises ValueError for a damaged file."""
    path = folder / FOLDER / ABOUT
    if not os.path.lexists(path.parent):
        return None
    remedy = "restore it, or delete the folder that it is in"
    if os.path.lexists(path) and not os.path.isfile(path):  # noqa: PTH113 - pathlib's raises where rights lack
        raise ValueError(f"{path} is no file; {remedy}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        file, sha256 = about["file"], about["sha256"]
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error}); {remedy}") from error
    if not (isinstance(file, str) and isinstance(sha256, str)):
        raise ValueError(f"{path} holds {shorten(about)} and not a file and a sha256; {remedy}")
    return KeptSource(path.with_name(f"{system}.py"), file, sha256)


def another_source(folder: Path, system: str) -> str | None:
    """How the registered adapter differs from the one of a run; None where it does not, or where nothing tells."""
    if (kept := kept_source(folder, system)) is None:
        return None
    here = own.source_of(system)
    if here is not None and here.sha256 == kept.sha256:
        return None
    whose = f"{here.path.name}, sha256 {here.sha256[:SHOWN]}" if here else "not of a file"
    return f"the registered adapter {system!r} ({whose}) is not the one of the run ({kept})"


def refuse_another_source(folder: Path, system: str) -> None:
    """Raise ValueError where a folder holds a run of the same configuration and another version of the adapter."""
    if fault := another_source(folder, system):
        raise ValueError(
            f"{folder} cannot be trained or taken as finished: {fault}; restore that file, delete the "
            "run, or pass another out"
        )


def adapter_of_run(folder: Path, values: dict[str, Any]) -> PeftConfig:
    """The adapter of a run's config.json: of its class where that is the one it was trained with, else kept values.

    Executes nothing of the folder. Raises ValueError for values that no adapter has.
    """
    kind = values.get("peft_type")
    if not (isinstance(kind, str) and kind.isidentifier()):
        return read_adapter(values)  # which says what is wrong
    if (why := why_not_here(folder, values)) is None:
        return read_adapter(values)
    return KeptAdapter(values=values, why=why)


def why_not_here(folder: Path, values: dict[str, Any]) -> str | None:
    """What keeps the class of a run's adapter from being used here, with the remedy; None where it can be."""
    system = values["peft_type"].lower()
    if system.upper() not in PEFT_TYPE_TO_CONFIG_MAPPING:
        kept = kept_source(folder, system)
        if kept is None:
            return (
                f"the adapter {system!r} is not registered here, and the run keeps no source of it; pass its file "
                "to ma.use_adapter, or update moe_analysis and peft where it is of a newer version"
            )
        return (
            f"the adapter {system!r} ({kept}) is not registered here; pass that file to ma.use_adapter, or call "
            f"run.model(trust_code=True) to execute the copy in {kept.path}"
        )
    if fault := another_source(folder, system):
        return f"{fault}; start Python without it, and pass the run's own file to ma.use_adapter"
    if unknown := unknown_fields(values):
        return (
            f"the run's adapter has {', '.join(unknown)}, which {system.upper()} does not have here; update "
            "moe_analysis and peft to the versions that it was trained with"
        )
    return None


def execute_kept(folder: Path, system: str) -> None:
    """Register the adapter of a run by executing the file in its folder; nothing where one of that name is registered.

    Raises ValueError for a folder that keeps no source, a copy of another digest, and a file that cannot be imported.
    """
    if system in REGISTRY or (kept := kept_source(folder, system)) is None:
        return
    try:
        source = own.Source(kept.path, kept.path.read_bytes())
    except OSError as error:
        raise ValueError(f"{kept.path} cannot be read ({error.strerror}); restore it") from error
    if source.sha256 != kept.sha256:
        raise ValueError(
            f"{kept.path} has the sha256 {source.sha256[:SHOWN]} and not {kept.sha256[:SHOWN]}, that of "
            "the file which the run was trained with; restore it"
        )
    try:
        # a name of its own: the user may have imported another module of the file's
        module = own.execute(f"{system}_{source.sha256[:SHOWN]}", source)
    except Exception as error:  # the file may fail in any way that Python can
        raise ValueError(
            f"{kept.path} cannot be imported ({type(error).__name__}: {error}); put what it imports where "
            "Python finds it"
        ) from error
    found = own.registered_by(module)
    if system not in found:
        raise ValueError(f"{kept.path} registers {', '.join(found) or 'nothing'} and not {system}; restore it")
    for name in found:
        peft_bridge.CONFIGS[name] = peft_bridge.bridge(name, REGISTRY[name])
