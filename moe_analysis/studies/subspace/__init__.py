"""Which updates can a layer make, and which of them does it use? T-REX Fig. 1, Lemma 4.1, Theorems 4.2 and 4.3."""

from __future__ import annotations

from .measure import (
    Approximation,
    Intuition,
    Span,
    Systems,
    Used,
    measure_approximation,
    measure_intuition,
    measure_span,
    measure_systems,
    measure_used,
)

__all__ = [
    "Approximation",
    "Intuition",
    "Span",
    "Systems",
    "Used",
    "measure_approximation",
    "measure_intuition",
    "measure_span",
    "measure_systems",
    "measure_used",
]
