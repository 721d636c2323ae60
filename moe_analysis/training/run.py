"""A run on disk: a folder that a person can read, and the object that reads it."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from .config import TrainConfig
from .store import RecordError, open_records

FINISHED = "finished"


class RunError(ValueError):
    """A run's folder that cannot be written or read; the message names the file and the remedy."""


def write_atomic(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def json_text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """A parquet file, atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    frame.to_parquet(temporary, index=False)
    os.replace(temporary, path)


def read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing; {path.parent} is no run, or one that never started") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is no readable JSON ({error}); restore it, or train the run again") from error


class Run:
    """One training run, read lazily from its folder.

    config.json, status.json (state, step, versions, seconds), history.parquet, evaluation.parquet, records.zarr/,
    experts.zarr/ (where record_experts_every is set), trees.zarr/ (where record_trees_every is), adapter/ (PEFT
    checkpoint), clusters.npz (where the adapter routes by intuition), checkpoints/ while it trains.
    """

    def __init__(self, path: str | Path, config: TrainConfig) -> None:
        self.path, self.config = Path(path), config

    def __repr__(self) -> str:
        return f"Run({self.path.name}: {self.status.get('state', 'new')})"

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a run's folder; raises RunError naming the file that is missing or corrupt."""
        path = Path(path)
        if not path.is_dir():
            raise RunError(f"{path} is no folder; pass the folder of a run, as listed by `python -m moe_analysis runs`")
        try:
            return cls(path, TrainConfig.from_dict(read_json(path / "config.json")))
        except (TypeError, KeyError) as error:
            raise RunError(f"{path / 'config.json'} is no configuration of a run: {error}") from error

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def status(self) -> dict[str, Any]:
        """state ("running", "finished"), step, steps, seconds, versions, backbone_sha256, world_size (processes)."""
        return read_json(self.path / "status.json") if (self.path / "status.json").exists() else {}

    @property
    def finished(self) -> bool:
        return self.status.get("state") == FINISHED

    @cached_property
    def history(self) -> pd.DataFrame:
        """step, split ("train" or "test"), loss, accuracy, lr, grad_norm (before clipping), balance_loss."""
        return self._table("history.parquet")

    @cached_property
    def evaluation(self) -> pd.DataFrame:
        """Final test results by data set: dataset, group, kind, rows, loss, accuracy."""
        return self._table("evaluation.parquet")

    def _table(self, name: str) -> pd.DataFrame:
        path = self.path / name
        if not path.exists():
            state = self.status.get("state", "not started")
            raise RunError(f"{path} is missing: the run is {state}; train it to the end")
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise RunError(f"{path} is no readable parquet file ({error}); train the run again") from error

    @property
    def records(self) -> xr.Dataset:
        """router_weight, router_grad (step, module, expert, feature); gate_entropy (step, module); gate_load, gate_top1
        and gate_importance (step, module, expert). Lazy. Raises RecordError when a chunk is missing."""
        return open_records(self.path / "records.zarr")

    @property
    def expert_records(self) -> xr.Dataset:
        """gram_condition_a, gram_condition_b, damped_condition_b, update_norm, effective_step (step, module, expert);
        map_similarity, output_similarity, update_similarity, layer_step (step, module), as `ExpertRecorder` defines
        them. Lazy. Raises RecordError when a chunk is missing or the run was trained with record_experts_every=0."""
        path = self.path / "experts.zarr"
        if not path.exists():
            raise RecordError(f"{self.id} holds no record of its experts; train with record_experts_every >= 1")
        return open_records(path)

    @property
    def tree_records(self) -> xr.Dataset:
        """tokens, distinct_trees, tree_entropy, differing_siblings (step, module) and node_load (step, module, expert),
        as `TreeRecorder` defines them. Lazy. Raises RecordError when a chunk is missing or the run was trained with
        record_trees_every=0."""
        path = self.path / "trees.zarr"
        if not path.exists():
            raise RecordError(f"{self.id} holds no record of its trees; train with record_trees_every >= 1")
        return open_records(path)

    @cached_property
    def clusters(self) -> Any:
        """Clusters of the training prompts, or None where the adapter does not route by intuition."""
        from ..tasks.clusters import Clusters

        path = self.path / "clusters.npz"
        return Clusters.load(path) if path.exists() else None

    def intuition(self, frame: pd.DataFrame) -> np.ndarray | None:
        """Cosines (rows, clusters) of the frame's prompts to the run's centroids; None where it has none."""
        if self.clusters is None:
            return None
        from .intuition import embed_like_training

        return self.clusters.intuition(embed_like_training(self.config, frame["prompt"]))

    def model(self) -> Any:
        """The trained PEFT model in evaluation mode; raises RunError when the backbone is not the one trained on."""
        from peft import PeftModel

        from ..backbones import load_backbone
        from .prepare import weights_digest

        if not (self.path / "adapter").is_dir():
            raise RunError(f"{self.path / 'adapter'} is missing: the run is not finished; train it to the end")
        base, _ = load_backbone(self.config.backbone)
        if (expected := self.status.get("backbone_sha256")) and weights_digest(base) != expected:
            raise RunError(f"backbone {self.config.backbone!r} has changed since {self.id} was trained; restore it, or "
                           "train the run again")  # fmt: skip
        return PeftModel.from_pretrained(base, self.path / "adapter").eval()

    @cached_property
    def tokenizer(self) -> Any:
        from ..backbones import load_backbone

        return load_backbone(self.config.backbone)[1]
