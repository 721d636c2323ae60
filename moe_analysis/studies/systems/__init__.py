"""Which of nine systems is more accurate, in and out of distribution? T-REX's Fig. 3 and headlines."""

from __future__ import annotations

from .measure import OwnAdapter, Systems, SystemTasks, measure, measure_adapter, measure_table, measure_tasks

__all__ = ["OwnAdapter", "SystemTasks", "Systems", "measure", "measure_adapter", "measure_table", "measure_tasks"]
