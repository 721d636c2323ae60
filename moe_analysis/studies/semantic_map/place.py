"""Your own texts placed on an existing map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...tasks.embed import Embedder

NEAREST = 5  # prompts of the map among which a text is placed


def place(found: Any, texts: Sequence[str]) -> pd.DataFrame:
    """Where texts are on the map: among their nearest prompts by cosine; nearer prompts count more.

    Not all methods of the map can place further texts, but this works for each of them. A text that is a prompt of the
    map is at the place of that prompt. Arguments, columns and errors are those of `SemanticMap.place`.
    """
    check_texts(texts, "texts", least=1)
    prompts = found.prompts["prompt"]
    own = Embedder(found.embedder).fit(prompts).transform(texts)  # (texts, d)
    cosines = np.clip(own @ found.embeddings["bare"].T, -1, 1)  # (texts, n)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : min(NEAREST, cosines.shape[1])]  # (texts, m)
    weight = 1 / (1 - np.take_along_axis(cosines, nearest, 1) + 1e-6)  # (texts, m)
    places = np.einsum("tm,tmc->tc", weight / weight.sum(1, keepdims=True), found.coordinates[nearest])  # (texts, 2)
    far = ((own[:, None] - found.clusters.centroids[None]) ** 2).sum(-1)  # (texts, k)
    clusters = far.argmin(1)
    names = found.names.set_index("cluster")["name"]
    return pd.DataFrame(
        {
            "x": places[:, 0],
            "y": places[:, 1],
            "text": list(texts),
            "cluster": clusters,
            "name": names.loc[clusters].to_numpy(),
            "nearest": prompts.to_numpy()[nearest[:, 0]],
            "cosine": np.take_along_axis(cosines, nearest[:, :1], 1)[:, 0],
        }
    )


def check_texts(texts: Sequence[str], name: str, least: int) -> None:
    """ValueError unless there are at least `least` texts in a list, none of them empty."""
    if isinstance(texts, str):
        raise ValueError(f"{name} = {texts[:40]!r} is one text; pass a list of texts")
    if len(texts) < least:
        raise ValueError(f"{name} has {len(texts)} texts; pass at least {least}")
    if empty := [place for place, text in enumerate(texts) if not str(text).strip()]:
        raise ValueError(f"{name}[{empty[0]}] is empty; leave it out or fill it in")
