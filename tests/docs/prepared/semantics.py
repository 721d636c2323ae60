"""What notebook 01 hands from cell to cell, on sixty prompts embedded by TF-IDF."""

from __future__ import annotations

import numpy as np
import pandas as pd

import moe_analysis as ma
from moe_analysis.studies.semantic_map import maps as semantic
from moe_analysis.studies.semantic_map.agreement import agreement, by_text, clusterings
from moe_analysis.studies.semantic_map.measure import names_of
from moe_analysis.studies.semantic_map.neighbors import neighbor_agreement, neighbor_shares

from .models import embeddings, frame
from .registry import prepared


@prepared
def texts() -> dict[str, np.ndarray]:
    """The bare prompts' embeddings, under the name that tables give them."""
    return {"bare": embeddings()}


@prepared
def clusters() -> ma.tasks.Clusters:
    """Four k-means clusters of `embeddings`."""
    return ma.cluster(embeddings(), k=4, seed=0)


@prepared
def table() -> pd.DataFrame:
    """`agreement` of `texts`: how clusters agree with data sets and groups."""
    return by_text(
        {text: agreement(clusterings(one, frame(), (2, 4), (0, 1)), frame(), 20) for text, one in texts().items()}
    )


@prepared
def neighbors() -> pd.DataFrame:
    """`neighbor_agreement` of `texts`: how often the nearest prompts share a label."""
    return by_text({text: neighbor_agreement(neighbor_shares(one, frame(), 5)) for text, one in texts().items()})


@prepared
def points() -> pd.DataFrame:
    """`map_frame` of `frame`: its prompts on the plane of their two first principal components."""
    return semantic.map_frame(frame(), semantic.embedding_map(embeddings(), method="pca"), clusters().labels)


@prepared
def names() -> pd.DataFrame:
    """`names_of` the clusters: the words that set the prompts of each apart."""
    return names_of(frame()["prompt"], clusters().labels)
