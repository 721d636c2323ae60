"""What do trained routers do? Specialization, load, and agreement of routers; beyond the papers."""

from __future__ import annotations

from .measure import (
    Gates,
    RoutingAgreement,
    RoutingExperts,
    RoutingInformation,
    measure,
    measure_agreement,
    measure_experts,
    record,
)

__all__ = [
    "Gates",
    "RoutingAgreement",
    "RoutingExperts",
    "RoutingInformation",
    "measure",
    "measure_agreement",
    "measure_experts",
    "record",
]
