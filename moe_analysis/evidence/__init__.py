"""What was measured and what follows: intervals, the bootstrap, the verdict rule, claims."""

from __future__ import annotations

from ..cards.in_words import counted
from .claim import Claim, claims_frame, described, family_of, judged, whole_of
from .effect import Effect
from .verdict import Judgement, in_parts, judge, judge_family, verdict_rates

__all__ = [
    "Claim",
    "Effect",
    "Judgement",
    "claims_frame",
    "counted",
    "described",
    "family_of",
    "in_parts",
    "judge",
    "judge_family",
    "judged",
    "verdict_rates",
    "whole_of",
]
