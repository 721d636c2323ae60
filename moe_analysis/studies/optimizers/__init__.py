"""Do preconditioning and gate rescaling train better, and is rescaling more than a larger learning rate? gR Figs. 2, 3."""

from __future__ import annotations

from .bench import Confound, Exponent, measure_confound, measure_exponent
from .measure import OneExpert, Optimizers, Rescaling, measure, measure_control, measure_rescaling
from .tuned import PretrainedOptimizers, TunedOptimizers, measure_pretrained, measure_table

__all__ = [
    "Confound",
    "Exponent",
    "OneExpert",
    "Optimizers",
    "PretrainedOptimizers",
    "Rescaling",
    "TunedOptimizers",
    "measure",
    "measure_confound",
    "measure_control",
    "measure_exponent",
    "measure_pretrained",
    "measure_rescaling",
    "measure_table",
]
