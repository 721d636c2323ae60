"""The semantic prior of a run: training prompts embedded and clustered, every prompt's cosine to the centroids."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ..tasks.clusters import Clusters, cluster
from ..tasks.embed import Embedder
from ..tasks.suite import load_suite
from .config import TrainConfig


def chosen_rows(frame: pd.DataFrame, split: str, per_dataset: int | None, seed: int = 0) -> pd.DataFrame:
    """At most `per_dataset` rows of a split from every data set, drawn with `seed`, in the frame's order."""
    kept = frame[frame["split"] == split]
    if per_dataset is not None:
        shuffled = kept.sample(frac=1.0, random_state=seed)
        kept = kept.loc[shuffled.groupby("dataset").head(per_dataset).index.sort_values()]
    return kept.reset_index(drop=True)


def run_rows(config: TrainConfig) -> dict[str, pd.DataFrame]:
    """{"train": …, "test": …}: the rows that a configuration trains and is evaluated on, the same for every seed."""
    frame = load_suite(config.suite, datasets=config.datasets)
    limits = {"train": config.rows_per_dataset, "test": config.eval_rows}
    return {split: chosen_rows(frame, split, limit) for split, limit in limits.items()}


def cluster_prompts(config: TrainConfig, prompts: Iterable[str]) -> Clusters:
    """k-means over the training prompts, as many clusters as the adapter expects, seed 0 for every run.

    The clusters belong to the data, so runs that differ in their seed share them.
    """
    return cluster(Embedder(config.embedder).fit(prompts).transform(prompts), k=config.clusters or 1, seed=0)


def embed_like_training(config: TrainConfig, prompts: Iterable[str]) -> np.ndarray:
    """(n, d) embeddings in the space of the run's clusters; "tfidf" is fitted on the training prompts again."""
    embedder = Embedder(config.embedder)
    if config.embedder == "tfidf":
        embedder.fit(run_rows(config)["train"]["prompt"])
    return embedder.transform(prompts)
