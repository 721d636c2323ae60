"""What does S'MoRE cost in parameters and operations? Figs. 1 and 5, Tables 1 and 6, and all adapters compared."""

from __future__ import annotations

from .measure import (
    AdapterCosts,
    ExampleTree,
    Overheads,
    RouterShares,
    measure_adapters,
    measure_routers,
    measure_tables,
    measure_tree,
)

__all__ = [
    "AdapterCosts",
    "ExampleTree",
    "Overheads",
    "RouterShares",
    "measure_adapters",
    "measure_routers",
    "measure_tables",
    "measure_tree",
]
