"""Everything a run needs before its first step: its rows and the order of its batches, their intuition, the model."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import get_peft_model
from torch import nn
from torch.utils.data import Sampler

from ..atomic import write_whole
from ..backbones import load_backbone
from ..peft_bridge.intuition import set_intuition
from ..tasks.batches import answers_fit, collate, encode, warn_of_long_answers
from ..tasks.clusters import Clusters, cluster
from ..tasks.embed import Embedder
from ..tasks.prompts import AROUND_PROMPT, check_form
from ..tasks.rows import SPLITS
from ..tasks.suite import load_suite
from . import distributed
from .adapter_source import keep_source
from .config import TrainConfig
from .files import json_text

HOLDOUT_SEED = 1  # not that of the rows to train on, whose choice would else begin with the very rows held out
# batches whose rows are sorted together: questions of twenty data sets, twice their length with padding, are left with
# an eighth, and a batch of 16 still has rows of seven
POOL = 16


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


def embedder_of(config: TrainConfig, train: pd.DataFrame) -> Embedder:
    """What embeds in the space of the run's clusters: "tfidf" is fitted on the prompts of the rows to train on."""
    return Embedder(config.embedder).fit(train["prompt"])


def embed_like_training(config: TrainConfig, prompts: Iterable[str]) -> np.ndarray:
    """(n, d) embeddings in the space of the run's clusters; for "tfidf" the rows to train on are read again."""
    if config.embedder == "tfidf":
        return embedder_of(config, run_rows(config)["train"]).transform(prompts)
    return Embedder(config.embedder).transform(prompts)


def hold_clusters(model: Any, clusters: Clusters, config: TrainConfig, tokenizer: Any = None) -> None:
    """Let a run's model read its intuition from the prompts that `render` makes, where it does not do so already.

    Checkpoints of version 0.1 held no clusters. "tfidf" has no weights to name in a checkpoint, and the
    instruction form rewords prompts: such models must still be given their intuition.
    """
    readable = config.embedder != "tfidf" and config.form in AROUND_PROMPT
    if readable and model.peft_config["default"].embedding_dim is None:
        set_intuition(model, clusters, config.embedder, tokenizer, *AROUND_PROMPT[config.form])


def load_frozen(config: TrainConfig) -> tuple[Any, Any]:
    """(backbone, tokenizer) in the numbers that the run computes with: bfloat16 where its precision is "bf16".

    The compact backbone stays in float32, as its runs always had it: it is too small to gain by anything else.
    """
    half = config.precision == "bf16" and config.backbone != "compact"
    return load_backbone(config.backbone, torch.bfloat16 if half else torch.float32)


def prepare_model(config: TrainConfig) -> tuple[nn.Module, Any, str]:
    """(PEFT model, tokenizer, digest of the frozen weights); a target module that is not there raises ValueError."""
    base, tokenizer = load_frozen(config)
    digest = weights_digest(base)
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    base.config.use_cache = False
    return get_peft_model(base, copy.deepcopy(config.adapter)), tokenizer, digest


@dataclass(frozen=True, eq=False)
class Data:
    """What a run reads of one split. frame: its rows; intuition: (rows, clusters), None if there is none."""

    frame: pd.DataFrame
    intuition: np.ndarray | None

    def tokenized(self, tokenizer: Any, config: TrainConfig) -> list[tuple[Any, Any]]:
        examples = encode(self.frame, tokenizer, config.max_length, prompt_form=config.form)
        scores = [None] * len(examples) if self.intuition is None else list(self.intuition)
        return list(zip(examples, scores))


def fitting_rows(config: TrainConfig, tokenizer: Any) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray]]:
    """({split: rows}, {split: True where max_length holds the answer}) of what `run_rows` gives; one warning counts the
    rows it does not.

    Raises ValueError for a split of which nothing is left, and for rows that the prompt form cannot express.
    """
    frames = run_rows(config)
    for frame in frames.values():
        check_form(frame, config.form, config.suite)
    kept = {split: answers_fit(frame, tokenizer, config.max_length, config.form) for split, frame in frames.items()}
    for split, rows in kept.items():
        if not rows.any():
            named = f"suite {config.suite!r} has no {split}" if split in SPLITS else f"suite {split!r} has no test"
            raise ValueError(
                f"{named} rows with answers of fewer than max_length = {config.max_length} tokens; choose "
                "other datasets or raise it"
            )
    left_out = pd.concat([frame.loc[~kept[split], "dataset"] for split, frame in frames.items()])
    warn_of_long_answers(left_out, config.max_length)
    return frames, kept


def prepare_data(
    config: TrainConfig,
    tokenizer: Any,
    check: Callable[[dict[str, pd.DataFrame], dict[str, np.ndarray]], None] = lambda frames, kept: None,
) -> tuple[dict[str, Data], Clusters | None]:
    """(train and test rows, and those of further suites, with their intuition; the clusters that give it).

    check: gets what `fitting_rows` gives, and may refuse it before any prompt is embedded.
    """
    frames, kept = fitting_rows(config, tokenizer)
    check(frames, kept)
    if config.clusters is None:
        return {split: Data(frame[kept[split]].reset_index(drop=True), None) for split, frame in frames.items()}, None
    refuse_clusters(config, frames["train"])
    # all prompts are embedded and the rows dropped afterwards: the embeddings are cached for the whole set
    embedder = embedder_of(config, frames["train"])
    embeddings = {split: embedder.transform(frame["prompt"]) for split, frame in frames.items()}
    # the clusters belong to the data, so runs that differ in their seed share them
    clusters = cluster(embeddings["train"], k=config.clusters, seed=0)
    scores = {split: clusters.intuition(rows) for split, rows in embeddings.items()}
    return {
        split: Data(frame[kept[split]].reset_index(drop=True), scores[split][kept[split]])
        for split, frame in frames.items()
    }, clusters


def refuse_clusters(config: TrainConfig, train: pd.DataFrame) -> None:
    """Raise ValueError for more clusters than the rows to train on have different prompts."""
    if config.clusters is not None and config.clusters > (most := train["prompt"].nunique()):
        raise ValueError(
            f"adapter = {config.system!r} routes by k = {config.clusters} clusters of prompts, but the train rows of "
            f"suite = {config.suite!r} have {most} different ones; use fewer experts or num_clusters, or more rows"
        )


def write_beginning(config: TrainConfig, folder: Path, clusters: Clusters | None) -> None:
    """Write config.json, the source of a user's own adapter and, with an intuition, clusters.npz."""
    keep_source(folder, config.system)
    write_whole(folder / "config.json", json_text(config.to_dict()))
    if clusters is not None:
        clusters.save(folder / "clusters.npz")


def collate_share(rows: list[tuple[Any, Any]], pad: int) -> dict[str, Any]:
    """The batch of this process's share of the rows; `weight` is its size over the mean size of all shares.

    A last batch with fewer rows than processes leaves some of these none: they go through the step, as the others wait
    for their gradients, with a row that is all padding and has no answer.
    """
    mine = list(distributed.share(rows))
    examples, scores = zip(*(mine or rows[:1]))
    batch: dict[str, Any] = collate(list(examples), pad, None if scores[0] is None else np.stack(scores))
    batch["weight"] = len(mine) * distributed.world_size() / len(rows)
    if not mine:
        batch["labels"].fill_(-100)
        batch["attention_mask"].fill_(0)
    return batch


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the names and bytes of a model's parameters: which backbone an adapter belongs to."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class LikeLengths(Sampler[int]):
    """Every row once per epoch, in batches of like length.

    Rows are shuffled and divided into pools of `POOL` batches. A pool is sorted by length, and all batches are shuffled
    again. Any epoch can be drawn at once, so a resumed run trains on the rows that it would have had.

    Args:
        lengths: Tokens of each row.
        batch_size: Rows of a batch, all that a step accumulates; the last one of an epoch has what is left.
        seed: Of the run.

    Example:
        >>> sampler = LikeLengths([9, 1, 8, 2], batch_size=2, seed=0)
        >>> sorted(sorted(sampler.lengths[i] for i in batch) for batch in np.array(list(sampler)).reshape(2, 2))
        [[1, 2], [8, 9]]
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = list(lengths), batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order, lengths = random.permutation(len(self)), np.array(self.lengths)
        whole = len(order) // self.batch_size * self.batch_size
        pools = np.split(order[:whole], range(POOL * self.batch_size, whole, POOL * self.batch_size))
        rows = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        batches = random.permutation(rows.reshape(-1, self.batch_size))  # of whole batches, row by row
        yield from batches.ravel().tolist()
        yield from order[whole:].tolist()
