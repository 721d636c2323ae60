"""Many runs: what a sweep is, where its runs are trained, and their progress.

Names are imported when they are first used: a process of a pool begins without torch, and imports what its task needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .executors import end_with_parent, shared_pool
    from .running import Sweep, read_once, sweep, train_all

__all__ = ["Sweep", "end_with_parent", "read_once", "shared_pool", "sweep", "train_all"]

SOURCES = {
    "end_with_parent": "executors",
    "shared_pool": "executors",
    **dict.fromkeys(("Sweep", "read_once", "sweep", "train_all"), "running"),
}


def __getattr__(name: str) -> Any:
    if name in SOURCES:
        return getattr(import_module(f".{SOURCES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
