"""What notebook 01 hands from cell to cell, on sixty prompts embedded by TF-IDF."""

from __future__ import annotations

import moe_analysis as ma

from .models import embeddings
from .registry import prepared


@prepared
def clusters() -> ma.tasks.Clusters:
    """Four k-means clusters of `embeddings`."""
    return ma.cluster(embeddings(), k=4, seed=0)
