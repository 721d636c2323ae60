"""A result with the fields that one drawing reads."""

from __future__ import annotations

from types import SimpleNamespace

from moe_analysis.studies.result import Result


class Found(SimpleNamespace):
    """What a test measured, with a result's note below the picture."""

    sample, runs = "2 seeds, 4 steps", ()
    note = Result.note
