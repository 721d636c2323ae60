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
from .measure_tokens import RoutedTokens, sentences, tokens

__all__ = [
    "Gates",
    "RoutingAgreement",
    "RoutingExperts",
    "RoutedTokens",
    "RoutingInformation",
    "measure",
    "measure_agreement",
    "measure_experts",
    "record",
    "sentences",
    "tokens",
]
