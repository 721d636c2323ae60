"""The semantic prior of a run: training prompts embedded and clustered, every prompt's cosine to the centroids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ..peft_bridge.intuition import set_intuition
from ..tasks.clusters import Clusters, cluster
from ..tasks.embed import Embedder
from ..tasks.prompts import AROUND_PROMPT
from ..tasks.suite import load_suite
from .config import TrainConfig

HOLDOUT_SEED = 1  # not that of the rows to train on, whose choice would else begin with the very rows held out


def chosen_rows(frame: pd.DataFrame, split: str, per_dataset: int | None, seed: int = 0) -> pd.DataFrame:
    """At most `per_dataset` rows of a split from every data set, drawn with `seed`, in the frame's order."""
    kept = frame[frame["split"] == split]
    if per_dataset is not None:
        shuffled = kept.sample(frac=1.0, random_state=seed)
        kept = kept.loc[shuffled.groupby("dataset").head(per_dataset).index.sort_values()]
    return kept.reset_index(drop=True)


def run_rows(config: TrainConfig) -> dict[str, pd.DataFrame]:
    """{"train": …, "test": …}: the rows that a configuration trains and is evaluated on, the same for every seed.

    With holdout_rows, "test" holds train rows that "train" has not. Suites to transfer to follow under their names.
    Raises ValueError for a data set that has too few train rows for both.
    """
    frame = load_suite(config.suite, datasets=config.datasets)
    if config.holdout_rows is None:
        evaluated = chosen_rows(frame, "test", config.eval_rows)
    else:
        evaluated = chosen_rows(frame, "train", config.holdout_rows, HOLDOUT_SEED)
        frame = without(frame, evaluated, config.holdout_rows)
    found = {"train": chosen_rows(frame, "train", config.rows_per_dataset), "test": evaluated}
    for suite in config.transfer_suites or ():
        found[suite] = chosen_rows(load_suite(suite), "test", config.eval_rows)
    return found


def without(frame: pd.DataFrame, held: pd.DataFrame, wanted: int) -> pd.DataFrame:
    """The frame without the rows that are held out, nor any other of the same data set and prompt."""
    asked = pd.MultiIndex.from_frame(held[["dataset", "prompt"]])
    left = frame[~pd.MultiIndex.from_frame(frame[["dataset", "prompt"]]).isin(asked)]
    before, after = (rows.loc[rows["split"] == "train", "dataset"].value_counts() for rows in (frame, left))
    for dataset, count in before.items():
        if not after.get(dataset, 0):
            raise ValueError(
                f"holdout_rows = {wanted} leaves no train row of data set {dataset!r}, which has {count}; "
                "hold out fewer, or leave it out of datasets"
            )
    return left


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


def hold_clusters(model: Any, clusters: Clusters, config: TrainConfig, tokenizer: Any = None) -> None:
    """Let a run's model read its intuition from the prompts that `render` makes, where it does not do so already.

    Checkpoints of version 0.1 held no clusters. "tfidf" has no weights to name in a checkpoint, and the
    instruction form rewords prompts: such models go on being given their intuition.
    """
    readable = config.embedder != "tfidf" and config.form in AROUND_PROMPT
    if readable and model.peft_config["default"].embedding_dim is None:
        set_intuition(model, clusters, config.embedder, tokenizer, *AROUND_PROMPT[config.form])
