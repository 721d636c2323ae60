"""A user's own adapters: Python files and modules that are imported wherever ours are.

`MOE_ANALYSIS_ADAPTERS` names them, separated as in PATH: a file (`/home/me/gated_lora.py`) or a module that can be
imported. Being a variable of the environment it reaches every process that trains, tests or evaluates.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType

from .base import REGISTRY

VARIABLE = "MOE_ANALYSIS_ADAPTERS"


@dataclass(frozen=True)
class Source:
    """A Python file that defines adapters, as it was when it was imported."""

    path: Path
    content: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


SOURCES: dict[str, Source] = {}  # by the name of the module that was made of it


def load_named() -> None:
    """Import everything that `MOE_ANALYSIS_ADAPTERS` names. Raises ValueError naming what cannot be imported."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        try:
            load_file(Path(name)) if name.endswith(".py") else load_module(name)
        except (ImportError, ValueError) as error:
            raise ValueError(
                f"{VARIABLE} names {name!r}, which cannot be imported ({error}); correct or unset the variable"
            ) from error


def load_module(name: str) -> None:
    """Import a module by name and remember the files of the adapters that it registered."""
    before = set(REGISTRY)
    importlib.import_module(name)
    for module in {REGISTRY[one].__module__ for one in REGISTRY.keys() - before}:
        if (file := getattr(sys.modules[module], "__file__", None)) and file.endswith(".py"):
            SOURCES[module] = Source(Path(file), Path(file).read_bytes())


def load_file(path: Path) -> ModuleType:
    """Import a file once; its module is called as the file. Raises ValueError for a file that is missing, changed since
    it was imported, or called as a module that is imported already."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"adapter file {path} does not exist; pass the Python file that defines the adapter")
    source, known = Source(path, path.read_bytes()), SOURCES.get(path.stem)
    if known is not None and known.path == path:
        if known.sha256 != source.sha256:
            raise ValueError(f"adapter file {path} has changed since it was imported; restart Python to use it")
        return sys.modules[path.stem]
    if path.stem in sys.modules:
        raise ValueError(
            f"adapter file {path} has the name of the module {path.stem!r}, which is already imported; rename the file"
        )
    return execute(path.stem, source)


def execute(name: str, source: Source) -> ModuleType:
    """Make the module `name` of a source; where that fails, nothing of it stays registered."""
    spec = importlib.util.spec_from_file_location(name, source.path)
    if spec is None:
        raise ValueError(f"adapter file {source.path} is not a Python file; give it a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    SOURCES[name], sys.modules[name] = source, module  # before it runs, as for any import
    try:
        # the very bytes whose digest is kept, which the file or Python's cache of it may have left behind
        exec(compile(source.content, source.path, "exec"), module.__dict__)
    except BaseException:
        del SOURCES[name], sys.modules[name]
        for one in registered_by(module):
            del REGISTRY[one]
        raise
    return module


def registered_by(module: ModuleType) -> list[str]:
    """Names of the registered adapters that a module defines."""
    return [name for name, adapter in REGISTRY.items() if adapter.__module__ == module.__name__]


def source_of(name: str) -> Source | None:
    """The file of a registered adapter; None for ours, for one registered by hand, and for one that is not."""
    return SOURCES.get(REGISTRY[name].__module__) if name in REGISTRY else None


def remember(path: Path) -> None:
    """Name a file in the environment, for the processes that this one starts."""
    names = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if (name := str(path.expanduser().resolve())) not in names:
        os.environ[VARIABLE] = os.pathsep.join([*names, name])
