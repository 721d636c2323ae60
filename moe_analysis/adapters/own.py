"""Adapters of a user's own: Python files and modules that are imported wherever ours are.

`MOE_ANALYSIS_ADAPTERS` names them, separated as in PATH: a file (`/home/me/gated_lora.py`) or a module that can be
imported. Being a variable of the environment it reaches every process that trains, tests or evaluates.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

VARIABLE = "MOE_ANALYSIS_ADAPTERS"
CONTENTS: dict[Path, str] = {}  # digest of every file as it was when it was imported


def load_named() -> None:
    """Import everything that `MOE_ANALYSIS_ADAPTERS` names. Raises ValueError naming what cannot be imported."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        try:
            load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{VARIABLE} names {name!r}, which cannot be imported ({error}); correct the variable or "
                             "unset it") from error  # fmt: skip


def load_file(path: Path) -> ModuleType:
    """Import a file once; its module is called as the file. Raises ValueError for a file that is missing, changed since
    it was imported, or called as a module that is imported already."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"adapter file {path} does not exist; pass the Python file that defines the adapter")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path in CONTENTS:
        if CONTENTS[path] != digest:
            raise ValueError(f"adapter file {path} has changed since it was imported; restart Python to use it")
        return sys.modules[path.stem]
    if path.stem in sys.modules:
        raise ValueError(f"adapter file {path} is called as the module {path.stem!r}, which is imported already; "
                         "rename the file")  # fmt: skip
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"adapter file {path} is no Python file; give it a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    CONTENTS[path], sys.modules[path.stem] = digest, module  # before it runs, as for any import
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del CONTENTS[path], sys.modules[path.stem]
        raise
    return module


def remember(path: Path) -> None:
    """Name a file in the environment, for the processes that this one starts."""
    names = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if (name := str(path.expanduser().resolve())) not in names:
        os.environ[VARIABLE] = os.pathsep.join([*names, name])
