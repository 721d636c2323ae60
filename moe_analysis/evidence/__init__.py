"""What was measured and what follows: intervals, the bootstrap, the verdict rule, claims."""

from __future__ import annotations

from ..cards.in_words import counted
from .claim import Claim, claims_frame, described
from .effect import Effect
from .family import family_of, judged, whole_of
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
