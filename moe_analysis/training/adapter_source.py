"""The adapter of a run on disk: its values, its class where that is here, and the user's own Python file.

The file is kept in the folder of every run that was trained with it, so a folder can be copied anywhere. Opening
one executes nothing: to load a model, register the same file, or allow its execution with
`run.model(trust_code=True)`. If the class is missing, the values are read, compared and written without it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftConfig

from .. import peft_bridge
from ..adapters import REGISTRY, own
from ..tasks.rows import shorten
from .files import hints_of, read_json, wrong_type

FOLDER, ABOUT = "adapter_source", "about.json"
SHOWN = 12  # digits of a digest in a message
# what PEFT fills in by itself does not describe the run
NOT_PART_OF_A_RUN = (
    "peft_version",
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "runtime_config",
    "layout",
    "embedder",
    "embedder_digest",
    "embedding_dim",
    "pooling",
    "prompt_begin",
    "prompt_ends",
)


@dataclass
class KeptAdapter(PeftConfig):
    """Every value that a run's config.json gives its adapter, as attributes; no code of the adapter's is needed.

    values: the mapping as it was read. why: what keeps the class from being used, for messages.

    >>> kept = KeptAdapter(values={"peft_type": "GATEDLORA", "r": 4}, why="'gatedlora' is not registered here")
    >>> kept.peft_type, kept.r, hasattr(kept, "num_experts")
    ('GATEDLORA', 4, False)
    """

    values: dict[str, Any] = field(default_factory=dict)
    why: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in {entry.name for entry in fields(PeftConfig)} & self.values.keys():
            setattr(self, name, self.values[name])
        self.peft_type = self.values["peft_type"].upper()

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})  # not there yet while a copy is made
        if name in values:
            return values[name]
        raise AttributeError(f"{values.get('peft_type', 'an adapter')} has no field {name!r} in the run's config.json")

    def to_dict(self) -> dict[str, Any]:
        return dict(self.values)


@dataclass(frozen=True)
class KeptSource:
    """What a run's folder keeps. path: the copy; file: its name as the user had it; sha256: of its bytes."""

    path: Path
    file: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.file}, sha256 {self.sha256[:SHOWN]}"


def keep_source(folder: Path, system: str) -> None:
    """Copy the registered adapter's file into a run's folder, whole or not at all; nothing for our own adapters."""
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
    """What a run's folder keeps of its adapter; None if it keeps nothing. Raises ValueError for a damaged file."""
    path = folder / FOLDER / ABOUT
    if not os.path.lexists(path.parent):
        return None
    remedy = "restore it, or delete the folder that it is in"
    about = read_json(path, remedy)
    file, sha256 = about.get("file"), about.get("sha256")
    if not (isinstance(file, str) and isinstance(sha256, str)):
        raise ValueError(f"{path} contains {shorten(about)} instead of a file and a sha256; {remedy}")
    return KeptSource(path.with_name(f"{system}.py"), file, sha256)


def another_source(folder: Path, system: str) -> str | None:
    """How the registered adapter differs from the one of a run; None if it does not, or if that is unknown."""
    if (kept := kept_source(folder, system)) is None:
        return None
    here = own.source_of(system)
    if here is not None and here.sha256 == kept.sha256:
        return None
    whose = f"{here.path.name}, sha256 {here.sha256[:SHOWN]}" if here else "not of a file"
    return f"the registered adapter {system!r} ({whose}) is not the one of the run ({kept})"


def refuse_another_source(folder: Path, system: str) -> None:
    """Raise ValueError if a folder has a run of the same configuration with another version of the adapter."""
    if fault := another_source(folder, system):
        raise ValueError(
            f"{folder} cannot be trained or used as finished: {fault}; restore that file, delete the "
            "run, or pass another out"
        )


def adapter_of_run(folder: Path, values: dict[str, Any]) -> PeftConfig:
    """The adapter of a run's config.json: of its class where that is the one it was trained with, else kept values.

    Executes nothing of the folder. Raises ValueError for values that no adapter has.
    """
    kind = values.get("peft_type")
    named = isinstance(kind, str) and kind.isidentifier()  # else `read_adapter` says what is wrong
    why = why_not_here(folder, values) if named else None
    return read_adapter(values) if why is None else KeptAdapter(values=values, why=why)


def why_not_here(folder: Path, values: dict[str, Any]) -> str | None:
    """What keeps the class of a run's adapter from being used here, with the remedy; None if it can be."""
    system = values["peft_type"].lower()
    if system.upper() not in PEFT_TYPE_TO_CONFIG_MAPPING:
        kept = kept_source(folder, system)
        if kept is None:
            return (
                f"the adapter {system!r} is not registered here, and the run has no copy of its source; pass its file "
                "to ma.use_adapter, or update moe_analysis and peft if it comes from a newer version"
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
    """Register the adapter of a run by executing the file in its folder; nothing if one of that name is registered.

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
            f"{kept.path} has the sha256 {source.sha256[:SHOWN]} but {kept.sha256[:SHOWN]} is that of "
            "the file which the run was trained with; restore it"
        )
    try:
        # a name of its own: the user may have imported another module of the file's
        module = own.execute(f"{system}_{source.sha256[:SHOWN]}", source)
    except Exception as error:  # the file may fail in any way that Python can
        raise ValueError(
            f"{kept.path} cannot be imported ({type(error).__name__}: {error}); put the modules that it imports where "
            "Python finds them"
        ) from error
    found = own.registered_by(module)
    if system not in found:
        raise ValueError(f"{kept.path} registers {', '.join(found) or 'nothing'}, not {system}; restore it")
    for name in found:
        peft_bridge.CONFIGS[name] = peft_bridge.bridge(name, REGISTRY[name])


def read_adapter(values: dict[str, Any]) -> PeftConfig:
    """The adapter of a configuration's JSON. Raises ValueError for an unknown peft_type or field, or a wrong type."""
    if not values.get("peft_type"):
        raise ValueError(f"adapter = {shorten(values)} has no peft_type; add one of {adapter_types()}")
    kind = values["peft_type"].upper() if isinstance(values["peft_type"], str) else None
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ValueError(f"adapter.peft_type = {shorten(values['peft_type'])} is unknown; use one of {adapter_types()}")
    if unknown := unknown_fields(values):  # PEFT would leave them out with no more than a warning
        known = sorted(entry.name for entry in fields(PEFT_TYPE_TO_CONFIG_MAPPING[kind]) if entry.init)
        raise ValueError(f"adapter.{unknown[0]} is not a field of {kind}; it has {', '.join(known)}")
    # PEFT calls lora_alpha a whole number and takes any, and a budget that is met makes fractions of it; some of its
    # fields are None where nothing is set, and their types do not say so
    owner = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    unset = {entry.name for entry in fields(owner) if entry.default is None}
    hints = {**hints_of(owner), "lora_alpha": float}
    hints = {name: hint | None if name in unset and hint is not Any else hint for name, hint in hints.items()}
    if fault := wrong_type(values, hints, "adapter."):
        raise ValueError(fault)
    try:
        return PeftConfig.from_peft_type(**{**values, "peft_type": kind})
    except (TypeError, KeyError, AttributeError) as error:  # what PEFT's own checks stumble over
        raise ValueError(f"adapter = {shorten(values)} cannot be made: {error}; correct its values") from error


def unknown_fields(values: dict[str, Any]) -> list[str]:
    """Fields of an adapter's mapping that the class registered for its type does not have."""
    known = fields(PEFT_TYPE_TO_CONFIG_MAPPING[values["peft_type"].upper()])
    return sorted(values.keys() - {entry.name for entry in known} - set(NOT_PART_OF_A_RUN))


def adapter_types() -> str:
    return ", ".join(["LORA", *sorted(name.upper() for name in peft_bridge.CONFIGS)])
