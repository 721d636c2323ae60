"""A run on disk: a folder that a person can read, and the object that reads it."""

from __future__ import annotations

import os
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ..tasks.rows import shorten
from .adapter_source import KeptAdapter, adapter_of_run, execute_kept
from .config import TrainConfig
from .files import FINISHED, HISTORY, RESTORE, RunError, read_json, read_run_table, read_status
from .recorders.store import RecordError, open_records

EVALUATION = ("dataset", "group", "kind", "rows", "loss", "accuracy")
OUTCOMES = ("suite", "dataset", "group", "kind", "row", "correct", "correct_norm", "log_likelihood", "tokens")


class Run:
    """One training run, read lazily from its folder.

    config.json, status.json (state, step, versions, machine, seconds), history.parquet, evaluation.parquet,
    outcomes.parquet (row by row), records.zarr/, experts.zarr/ (where record_experts_every is set), trees.zarr/ (where
    record_trees_every is), adapter/ (PEFT checkpoint), adapter_source/ (the file of a user's own adapter),
    clusters.npz (where the adapter routes by intuition), checkpoints/ while it trains. Opening a folder executes
    none of its files.

    >>> loaded = ma.Run.load(run.path)
    >>> loaded.finished, loaded.config.steps, loaded.history["split"].unique().tolist()
    (True, 4, ['train', 'test'])
    >>> loaded.evaluation[["dataset", "rows"]].values.tolist()
    [['add_small', 2], ['add_small_one_over', 2], ['where_is', 2], ['where_is_one_step_late', 2]]
    >>> dict(loaded.records["router_weight"].sizes)
    {'step': 4, 'module': 4, 'expert': 8, 'feature': 128}
    """

    def __init__(self, path: str | Path, config: TrainConfig) -> None:
        self.path, self.config = Path(path), config

    def __repr__(self) -> str:
        from .run_card import run_text

        return run_text(self)

    def _repr_html_(self) -> str:
        from .run_card import run_html

        return run_html(self)

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a run's folder; raises RunError naming the file that is missing or corrupt."""
        path = Path(path)
        if not os.path.isdir(path):  # noqa: PTH112 - a name too long for a file system is no folder either
            raise RunError(
                f"{path} is not a folder; pass the folder of a run, as listed by `python -m moe_analysis runs`"
            )
        if not os.path.lexists(path / "config.json"):
            raise RunError(
                f"{path / 'config.json'} is missing, so {path} is not a run or never started; pass another folder"
            )
        values = read_json(path / "config.json")
        values.setdefault("prompt_form", "options")  # a run from before there were others
        try:
            return cls(path, TrainConfig.from_dict(values, partial(adapter_of_run, path)))
        except ValueError as error:
            raise RunError(
                f"{path / 'config.json'} is not a configuration of a run: {error}; {RESTORE}, or update "
                "moe_analysis if a newer version wrote it"
            ) from error

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def status(self) -> dict[str, Any]:
        """state ("running", "finished"), step, steps, seconds, versions, machine, world_size (processes), and digests of
        what the run is made from: backbone_sha256, rows_sha256 (by split or further suite), tokens_sha256."""
        return read_status(self.path)

    @property
    def finished(self) -> bool:
        return self.status.get("state") == FINISHED

    @cached_property
    def history(self) -> pd.DataFrame:
        """step (updates made, from 1), split ("train" or "test"), loss, accuracy, lr, grad_norm (before clipping),
        balance_loss. The records count the updates made before: record s belongs to history step s + 1."""
        return read_run_table(self.path, "history.parquet", HISTORY)

    @cached_property
    def evaluation(self) -> pd.DataFrame:
        """Final test results by data set: dataset, group, kind, rows, loss, accuracy, acc, acc_norm.

        acc and acc_norm, as lm-evaluation-harness names them: the share of rows whose best choice is right by summed
        likelihood, and by likelihood per character; NaN without choices. accuracy: acc, or without choices the share of
        rows whose written answer is right."""
        return read_run_table(self.path, "evaluation.parquet", EVALUATION)

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """How each evaluated row was answered, those of the run's own suite first: suite, dataset, group, kind, row (a
        hash of its texts), correct and correct_norm (1 or 0), log_likelihood, tokens, as `evaluate_rows` has them."""
        return read_run_table(self.path, "outcomes.parquet", OUTCOMES)

    @property
    def records(self) -> xr.Dataset:
        """router_weight, router_grad (step, module, expert, feature); gate_entropy (step, module); gate_load, gate_top1
        and gate_importance (step, module, expert). Lazy. Step s is the update of history step s + 1, and router_weight
        is the router before it. Raises RecordError when a chunk is missing."""
        return open_records(self.path / "records.zarr")

    @property
    def expert_records(self) -> xr.Dataset:
        """gram_condition_a, gram_condition_b, damped_condition_b, update_norm, effective_step (step, module, expert);
        map_similarity, output_similarity, update_similarity, layer_step (step, module), as `ExpertRecorder` defines
        them. Lazy. Raises RecordError when a chunk is missing or the run was trained with record_experts_every=0."""
        return self._open("experts")

    @property
    def tree_records(self) -> xr.Dataset:
        """tokens, distinct_trees, tree_entropy, differing_siblings (step, module) and node_load (step, module, expert),
        as `TreeRecorder` defines them. Lazy. Raises RecordError when a chunk is missing or the run was trained with
        record_trees_every=0."""
        return self._open("trees")

    def _open(self, what: str) -> xr.Dataset:
        path = self.path / f"{what}.zarr"
        if not os.path.lexists(path):
            raise RecordError(f"{self.id} has no record of its {what}; train with record_{what}_every >= 1")
        return open_records(path)

    @cached_property
    def clusters(self) -> Any:
        """Clusters of the training prompts, or None if the adapter does not route by intuition.

        Raises ClusterError for a damaged file, and RunError if a finished run lacks a file that it needs.
        """
        from ..tasks.clusters import Clusters

        path = self.path / "clusters.npz"
        if os.path.lexists(path):
            return Clusters.load(path)
        if getattr(self.config.adapter, "intuition", False) and self.finished:
            raise RunError(f"{path} is missing, but the adapter routes by it; {RESTORE}")
        return None

    def intuition(self, frame: pd.DataFrame) -> np.ndarray | None:
        """Cosines (rows, clusters) of the frame's prompts to the run's centroids; None if it has none."""
        if self.clusters is None:
            return None
        from .prepare import embed_like_training

        return self.clusters.intuition(embed_like_training(self.config, frame["prompt"]))

    def require_adapter(self, trust_code: bool = False) -> None:
        """Make sure that the class of the run's adapter is available; only models need it.

        Args:
            trust_code: if the adapter is not registered, execute the file in the run's folder.

        Raises:
            RunError: the class is not registered, or another one is; says how to get it.
        """
        if not isinstance(self.config.adapter, KeptAdapter):
            return
        try:
            if trust_code:
                execute_kept(self.path, self.config.system)
        except ValueError as error:
            raise RunError(f"{self.id}: {error}") from error
        self.config = Run.load(self.path).config
        if isinstance(adapter := self.config.adapter, KeptAdapter):
            raise RunError(f"{self.id} has no model here: {adapter.why}")

    def model(self, trust_code: bool = False) -> Any:
        """The trained PEFT model in evaluation mode.

        Args:
            trust_code: if the adapter is not registered here, execute the file in the run's folder. Its code can do
                anything, so use this only if you trust the author of the folder.

        Raises:
            RunError: the run is not finished, the class of its adapter is missing, or the backbone has changed.
        """
        from peft import PeftModel

        from .prepare import hold_clusters, load_frozen, weights_digest

        folder = self.path / "adapter"
        if not folder.is_dir():
            raise RunError(f"{folder} is missing: the run is not finished; train it to the end")
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            if not (folder / name).is_file():  # PEFT would ask the hub for it, or take another format
                raise RunError(f"{folder / name} is missing or not a file; {RESTORE}")
        self.require_adapter(trust_code)
        base, _ = load_frozen(self.config)
        if (expected := self.status.get("backbone_sha256")) and weights_digest(base) != expected:
            raise RunError(
                f"backbone {self.config.backbone!r} has changed since {self.id} was trained; restore it, or "
                "train the run again"
            )
        try:
            model = PeftModel.from_pretrained(base, folder).eval()
        except Exception as error:  # PEFT, safetensors and torch each fail in their own way on damaged files
            raise RunError(
                f"{folder} is not a readable PEFT checkpoint ({type(error).__name__}: "
                f"{shorten(str(error), 200)}); {RESTORE}"
            ) from error
        # on disk it has its public name, which PEFT would ask the hub for whenever the model is saved
        model.active_peft_config.base_model_name_or_path = base.name_or_path
        if os.path.lexists(self.path / "clusters.npz"):
            hold_clusters(model, self.clusters, self.config)
        return model

    @cached_property
    def tokenizer(self) -> Any:
        from ..backbones import load_tokenizer

        return load_tokenizer(self.config.backbone)
