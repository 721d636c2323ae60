"""Which of nine systems is more accurate, in and out of distribution? T-REX's Fig. 3 and headlines."""

from __future__ import annotations

from .measure import (
    OwnAdapter,
    SystemRates,
    Systems,
    SystemTasks,
    TunedSystems,
    measure,
    measure_adapter,
    measure_table,
    measure_tasks,
)

__all__ = [
    "OwnAdapter",
    "SystemRates",
    "SystemTasks",
    "Systems",
    "TunedSystems",
    "measure",
    "measure_adapter",
    "measure_table",
    "measure_tasks",
]
