"""Runs: configuration, training, record, evaluation.

Names are imported when they are first used, because reading the folders of runs needs neither torch nor PEFT.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import TrainConfig
    from .evaluation import choice_likelihoods, evaluate
    from .files import RunError
    from .run import Run
    from .trainer import train

__all__ = ["Run", "RunError", "TrainConfig", "choice_likelihoods", "evaluate", "train"]

SOURCES = {
    "Run": "run",
    "RunError": "files",
    "TrainConfig": "config",
    "choice_likelihoods": "evaluation",
    "evaluate": "evaluation",
    "train": "trainer",
}


def __getattr__(name: str) -> Any:
    if name in SOURCES:
        return getattr(import_module(f".{SOURCES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
