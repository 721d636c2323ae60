"""Do semantic clusters of prompts align with the predefined task groups? T-REX Fig. 4."""

from __future__ import annotations

from .measure import ClusterContents, SemanticMap, measure, measure_contents

__all__ = ["ClusterContents", "SemanticMap", "measure", "measure_contents"]
