"""Which of nine systems is more accurate, in and out of distribution? T-REX's Fig. 3 and headlines, S'MoRE's Table 2."""

from __future__ import annotations

from .measure import OwnAdapter, Systems, SystemTasks, measure, measure_adapter, measure_tasks
from .pretrained import MultitaskRates, PretrainedSystems, measure_pretrained
from .steps import SystemSteps, measure_steps
from .table_2 import Table2, measure_table_2
from .tuned import SystemRates, TunedSystems, measure_table

__all__ = [
    "MultitaskRates",
    "OwnAdapter",
    "PretrainedSystems",
    "SystemRates",
    "SystemSteps",
    "SystemTasks",
    "Systems",
    "Table2",
    "TunedSystems",
    "measure",
    "measure_adapter",
    "measure_pretrained",
    "measure_steps",
    "measure_table",
    "measure_table_2",
    "measure_tasks",
]
