"""One folder per question: `measure` computes a frozen result, `draw` draws it, `claims` judges it, `explore` has the
knobs. `moe_analysis.papers` says which item of which paper is which study."""

from __future__ import annotations
