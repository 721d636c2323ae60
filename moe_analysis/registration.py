"""`import moe_analysis` registers our adapters with PEFT, whichever of the two is imported first.

PEFT looks a checkpoint's type up in tables that a package can only fill by being imported. PEFT takes seconds to import
and much of this package does without it, so the tables are filled when PEFT itself has been imported.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

BRIDGE = f"{__package__}.peft_bridge"


def register_with_peft() -> None:
    """Fill PEFT's tables now if it is imported already, else as soon as it is."""
    if "peft" in sys.modules:
        importlib.import_module(BRIDGE)
    elif not any(isinstance(finder, AfterPeft) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterPeft())


class AfterPeft:
    """A finder that finds PEFT where all others do, and imports the bridge after it."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        if name != "peft":
            return None
        # transformers asks for the spec to see whether PEFT is installed: this finder stays until PEFT is executed
        others = (finder.find_spec(name, path, target) for finder in list(sys.meta_path) if finder is not self)
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_both(module: ModuleType) -> None:
                execute(module)
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                    importlib.import_module(BRIDGE)

            spec.loader.exec_module = execute_both  # type: ignore[method-assign]
        return spec
