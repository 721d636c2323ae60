"""Python reads this file at the start of a process whose PYTHONPATH names this folder: its products round alike.

`tests/numerics.py` waits until the process imports torch, for many never do and must stay as fast. Garbage is collected
as in `tests/processes`, whose file of this name Python does not read beside this one.
"""

from __future__ import annotations

import atexit
import gc
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

PLUGIN = "tests.numerics"


class AfterTorch(PathFinder):
    """Finds torch alone, and installs the plugin behind its import; others only ask whether torch can be found."""

    @classmethod
    def find_spec(cls, name, path=None, target=None) -> ModuleSpec | None:
        if name != "torch":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_install(module: ModuleType) -> None:
            run(module)
            numerics = spec_from_file_location(PLUGIN, Path(__file__).parents[1] / "numerics.py")
            plugin = sys.modules[PLUGIN] = module_from_spec(numerics)
            numerics.loader.exec_module(plugin)
            plugin.install()

        spec.loader.exec_module = run_and_install  # type: ignore[method-assign]
        return spec


gc.set_threshold(1_000_000, 10, 10)
atexit.register(gc.freeze)
sys.meta_path.insert(0, AfterTorch)
