"""One folder per question: `measure` computes a frozen result, `draw` draws it, `claims` judges it, `explore` has
the controls. `moe_analysis.papers` lists which study belongs to which item of which paper."""

from __future__ import annotations

from importlib import import_module
from typing import Any

STUDIES = (
    "budgets",
    "cost",
    "experts",
    "first_steps",
    "flexibility",
    "gate_geometry",
    "optimizers",
    "router_paths",
    "routing",
    "semantic_map",
    "subspace",
    "systems",
    "trees",
)


def __getattr__(name: str) -> Any:
    """A study, imported when it is first used."""
    if name in STUDIES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; the studies are {', '.join(STUDIES)}")


def __dir__() -> list[str]:
    return sorted(STUDIES)
