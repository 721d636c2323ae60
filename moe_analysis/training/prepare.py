"""Everything a run needs before its first step: the model with its adapter, the rows, their intuition."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import get_peft_model
from torch import Tensor, nn

from ..backbones import load_backbone
from ..tasks.batches import answers_fit, collate, encode, warn_of_long_answers
from ..tasks.prompts import check_form
from ..tasks.rows import SPLITS
from . import distributed
from .adapter_source import keep_source
from .config import TrainConfig
from .intuition import cluster_prompts, embed_like_training, run_rows
from .run import json_text, write_atomic


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


class Data:
    """Rows, tokens and intuition of one split."""

    def __init__(self, frame: pd.DataFrame, intuition: np.ndarray | None) -> None:
        self.frame, self.intuition = frame, intuition

    def tokenised(self, tokenizer: Any, config: TrainConfig) -> list[tuple[Any, Any]]:
        examples = encode(self.frame, tokenizer, config.max_length, prompt_form=config.form)
        scores = [None] * len(examples) if self.intuition is None else list(self.intuition)
        return list(zip(examples, scores))


def fitting_rows(config: TrainConfig, tokenizer: Any) -> tuple[dict[str, pd.DataFrame], dict[str, np.ndarray]]:
    """({split: rows}, {split: True where max_length holds the answer}) of what `run_rows` gives; one warning counts the
    rows it does not.

    Raises ValueError for a split of which nothing is left, and for rows that the prompt form cannot ask.
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


def prepare_data(config: TrainConfig, tokenizer: Any, folder: Path) -> dict[str, Data]:
    """Train and test rows, and those of further suites, with their intuition.

    Writes config.json, the source of an adapter of the user's own and, for an intuition, clusters.npz.
    """
    frames, kept = fitting_rows(config, tokenizer)
    keep_source(folder, config.system)
    write_atomic(folder / "config.json", json_text(config.to_dict()))
    if config.clusters is None:
        return {split: Data(frame[kept[split]].reset_index(drop=True), None) for split, frame in frames.items()}
    clusters = cluster_prompts(config, frames["train"]["prompt"])
    clusters.save(folder / "clusters.npz")
    # all prompts are embedded and the rows dropped afterwards: the embeddings are cached for the whole set
    scores = {
        split: clusters.intuition(embed_like_training(config, frame["prompt"])) for split, frame in frames.items()
    }
    return {
        split: Data(frame[kept[split]].reset_index(drop=True), scores[split][kept[split]])
        for split, frame in frames.items()
    }


def collate_rows(rows: list[tuple[Any, Any]], pad: int) -> dict[str, Tensor]:
    scores = None if rows[0][1] is None else np.stack([score for _, score in rows])
    return collate([example for example, _ in rows], pad, scores)


def collate_share(rows: list[tuple[Any, Any]], pad: int) -> dict[str, Any]:
    """The batch of this process's share of the rows; `weight` is its size over the mean size of all shares.

    A last batch with fewer rows than processes leaves some of these none: they go through the step, as the others wait
    for their gradients, with a row that is all padding and has no answer.
    """
    mine = list(distributed.share(rows))
    batch: dict[str, Any] = collate_rows(mine or rows[:1], pad)
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
