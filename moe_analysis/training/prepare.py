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
from torch import nn

from ..backbones import load_backbone
from ..tasks.batches import encode
from .config import TrainConfig
from .intuition import cluster_prompts, embed_like_training, test_rows, training_rows
from .run import json_text, write_atomic


def prepare_model(config: TrainConfig) -> tuple[nn.Module, Any, str]:
    """(PEFT model, tokenizer, digest of the frozen weights); a target module that is not there raises ValueError."""
    base, tokenizer = load_backbone(config.backbone)
    digest = weights_digest(base)
    if config.gradient_checkpointing:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    base.config.use_cache = False
    return get_peft_model(base, copy.deepcopy(config.adapter)), tokenizer, digest


class Data:
    """Rows, tokens and intuition of one split."""

    def __init__(self, frame: pd.DataFrame, intuition: np.ndarray | None) -> None:
        self.frame, self.intuition = frame, intuition

    def tokenised(self, tokenizer: Any, max_length: int) -> list[tuple[Any, Any]]:
        examples = encode(self.frame, tokenizer, max_length)
        scores = [None] * len(examples) if self.intuition is None else list(self.intuition)
        return list(zip(examples, scores))


def prepare_data(config: TrainConfig, tokenizer: Any, folder: Path) -> dict[str, Data]:
    """Train and test rows with their intuition; writes config.json and, for an intuition, clusters.npz."""
    frames = {"train": training_rows(config), "test": test_rows(config)}
    for split, frame in frames.items():
        if frame.empty:
            raise ValueError(f"suite {config.suite!r} has no {split} rows; choose one that has, or other datasets")
    write_atomic(folder / "config.json", json_text(config.to_dict()))
    if config.clusters is None:
        return {split: Data(frame, None) for split, frame in frames.items()}
    clusters = cluster_prompts(config, frames["train"]["prompt"])
    clusters.save(folder / "clusters.npz")
    return {
        split: Data(frame, clusters.intuition(embed_like_training(config, frame["prompt"])))
        for split, frame in frames.items()
    }


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over the names and bytes of a model's parameters: which backbone an adapter belongs to."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
